import ArgumentParser
import CofferFormat
import CofferKeys

/// `coffer info`.
struct Info: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what a vault is.",
        discussion: """
            Without a passphrase this shows what coffer.json says, which anybody with access to the vault may have changed. With one \
            (asked for with --verify, or from --passphrase-file or --passphrase-command) it is verified, and the whole vault is looked through \
            for files that are none of Coffer's (they do not show in a mount), names that do not verify, and files that have lost \
            all their bytes.

            Examples:
              coffer info photos
              coffer info --verify photos
              coffer info --json photos
            """)

    @Argument(help: "The vault's directory.")
    var vault: String

    @Flag(help: "Print JSON.")
    var json = false

    @Flag(help: "Ask for the passphrase and verify what is shown.")
    var verify = false

    @OptionGroup var unlock: UnlockOptions

    func run() throws {
        let directory = try VaultDirectory.open(vault)
        let report: InfoReport
        if verify || unlock.isGiven {
            let opened = try unlock.open(directory)
            report = InfoReport(
                opened.config, path: vault, keys: opened, census: try ForeignFiles.count(in: opened, directory))
        } else {
            let file = try CommandError.naming(vault) { () throws(KeysError) in try directory.configStore.load() }
            report = InfoReport(file.unverified, path: vault, keys: nil, census: nil)
        }
        try Report.line(json ? report.json() : report.text)
    }
}
