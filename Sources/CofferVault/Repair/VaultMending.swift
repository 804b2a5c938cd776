import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import Synchronization
import SystemPackage

/// Mends what is damaged in a vault without another copy of it, as far as that can be: names that were moved or whose directory has lost its records, pieces of
/// long names that are elsewhere, ends that are not marked; and of files that stay damaged it makes copies of all that verifies.
///
/// Nothing is destroyed: what is overwritten goes to `coffer.lost+found` before, and files that are damaged stay. What was done need not be done again, so that it
/// may stop at any point. Nobody else may have the vault open.
public final class VaultMending {
    /// What became of something damaged.
    public enum Outcome: Sendable, Equatable {
        /// The entry is called by this name, in the same directory. It was decrypted without the directory's say.
        case named([UInt8])
        /// The pieces of its name were elsewhere, and are beside it.
        case paired
        /// The last block is marked as that, and as reconstructed.
        case ended
        /// What verifies was copied to an entry of this name beside it, and which bytes are lost to another; the damaged one stays.
        case salvaged(as: [UInt8], map: [UInt8], lost: Int)
        /// The records of a directory that do not verify were put away.
        case recordsPutAway
        /// Nothing can be done without another copy.
        case notMended
        /// Something kept it from being mended.
        case failed(Errno)
    }

    /// How often everything is looked through: what is named is the way to more.
    private static let rounds = 1000

    let vault: Vault
    let disk: Disk
    let scratch: Scratch
    let lost: LostAndFound
    let isDryRun: Bool
    /// Every piece of a long name in the vault, by tag; nil until one is asked for.
    var allPieces: [[UInt8]: LongNamePieces]?
    /// Places of which it was told what became of them.
    private var told: Set<[UInt8]> = []
    private let onOutcome: (CheckFinding, Outcome) -> Void
    private let onProgress: @Sendable (CheckTotals) -> Void

    /// Mending of `vault`. With `isDryRun` nothing is changed, and what could be done at first is told.
    public init(
        _ vault: Vault, isDryRun: Bool, onOutcome: @escaping (CheckFinding, Outcome) -> Void,
        onProgress: @escaping @Sendable (CheckTotals) -> Void
    ) throws(VaultError) {
        self.vault = vault
        disk = vault.disk
        do throws(CryptoError) {
            scratch = try Scratch()
        } catch {
            throw .cryptography
        }
        lost = LostAndFound(disk: vault.disk, root: vault.rootDescriptor)
        self.isDryRun = isDryRun
        self.onOutcome = onOutcome
        self.onProgress = onProgress
    }

    /// Mends what it can. Returns what is left damaged, files with a salvaged copy among them.
    public func run() throws(VaultError) -> [CheckFinding] {
        for _ in 0..<Self.rounds {
            // Names first, and without the contents: what is named is the way to more.
            while try isMending(VaultCheck.losses(in: vault, contents: false, onProgress: onProgress), names: true) {
                if isDryRun { break }
            }
            let findings = try VaultCheck.losses(in: vault, onProgress: onProgress)
            if try !isMending(findings, names: false) || isDryRun {
                if !isDryRun, !findings.contains(where: \.isOfName) { try lost.forgetMarks() }
                return findings
            }
        }
        return try VaultCheck.losses(in: vault, onProgress: onProgress)
    }

    /// Whether something was mended that may be the way to more.
    private func isMending(_ findings: [CheckFinding], names: Bool) throws(VaultError) -> Bool {
        var mended = 0
        for finding in findings where !names || finding.isOfName {
            let key = finding.place.storedPath
            if finding.bytes != nil, told.contains(key) { continue }
            let outcome: Outcome
            do throws(VaultError) {
                outcome = try mend(finding)
            } catch {
                outcome = if case .system(let code) = error { .failed(code) } else { .notMended }
                if outcome == .failed(.noSpace) || outcome == .failed(.diskQuotaExceeded) { throw error }
            }
            if outcome.isProgress { mended += 1 }
            if told.insert(key).inserted || outcome.isProgress && !isDryRun { onOutcome(finding, outcome) }
        }
        guard mended > 0, !isDryRun else { return false }
        allPieces = nil
        try system { () throws(Errno) in try disk.syncFileSystem(vault.rootDescriptor) }
        return true
    }

    private func mend(_ finding: CheckFinding) throws(VaultError) -> Outcome {
        guard case .damage(let kind) = finding.kind else { return .notMended }
        switch kind {
        case .block, .hole, .end, .short, .size, .header: return try mendContents(finding)
        case .name: return try mendName(finding.place)
        case .directory: return try putRecordsAway(finding.place)
        default: return .notMended
        }
    }

    /// A directory of the vault by its plaintext place; nil where it cannot be reached.
    func directory(_ place: TreePlace) throws(VaultError) -> TreeDirectory? {
        try Tree(vault).directory(at: place)
    }
}

extension CheckFinding {
    /// Whether it is about a name, or what names are known by.
    var isOfName: Bool {
        switch kind {
        case .damage(.name), .damage(.directory): true
        default: false
        }
    }
}

extension VaultMending.Outcome {
    /// Whether something was changed that may be the way to more.
    var isProgress: Bool {
        switch self {
        case .named, .paired, .ended, .recordsPutAway: true
        case .salvaged, .notMended, .failed: false
        }
    }
}
