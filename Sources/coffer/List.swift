import ArgumentParser
import CLinux
import CofferVault

/// `coffer ls`.
struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "List what is in a vault, without mounting it.",
        discussion: """
            PATH is a path in the vault in plain text; without one the root is listed. One name a line, in the order of their bytes; with \
            --recursive each line is the path from PATH on. Names go to a file or a pipe byte by byte as they are; on a terminal, control \
            characters in them are made visible.

            Names that do not verify where they stand are listed as 'coffer.unreadable.…', and the exit status is \(ExitStatus.damaged.rawValue).

            Examples:
              coffer ls photos
              coffer ls -l photos:2024/italy
              coffer ls -R --json photos | jq -r '.[].path'
            """)

    @Argument(help: ArgumentHelp("The vault's directory, and what to list in it.", valueName: "vault[:path]"))
    var vault: String

    @Flag(name: .customShort("l"), help: "Also mode, links, owner, group, size, time and link target.")
    var long = false

    @Flag(name: [.customShort("R"), .long], help: "Also everything below.")
    var recursive = false

    @Flag(help: "Print JSON: one array of objects.")
    var json = false

    @OptionGroup var unlock: UnlockOptions

    func run() throws {
        _ = coffer_raise_nofile_limit()
        let target = try VaultPath(vault)
        let reading = try VaultReading(target.directory, unlock)
        let found = try reading.find(target.path)
        let output = Output()
        var listing = Listing(tree: reading.tree, isRecursive: recursive)
        if json {
            var lines = JSONListing(output: output)
            try listing.run(found, vault: reading.path, to: &lines)
        } else {
            var lines = TextListing(output: output, isLong: long)
            try listing.run(found, vault: reading.path, to: &lines)
        }
        try output.flush()
        if listing.damaged > 0 {
            throw CommandError(
                .damaged, "\(listing.damaged) of what is listed cannot be read: the stored data is damaged")
        }
        if listing.failed > 0 { throw CommandError(.inputOutput, "not everything could be listed; see above") }
    }
}
