import ArgumentParser
import CLinux
import CofferDisk
import CofferVault
import Synchronization

/// `coffer check`.
struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look whether everything in a vault can be read.",
        discussion: """
            Reads every block of every file, every name, link, directory record and extended attribute, and says what does not verify: by its path in the vault, the bytes \
            that are lost, and the place of the stored bytes. Nothing is changed. What a mount writes meanwhile is looked at again before it is called damage.

            Besides, it tells what means nothing and does no harm: pieces of names without an entry, what a crash left half-made, conflict copies that a sync tool left under \
            other names, and files whose end was set by a recovery.

            What this cannot see: a block, file or directory that was put back as a whole to what it was before, and entries that are missing; 'coffer verify' does.

            With --repair it mends what can be mended without another copy of the vault, and --dry-run says what that is. Names that do not verify are decrypted all the same: in a \
            directory that lost its records they are given back as they were, elsewhere with ' (recovered)' behind them, for they may have been moved there. Pieces of long names \
            that are in another directory are put beside their entries, and ends that a power cut left unmarked are marked. Of a file that stays damaged, NAME.salvaged gets all \
            that verifies, and NAME.salvaged.txt says which bytes do not; NAME itself stays as it is. A coffer.json that is damaged is replaced by coffer.json.previous, if that \
            opens. Whatever is overwritten goes to coffer.lost+found in the vault. 'coffer repair' with another copy heals more: try that first.

            Exit status \(ExitStatus.damaged.rawValue) means that something is damaged, \(ExitStatus.inputOutput.rawValue) that something could not be looked at.

            Examples:
              coffer check photos
              coffer check --quick photos        names, headers and ends of files only
              coffer check --json --key-file key photos > report
              coffer check --repair --dry-run photos
            """)

    @Argument(help: "The vault's directory.")
    var vault: String

    @Flag(help: "Leave out the contents of files but for their beginnings and ends.")
    var quick = false

    @Flag(help: "Print what was found as JSON.")
    var json = false

    @Flag(help: "Mend what can be mended; the vault must not be mounted.")
    var repair = false

    @Flag(help: "With --repair: change nothing; say what could be done.")
    var dryRun = false

    @OptionGroup var threads: ThreadOptions
    @OptionGroup var unlock: UnlockOptions

    func validate() throws {
        if repair && (quick || json) { throw ValidationError("--repair excludes --quick and --json") }
        if dryRun && !repair { throw ValidationError("--dry-run is for --repair") }
    }

    func run() throws {
        _ = coffer_raise_nofile_limit()
        if repair { return try Mending(vault, unlock, isDryRun: dryRun).run() }
        let reading = try VaultReading(try VaultDirectory.open(vault), unlock)
        var options = VaultCheck.Options()
        options.contents = !quick
        options.threadCount = threads.count
        let lines = CheckLines(keepsAll: json, total: quick ? nil : size(of: reading))
        let check = VaultCheck(reading.tree, options: options, onFinding: lines.tell, onProgress: lines.show)
        let totals: CheckTotals
        do throws(VaultError) {
            totals = try check.run()
        } catch {
            throw CommandError(
                error.isDamage ? .damaged : .inputOutput, "\(quoted(vault)) cannot be looked through: \(error.text)")
        }
        lines.clear()
        let report = CheckReport(totals, lines.all, quick: quick)
        try Report.line(json ? try JSONText.pretty(report) : report.text(vault))
        if let failure = lines.failure(vault) { throw failure }
    }

    /// The stored bytes of all files, for the progress to be of something; nil where nobody looks.
    private func size(of reading: VaultReading) -> Int? {
        ProgressLine.isWanted ? TreeSize.bytes(below: reading.tree) : nil
    }
}
