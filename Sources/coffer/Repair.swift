import ArgumentParser
import CLinux
import CofferDisk
import CofferFormat
import CofferKeys
import CofferVault
import Synchronization
import SystemPackage

/// `coffer repair`.
struct Repair: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Heal what is damaged in a vault by another copy of it.",
        discussion: """
            COPY is another copy of the same vault, made since its key was rotated last: a backup, a second disk. It is only read, and may be damaged itself. Everything in VAULT \
            is looked at, and for what does not verify of files and of long names COPY is asked. Each block is taken only if it verifies. One that was changed since COPY was \
            made comes back as it was then; where a file's end is damaged, and COPY's is another, it ends as there, which is told. A file that was written anew since, \
            under the same name, is not mixed with its older version. One of which nothing at all can be read any more becomes COPY's only with --replace.

            What is overwritten goes to coffer.lost+found in VAULT; remove that when you are sure. VAULT must not be mounted, nor COPY be written to. What verifies is not touched, \
            and entries that are missing are not brought back: they may have been removed by you. Links, attributes and directory records are told by 'coffer check', \
            and not healed yet.

            Exit status 0 means that everything verifies now, or with --dry-run that it does already.

            Examples:
              coffer repair --dry-run --from /mnt/backup/photos photos
              coffer repair --from /mnt/backup/photos photos
            """)

    @Argument(help: "The vault to heal.")
    var vault: String

    @Option(help: ArgumentHelp("The other copy of it.", valueName: "copy"))
    var from: String

    @Flag(help: "Change nothing; say what could be healed.")
    var dryRun = false

    @Flag(help: "Let files of which nothing can be read become the copy's, which may be older.")
    var replace = false

    @OptionGroup var unlock: UnlockOptions

    func run() throws {
        _ = coffer_raise_nofile_limit()
        let directory = try VaultDirectory.open(vault)
        let other = try VaultDirectory.open(from)
        try directory.lockAlone()
        let opened = try unlock.open(directory)
        try requireSame(other, opened)
        if !dryRun { try directory.recover(opened, tellingOfRotation: true) }
        let progress = RepairProgress(isDryRun: dryRun)
        let left: [CheckFinding]
        do throws(VaultError) {
            let repair = try VaultRepair(
                try directory.content(opened, ring: opened.ring), from: try other.content(opened, ring: opened.ring),
                isDryRun: dryRun, mayReplace: replace, onOutcome: progress.tell, onProgress: progress.show)
            left = try repair.run()
        } catch {
            progress.clear()
            throw CommandError(.inputOutput, "\(quoted(vault)): \(error.text); not everything was done")
        }
        progress.clear()
        try finish(left, progress.healed)
    }

    private func finish(_ left: [CheckFinding], _ healed: Int) throws(CommandError) {
        if dryRun && !left.isEmpty {
            throw CommandError(
                .damaged,
                "\(quoted(vault)): there is damage; of what is named above \(healed) could be healed; nothing was changed"
            )
        }
        guard left.isEmpty else {
            throw CommandError(
                .damaged,
                "\(quoted(vault)): \(left.count) \(left.count == 1 ? "thing is" : "things are") still damaged; 'coffer check' says what"
            )
        }
        try Report.line(
            healed == 0
                ? "\(quoted(vault)): everything verifies; nothing was changed"
                : "\(quoted(vault)): everything verifies now; what was changed is in coffer.lost+found as it was")
    }

    /// The copy's configuration says which vault it is of; that is believed, for what is taken from it has to verify anyway.
    private func requireSame(_ other: VaultDirectory, _ opened: UnlockedVault) throws(CommandError) {
        guard
            try CommandError.naming(from, { () throws(KeysError) in try VaultOpening.location(of: from) })
                != CommandError.naming(vault, { () throws(KeysError) in try VaultOpening.location(of: vault) })
        else { throw CommandError(.usage, "\(quoted(from)) is \(quoted(vault)) itself; another copy of it is needed") }
        let file = try CommandError.naming(from) { () throws(KeysError) in try other.configStore.load() }
        guard file.unverified.vaultID == opened.config.vaultID else {
            throw CommandError(.usage, "\(quoted(from)) is a copy of another vault than \(quoted(vault))")
        }
    }
}

/// What a repair does, as it does it.
private final class RepairProgress: Sendable {
    private let lines: CheckLines
    private let isDryRun: Bool
    private let count = Mutex(0)

    init(isDryRun: Bool) {
        self.isDryRun = isDryRun
        lines = CheckLines(keepsAll: false, total: nil)
    }

    /// How many things were healed, or could be.
    var healed: Int { count.withLock { $0 } }

    func tell(_ finding: CheckFinding, _ outcome: VaultRepair.Outcome) {
        lines.clear()
        let path = finding.place.path
        let what =
            switch outcome {
            case .healed(0): "healed by another of its names"
            case .healed: isDryRun ? "can be healed" : "healed"
            case .replaced(let size):
                isDryRun
                    ? "nothing of it can be read, and the copy's version, of \(size) bytes, could take its place"
                    : "nothing of it could be read; it is the copy's version now, of \(size) bytes"
            case .resized(let size):
                isDryRun
                    ? "can be healed, to end as the copy does, at \(size) bytes"
                    : "healed; it ends as the copy does, at \(size) bytes"
            case .partly: isDryRun ? "can be healed in part" : "healed in part"
            case .notHealed:
                "not healed: the copy does not have it, or not this version of it, or is damaged there, too"
            case .failed(let code): "not healed: \(VaultError.system(code).text)"
            }
        if outcome.isProgress, outcome != .healed(0) { count.withLock { $0 += 1 } }
        do throws(CommandError) {
            try Report.line("\(quoted(path.isEmpty ? Array("/".utf8) : path)): \(finding.kind.text): \(what)")
        } catch {
            // Nobody reads it.
        }
    }

    @Sendable func show(_ totals: CheckTotals) { lines.show(totals) }
    func clear() { lines.clear() }
}
