import CofferDisk
import CofferFormat
import CofferKeys
import CofferVault
import Glibc
import SystemPackage

/// `coffer check --repair`.
struct Mending {
    private let path: String
    private let unlock: UnlockOptions
    private let isDryRun: Bool

    init(_ path: String, _ unlock: UnlockOptions, isDryRun: Bool) {
        self.path = path
        self.unlock = unlock
        self.isDryRun = isDryRun
    }

    func run() throws(CommandError) {
        let directory = try VaultDirectory.open(path)
        try directory.lockAlone()
        let opened = try open(directory)
        if !isDryRun { try directory.recover(opened, tellingOfRotation: true) }
        let lines = CheckLines(keepsAll: false, total: nil)
        var salvaged: Set<[UInt8]> = []
        var (done, ended) = (0, 0)
        let left: [CheckFinding]
        do throws(VaultError) {
            let mending = try VaultMending(
                try directory.content(opened, ring: opened.ring), isDryRun: isDryRun,
                onOutcome: { finding, outcome in
                    lines.clear()
                    if case .salvaged = outcome { salvaged.insert(finding.place.storedPath) }
                    if outcome != .notMended { done += 1 }
                    if outcome == .ended { ended += 1 }
                    tell(finding, outcome)
                }, onProgress: lines.show)
            left = try mending.run()
        } catch {
            lines.clear()
            throw CommandError(.inputOutput, "\(quoted(path)): \(error.text); not everything was done")
        }
        lines.clear()
        try finish(left.filter { !salvaged.contains($0.place.storedPath) }.count, left.count, done, ended)
    }

    private func finish(_ unmended: Int, _ left: Int, _ done: Int, _ ended: Int) throws(CommandError) {
        if left == 0, ended > 0 {
            throw CommandError(
                .damaged,
                "\(quoted(path)): everything verifies now, but \(ended == 1 ? "a file" : "\(ended) files") may be shorter than before; 'coffer repair' takes the rest from another copy that has it"
            )
        }
        if left == 0 {
            return try Report.line(
                done == 0
                    ? "\(quoted(path)): everything verifies; nothing was changed"
                    : "\(quoted(path)): everything verifies now; what was overwritten is in coffer.lost+found")
        }
        if isDryRun {
            throw CommandError(.damaged, "\(quoted(path)): there is damage; nothing was changed")
        }
        throw CommandError(
            .damaged,
            unmended == 0
                ? "\(quoted(path)): what is still damaged has a salvaged copy beside it; remove it when you have seen to that"
                : "\(quoted(path)): there is still damage that cannot be mended without another copy; see 'coffer repair'"
        )
    }

    private func tell(_ finding: CheckFinding, _ outcome: VaultMending.Outcome) {
        let would = isDryRun ? "could be " : ""
        let what =
            switch outcome {
            case .named(let name): "\(would)called \(quoted(name))"
            case .paired: "\(would)put together with the rest of its name"
            case .ended: "\(would)marked as ending there, though it may have been longer"
            case .salvaged(let name, let map, let lost):
                "what verifies \(isDryRun ? "could be" : "is") copied to \(quoted(name)), but for \(lost) bytes that \(quoted(map)) tells"
            case .recordsPutAway: "\(would)put into coffer.lost+found"
            case .notMended: "cannot be mended without another copy"
            case .failed(let code): "not mended: \(VaultError.system(code).text)"
            }
        let path = finding.place.path
        do throws(CommandError) {
            try Report.line("\(quoted(path.isEmpty ? Array("/".utf8) : path)): \(finding.kind.text): \(what)")
        } catch {
            // Nobody reads it.
        }
    }

    /// Unlocks the vault, by the version of its configuration before the last change where the present one is damaged or missing.
    private func open(_ directory: VaultDirectory) throws(CommandError) -> UnlockedVault {
        let failure: CommandError
        do throws(CommandError) {
            return try unlock.open(directory)
        } catch {
            failure = error
        }
        // A slot that is damaged opens with nothing, or is not one any more.
        guard [.damagedConfig, .notAVault, .wrongPassphrase].contains(failure.status) else { throw failure }
        let opened: UnlockedVault
        do throws(CommandError) {
            let previous = try CommandError.naming(path) { () throws(KeysError) in
                try directory.configStore.loadPrevious()
            }
            opened = try unlock.open(directory, file: previous, acceptingOlder: true)
        } catch {
            throw failure
        }
        // One that is whole is never put back to what it was before.
        if isWhole(directory.configStore, opened) { throw failure }
        Report.problem(failure.description)
        Report.note(
            "\(quoted(path)): coffer.json.previous opens, and \(isDryRun ? "could take" : "takes") coffer.json's place")
        if !isDryRun {
            try CommandError.naming(path) { () throws(KeysError) in
                try directory.configStore.restorePrevious(keepingDamagedIn: ReservedName.lostAndFound.description)
            }
        }
        return opened
    }

    private func isWhole(_ store: ConfigStore, _ opened: UnlockedVault) -> Bool {
        do throws(KeysError) {
            return opened.verifies(try store.load())
        } catch {
            return false
        }
    }
}
