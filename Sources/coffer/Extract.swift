import ArgumentParser
import CLinux
import CofferCrypto
import CofferVault
import Glibc
import SystemPackage

/// `coffer extract`.
struct Extract: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take files out of a vault, without mounting it.",
        discussion: """
            DEST is a directory that does not exist yet, or an empty one. A directory's contents go right into it, anything else under its \
            own name: holes, hard links, modes, times, extended attributes and ACLs as they are in the vault; owners \
            too where root does it. Set-user-id and set-group-id bits of files and device nodes are left out without --trust-modes.

            A file has its name only when all of it is there; '.coffer-extract.…' is one that was interrupted. Whatever does not verify \
            is told and left out, the rest goes on, and the exit status is \(ExitStatus.damaged.rawValue). With --salvage, what does verify \
            of a damaged file is written as NAME.damaged, with zeros in the places of what does not.

            Modes, owners and times are not sealed: whoever could write to the vault's copies could change them.

            Examples:
              coffer extract photos ~/restored
              coffer extract photos:2024/italy ~/italy
              coffer extract --salvage damaged-backup ~/rescued
            """)

    @Argument(help: ArgumentHelp("The vault's directory, and what to take out of it.", valueName: "vault[:path]"))
    var vault: String

    @Argument(help: ArgumentHelp("A new or empty directory.", valueName: "dest"))
    var destination: String

    @Flag(help: "Write what can be read of damaged files.")
    var salvage = false

    @Flag(
        help:
            "Keep set-user-id and set-group-id bits of files, and make device nodes (as root): the vault does not vouch for them."
    )
    var trustModes = false

    @Flag(help: "Print a summary in JSON.")
    var json = false

    @OptionGroup var unlock: UnlockOptions

    func run() throws {
        _ = coffer_raise_nofile_limit()
        let target = try VaultPath(vault)
        let place = try Destination(destination, outside: target.directory)
        let reading = try VaultReading(target.directory, unlock)
        let found = try reading.find(target.path)
        var options = TreeExtraction.Options()
        options.salvages = salvage
        options.isPrivileged = geteuid() == 0
        options.trustsModes = trustModes

        let progress = Progress()
        let problems = ExtractionProblems(progress: progress, keepsAll: json)
        let extraction = try CommandError.memory { () throws(CryptoError) in
            try TreeExtraction(reading.tree, options: options, onProblem: problems.tell, onProgress: progress.show)
        }
        var stop: CommandError?
        do throws(Errno) {
            try extraction.extract(found, into: try place.make())
        } catch {
            stop = CommandError(.inputOutput, "\(quoted(destination)) cannot be written: \(error); not all is there")
        }
        progress.clear()
        let summary = ExtractionSummary(extraction.totals, problems.all, isComplete: stop == nil)
        try Report.line(json ? JSONText.pretty(summary) : summary.text(destination))
        if let stop { throw stop }
        if let failure = summary.failure { throw failure }
    }
}
