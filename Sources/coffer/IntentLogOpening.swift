import CofferCrypto
import CofferDisk
import CofferFormat
import CofferKeys
import CofferVault
import Glibc
import Logging
import SystemPackage

/// Opening the intent log of a vault that is about to be mounted, and saying what it has brought back.
struct IntentLogOpening {
    /// How many files that could not be recovered are named.
    private static let failureLimit = 10

    let disk: Disk
    let root: Int32
    let opened: UnlockedVault
    /// The vault as the person wrote it.
    let vault: String
    let logger: Logger
    /// Whether a person is to be told of a rotation that is not finished.
    var tellsOfRotation = true

    /// The log of a vault that this process alone writes to. Nil where there can be none, which a person is told: without one a power cut may tear what is
    /// being written. Throws where there is one that cannot be recovered from.
    func forWriting() throws(CommandError) -> LogDirectory? {
        try finishRotating()
        let opening: LogDirectory.Opening
        do throws(VaultError) {
            opening = try LogDirectory.open(
                disk: disk, ring: opened.ring, rootDescriptor: root, cipher: opened.config.cipher,
                scratch: try scratch())
        } catch {
            throw unrecovered(error)
        }
        if let report = opening.report { tell(report) }
        if let trouble = opening.trouble {
            warn(
                "\(quoted(vault)) is mounted without an intent log (\(text(trouble))): a power cut may damage what is being written"
            )
        }
        return opening.directory
    }

    /// Recovers a vault that others may write to from now on too, if nobody has it mounted yet.
    func beforeSharing() throws(CommandError) {
        try finishRotating()
        do throws(VaultError) {
            let report = try LogDirectory.recover(
                disk: disk, ring: opened.ring, rootDescriptor: root, cipher: opened.config.cipher,
                scratch: try scratch())
            if let report { tell(report) }
        } catch {
            throw unrecovered(error)
        }
    }

    /// Whether a rotation was cut short between two names of one file.
    func isRotationPending() throws(CommandError) -> Bool {
        do throws(VaultError) {
            return try RotationDirectory(disk: disk, root: root, ring: opened.ring).isPending()
        } catch {
            throw CommandError(.inputOutput, "\(quoted(vault)): \(error.text)")
        }
    }

    /// What a rotation that was cut short left between two names of one file is done now: somebody might write to one of them.
    private func finishRotating() throws(CommandError) {
        do throws(VaultError) {
            try RotationDirectory(disk: disk, root: root, ring: opened.ring).settle()
        } catch {
            if error == .system(.readOnlyFileSystem) { return }
            let remedy =
                "try again as whoever began it or as root, or remove \(ReservedName.rotation) in it: then what is one file of several names may be two"
            throw CommandError(
                error.isDamage ? .damaged : .inputOutput,
                "\(quoted(vault)): a rotation of its key was cut short, and cannot be finished: \(error.text); \(remedy)"
            )
        }
        guard opened.ring.epochsNewestFirst.count > 1, tellsOfRotation else { return }
        Report.note(
            "\(quoted(vault)): a rotation of its key is not finished, and what is written to files that were not reached yet is encrypted with the old one; 'coffer key rotate' goes on"
        )
    }

    private func unrecovered(_ error: VaultError) -> CommandError {
        let who = error == .system(.permissionDenied) ? "; whoever had it mounted, or root, can" : ""
        return CommandError(
            .inputOutput,
            "\(quoted(vault)) was not unmounted, and cannot be recovered now: \(text(error))\(who). With --read-only it can be mounted as it is"
        )
    }

    /// Says that a vault which is only read would have to be recovered first.
    func forReading() {
        guard LogDirectory.isThere(disk: disk, rootDescriptor: root) else { return }
        warn(
            "\(quoted(vault)) was not unmounted, or is a copy of a mounted vault; what was being written then may be unreadable until it is mounted for writing once"
        )
    }

    private func scratch() throws(VaultError) -> Scratch {
        do throws(CryptoError) {
            return try Scratch()
        } catch {
            throw .cryptography
        }
    }

    private func text(_ error: VaultError) -> String {
        if case .system(let code) = error { return String(cString: strerror(code.rawValue)) }
        return "\(error)"
    }

    private func tell(_ report: LogRecovery.Report) {
        let text = Self.line(report)
        Report.note("\(quoted(vault)): \(text)")
        logger.notice("\(text)")
        for failure in report.failed.prefix(Self.failureLimit) {
            let path = failure.path.map(\.description).joined(separator: "/")
            warn("not recovered: what is stored as \(quoted(path)) (\(self.text(failure.error)))")
        }
        let rest = report.failed.count - Self.failureLimit
        if rest > 0 { warn("not recovered: \(rest) more") }
    }

    private func warn(_ text: String) {
        Report.warning(text)
        logger.warning("\(text)")
    }

    /// What recovery did, in one line.
    static func line(_ report: LogRecovery.Report) -> String {
        func count(_ number: Int, _ one: String, _ many: String) -> String { "\(number) \(number == 1 ? one : many)" }
        if report.files == 0 && report.failed.isEmpty {
            return "it was not unmounted the last time; nothing had to be recovered"
        }
        var parts: [String] = []
        if report.blocks > 0 { parts.append(count(report.blocks, "block stored again", "blocks stored again")) }
        if report.ends > 0 { parts.append(count(report.ends, "end set anew", "ends set anew")) }
        let files = count(report.files, "file", "files")
        let details = parts.isEmpty ? "" : " (\(parts.joined(separator: ", ")))"
        let failed = report.failed.isEmpty ? "" : ", \(report.failed.count) not"
        return "it was not unmounted the last time; recovered \(files)\(details)\(failed)"
    }
}
