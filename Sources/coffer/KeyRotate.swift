import ArgumentParser
import CofferDisk
import CofferFormat
import CofferKeys
import CofferVault
import SystemPackage

/// `coffer key rotate`.
struct KeyRotate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rotate", abstract: "Give the vault another key, and encrypt everything in it again.",
        discussion: """
            For when somebody who could open the vault must not read what is in it from now on: remove what opened it for them ('coffer key remove'), then rotate. \
            What they have copied before, files and all, they can read for ever.

            Every slot that is there opens the vault afterwards, too, without its secret being asked for. Whoever had the vault's key and could write to its directory \
            may have added a slot of their own, or put their own key in the place of another's: look at the list that is printed, and have every slot tried by whoever \
            has its secret ('coffer key check').

            The vault must not be mounted, and no sync tool should be changing it. Run this as whoever mounts it. Each file is written anew beside itself, read back, and then put in its place, so there must be room for the largest; copies made \
            by sync tools are sent again as a whole. At any moment it may be interrupted: the vault can be used as ever, and the same command goes on; until then, what is written \
            to files that were there before may still be encrypted with the old key. Afterwards nothing that the vault shows is, and that key is gone. What does not verify, and \
            conflict copies that a sync tool left under other names, have to be mended or moved away before. Backups that were made before open with the secrets of before.

            Other machines that know the vault find other keys and ask: 'coffer info --verify' shows the fingerprint, which is printed here, too.
            """)

    @Argument(help: "The vault's directory.")
    var vault: String

    @Flag(help: "Print what was done as JSON.")
    var json = false

    @OptionGroup var unlock: UnlockOptions

    func run() throws {
        let directory = try VaultDirectory.open(vault)
        try directory.lockAlone()
        let opened = try unlock.open(directory)
        try recover(directory, opened)
        var changes = KeyChanges(directory.configStore, opened)
        let isResumed = changes.isRotating
        if isResumed {
            Report.note(
                "going on with a rotation that was not finished; what was removed since it began takes another one")
        } else {
            try CommandError.naming(vault) { () throws(KeysError) in try changes.beginRotation() }
            KeyEditing.remember(changes.vault, vault)
        }
        let totals = try reseal(changes.vault, directory)
        try check(changes.vault, directory, totals)
        try CommandError.naming(vault) { () throws(KeysError) in try changes.endRotation() }
        KeyEditing.remember(changes.vault, vault)
        try report(changes.vault, totals, isResumed)
        if directory.holdsLostAndFound {
            Report.note(
                "what repairs put into \(ReservedName.lostAndFound) stays encrypted with the key of before; remove it when you are sure"
            )
        }
    }

    private func recover(_ directory: VaultDirectory, _ opened: UnlockedVault) throws(CommandError) {
        try directory.recover(opened, tellingOfRotation: false)
        // What it holds is sealed under the key that is to go, and meant for files that are to be written anew.
        guard !directory.hasIntentLog else {
            throw CommandError(
                .inputOutput,
                "\(quoted(vault)): not everything could be recovered since it was not unmounted the last time; mount it for writing, as its owner or as root, and unmount it first"
            )
        }
    }

    private func reseal(
        _ opened: UnlockedVault, _ directory: VaultDirectory
    ) throws(CommandError) -> RotationTotals {
        let problems = ProblemLines()
        let progress = RotationProgress()
        do throws(VaultError) {
            let rotation = try Rotation(
                try directory.content(opened, ring: opened.ring), onProblem: { problems.tell($0, $1, progress) },
                onProgress: { progress.show($0) })
            try rotation.run()
            progress.clear()
            if rotation.totals.problems == 0 { return rotation.totals }
        } catch {
            progress.clear()
            throw CommandError(
                error.isDamage ? .damaged : .inputOutput,
                "\(quoted(vault)): \(error.text); the rotation is not finished, and both keys stay in use; 'coffer key rotate' goes on"
            )
        }
        throw CommandError(
            problems.hasDamage ? .damaged : .inputOutput,
            "\(quoted(vault)): the rotation is not finished, for \(problems.count) of its entries could not be encrypted again, and both keys stay in use: mend or remove them, then run this again"
        )
    }

    /// The last look before the old key goes.
    private func check(
        _ opened: UnlockedVault, _ directory: VaultDirectory, _ totals: RotationTotals
    ) throws(CommandError) {
        let problems = ProblemLines()
        let progress = RotationProgress()
        do throws(VaultError) {
            let content = try directory.content(opened, ring: try newest(of: opened))
            try Rotation(
                content, onProblem: { problems.tell($0, $1, progress) },
                onProgress: { progress.show($0, checking: true) }
            ).look(after: totals)
            progress.clear()
        } catch {
            progress.clear()
            throw CommandError(
                .inputOutput, "\(quoted(vault)): \(error.text) while it was looked through; run this again")
        }
        guard problems.count == 0 else {
            throw CommandError(
                .damaged,
                "\(quoted(vault)): \(problems.count) entries do not open with the new key alone; both keys stay in use")
        }
    }

    private func newest(of opened: UnlockedVault) throws(VaultError) -> KeyRing {
        do {
            return try opened.ring.newestOnly()
        } catch {
            throw .cryptography
        }
    }

    private func report(_ opened: UnlockedVault, _ totals: RotationTotals, _ isResumed: Bool) throws(CommandError) {
        let result = RotationReport(opened, totals, isResumed)
        try Report.line(json ? try JSONText.pretty(result) : result.text(vault))
    }
}
