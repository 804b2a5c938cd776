import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import Synchronization
import SystemPackage

/// Heals what is damaged in a vault's files by another copy of it: block by block, each taken only if it verifies; and the pieces of long names.
///
/// Nothing is destroyed: before stored bytes are changed, they are copied to `coffer.lost+found` in the vault's root. What was done need not be done again, so that it may stop at any point.
/// Nobody else may have the vault open for writing.
public final class VaultRepair {
    /// What became of something damaged.
    public enum Outcome: Sendable, Equatable {
        /// It verifies, as far as the copy had what was needed: so many blocks, headers, ends and names were taken.
        case healed(Int)
        /// Nothing of it could be read, and it is as the copy has it now: another version, perhaps. So many bytes.
        case replaced(Int)
        /// Its end was none, and it ends as the copy's does now: at so many bytes.
        case resized(Int)
        /// Some of it verifies, some still does not.
        case partly(Int)
        /// The copy does not have it, or has another version of it, or is damaged there too.
        case notHealed
        /// Something kept it from being healed.
        case failed(Errno)
    }

    /// How often everything is looked through: what is healed may be the way to more.
    private static let rounds = 8

    let vault: Vault
    let copy: Tree
    let disk: Disk
    let scratch: Scratch
    let lost: LostAndFound
    private let isDryRun: Bool
    /// Whether a file of which nothing can be read may become the copy's.
    let mayReplace: Bool
    private let onOutcome: (CheckFinding, Outcome) -> Void
    private let onProgress: @Sendable (CheckTotals) -> Void

    /// A repair of `vault` by `copy`, another copy of the same vault, which is only read. With `isDryRun` nothing is changed, and what could be healed is told.
    public init(
        _ vault: Vault, from copy: Vault, isDryRun: Bool, mayReplace: Bool = false,
        onOutcome: @escaping (CheckFinding, Outcome) -> Void,
        onProgress: @escaping @Sendable (CheckTotals) -> Void
    ) throws(VaultError) {
        self.vault = vault
        self.copy = Tree(copy)
        disk = vault.disk
        do throws(CryptoError) {
            scratch = try Scratch()
        } catch {
            throw .cryptography
        }
        lost = LostAndFound(disk: vault.disk, root: vault.rootDescriptor)
        self.isDryRun = isDryRun
        self.mayReplace = mayReplace
        self.onOutcome = onOutcome
        self.onProgress = onProgress
    }

    /// Heals what it can. Returns what is left damaged.
    public func run() throws(VaultError) -> [CheckFinding] {
        var told: Set<[UInt8]> = []
        for _ in 0..<Self.rounds {
            let findings = try check()
            var healed = 0
            var done: Set<[UInt8]> = []
            for finding in findings where done.insert(finding.place.storedPath).inserted || !finding.isOfContents {
                let outcome: Outcome
                do throws(VaultError) {
                    outcome = try heal(finding)
                } catch {
                    outcome = if case .system(let code) = error { .failed(code) } else { .notHealed }
                    if outcome == .failed(.noSpace) || outcome == .failed(.diskQuotaExceeded) { throw error }
                }
                switch outcome {
                case .healed(let count), .partly(let count): healed += count
                case .replaced, .resized: healed += 1
                case .notHealed, .failed: break
                }
                if case .reconstructed = finding.kind, [.healed(0), .notHealed].contains(outcome) { continue }
                // What cannot be healed is told once.
                if outcome.isProgress || told.insert(finding.place.storedPath).inserted { onOutcome(finding, outcome) }
            }
            if healed == 0 || isDryRun { return findings.filter(\.isLoss) }
            try system { () throws(Errno) in try disk.syncFileSystem(vault.rootDescriptor) }
        }
        return try check().filter(\.isLoss)
    }

    private func check() throws(VaultError) -> [CheckFinding] {
        try VaultCheck.losses(in: vault, alsoReconstructed: true, onProgress: onProgress)
    }

    private func heal(_ finding: CheckFinding) throws(VaultError) -> Outcome {
        // No program has said that it ends there: the copy may have more of it.
        if case .reconstructed = finding.kind { return try healContents(of: finding.place, changing: !isDryRun) }
        guard case .damage(let kind) = finding.kind else { return .notHealed }
        switch kind {
        case .block, .hole, .end, .short, .size, .header:
            return try healContents(of: finding.place, changing: !isDryRun)
        case .name: return try healName(finding.place, changing: !isDryRun)
        default: return .notHealed
        }
    }

    /// The entry in the copy that has the same name; nil where there is none.
    func counterpart(of place: TreePlace) throws(VaultError) -> (entry: TreeEntry, directory: TreeDirectory)? {
        do throws(VaultError) {
            guard case .entry(let entry, let directory) = try copy.find(try TreePath(place.path)) else { return nil }
            return (entry, directory)
        } catch {
            switch error {
            case .system(.noSuchFileOrDirectory), .system(.notDirectory), .damaged: return nil
            default: throw error
            }
        }
    }

    /// The directory in the copy that has the same name; nil where there is none.
    func counterpartDirectory(of place: TreePlace) throws(VaultError) -> TreeDirectory? {
        try copy.directory(at: place)
    }
}

extension CheckFinding {
    /// Whether it is one of perhaps many about one file's contents.
    var isOfContents: Bool { bytes != nil }
}

extension VaultRepair.Outcome {
    /// Whether something was healed.
    public var isProgress: Bool {
        switch self {
        case .healed, .partly, .replaced, .resized: true
        case .notHealed, .failed: false
        }
    }
}
