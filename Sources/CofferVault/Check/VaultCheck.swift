import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import Synchronization
import SystemPackage

/// Looks at everything in a vault: names, directory records, links, attributes, and every block of every file.
///
/// Nothing is changed. What a mount writes meanwhile is looked at again before it is called damage.
public final class VaultCheck: Sendable {
    /// How to check.
    public struct Options: Sendable {
        /// Every block; else headers, sizes and ends only.
        public var contents = true
        /// Somebody may be writing to the vault: what looks damaged is looked at twice.
        public var mayChange = true
        /// Threads that look at contents.
        public var threadCount = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))

        /// The defaults.
        public init() {}
    }

    private static let patience = 20
    private static let largeSize = 1 << 20
    private static let pause: useconds_t = 5000

    let tree: Tree
    private let options: Options
    /// So many changes are told at once: telling takes longer than looking at a small file.
    private static let interval = 32
    private let totals = Mutex((now: CheckTotals(), untold: 0))
    private let onFinding: @Sendable (CheckFinding) -> Void
    private let onProgress: @Sendable (CheckTotals) -> Void

    /// A check of a vault. Both closures are called by several threads, one at a time.
    public init(
        _ tree: Tree, options: Options, onFinding: @escaping @Sendable (CheckFinding) -> Void,
        onProgress: @escaping @Sendable (CheckTotals) -> Void
    ) {
        self.tree = tree
        self.options = options
        self.onFinding = onFinding
        self.onProgress = onProgress
    }

    /// Looks at everything. Throws where the root cannot be read, or there is no memory.
    public func run() throws(VaultError) -> CheckTotals {
        let pool: CheckPool
        do throws(CryptoError) {
            pool = try CheckPool(threadCount: options.threadCount) { [self] job, scratch, handBack in
                look(job, scratch, handBack)
            }
        } catch {
            throw .cryptography
        }
        let outcome: Result<Void, VaultError> = Result { () throws(VaultError) in try walk(pool) }
        pool.finish()
        try outcome.get()
        return totals.withLock { $0.now }
    }

    /// What is lost in a vault that nobody else changes.
    static func losses(
        in vault: Vault, contents: Bool = true, alsoReconstructed: Bool = false,
        onProgress: @escaping @Sendable (CheckTotals) -> Void
    ) throws(VaultError) -> [CheckFinding] {
        let found = Mutex<[CheckFinding]>([])
        var options = Options()
        options.mayChange = false
        options.contents = contents
        let check = VaultCheck(
            Tree(vault), options: options,
            onFinding: { finding in
                let isReconstructed = if case .reconstructed = finding.kind { true } else { false }
                if finding.isLoss || alsoReconstructed && isReconstructed { found.withLock { $0.append(finding) } }
            },
            onProgress: onProgress)
        _ = try check.run()
        return found.withLock { $0 }
    }

    func report(_ finding: CheckFinding) {
        totals.withLock { totals in
            if finding.isLoss { totals.now.losses += 1 } else { totals.now.notes += 1 }
            onFinding(finding)
        }
    }

    func report(_ error: VaultError, at place: TreePlace) {
        switch error {
        case .damaged(let damage): report(CheckFinding(place, .damage(damage.kind)))
        case .system(.noSuchFileOrDirectory): break
        case .system(let code): report(CheckFinding(place, .unreadable(code)))
        case .cryptography: report(CheckFinding(place, .unreadable(.noMemory)))
        }
    }

    private func tell(_ change: (inout CheckTotals) -> Void) {
        totals.withLock { totals in
            change(&totals.now)
            totals.untold += 1
            guard totals.untold >= Self.interval else { return }
            totals.untold = 0
            onProgress(totals.now)
        }
    }

    // MARK: The tree

    private func walk(_ pool: CheckPool) throws(VaultError) {
        let walk = try TreeWalk(tree, from: try tree.root())
        look(at: walk.directory)
        do throws(VaultError) {
            try lookAtAttributes(
                of: walk.directory.directory.descriptor, S_IFDIR, walk.directory.place
            ) {
                () throws(VaultError) in AttributeCodec.noOwner
            }
        } catch {
            report(error, at: walk.directory.place)
        }
        while let step = try walk.next() {
            guard case .entry(let listed) = step else { continue }
            var place = TreePlace(in: walk.directory.place, name: listed.name, stored: listed.stored.bytes)
            tell { $0.entries += 1 }
            do throws(VaultError) {
                // What the listing says is a file need not be asked about before it is opened.
                if !listed.isPlaceholder, listed.type == UInt8(DT_REG) {
                    try give(listed.stored, place, in: walk, to: pool)
                    continue
                }
                guard var entry = try tree.entry(listed, in: walk.directory) else { continue }
                if entry.isPlaceholder && options.mayChange {
                    guard let again = try lookAgain(at: listed, in: walk.directory) else { continue }
                    entry = again
                    place = walk.directory.place(of: again)
                }
                if entry.isPlaceholder { report(CheckFinding(place, .damage(.name))) }
                if entry.isFile {
                    try give(entry.stored, place, in: walk, to: pool)
                    continue
                }
                if entry.isPlaceholder { continue }
                if entry.isLink { _ = try tree.readLink(entry, in: walk.directory) }
                try lookAtAttributes(of: entry, place, in: walk.directory)
                if entry.isDirectory {
                    try walk.enter(entry)
                    look(at: walk.directory)
                }
            } catch {
                report(error, at: place)
            }
        }
    }

    /// A name may be in the middle of being made, with its pieces before it, or of being removed.
    private func lookAgain(
        at listed: ListedEntry, in directory: TreeDirectory
    ) throws(VaultError) -> TreeEntry? {
        usleep(Self.pause)
        let now = try tree.list(directory)
        guard let found = now.first(where: { $0.stored == listed.stored }) else { return nil }
        return try tree.entry(found, in: directory)
    }

    private func give(
        _ name: StoredName, _ place: TreePlace, in walk: TreeWalk, to pool: CheckPool
    ) throws(VaultError) {
        tell { $0.files += 1 }
        pool.add(CheckPool.Job(directory: try walk.sharedDirectory(), name: name, place: place))
    }

    private func lookAtAttributes(
        of entry: TreeEntry, _ place: TreePlace, in directory: TreeDirectory
    ) throws(VaultError) {
        let object = try system { () throws(Errno) in
            try tree.vault.disk.open(
                at: directory.directory.descriptor, entry.stored.cString, flags: Disk.pathOnly | O_NOFOLLOW)
        }
        defer { tree.vault.disk.close(object) }
        try lookAtAttributes(of: object, entry.backing.st_mode, place) { () throws(VaultError) in
            AttributeCodec.noOwner
        }
    }

    private func lookAtAttributes(
        of object: Int32, _ mode: mode_t, _ place: TreePlace, owner: () throws(VaultError) -> [UInt8]
    ) throws(VaultError) {
        let names = try tree.vault.attributeNames(
            of: object, owner: owner, onDamage: { _ in report(CheckFinding(place, .damage(.attribute))) })
        for name in names where !name.starts(with: Array("system.".utf8)) {
            do throws(VaultError) {
                _ = try tree.vault.attribute(name, of: object, mode: mode, owner: owner)
            } catch {
                if error != .system(.noData) { report(error, at: place) }
            }
        }
    }

    // MARK: Contents

    private func look(_ job: CheckPool.Job, _ scratch: Scratch, _ handBack: () -> Void) {
        let disk = tree.vault.disk
        let descriptor: Int32
        do throws(Errno) {
            descriptor = try disk.open(
                at: job.directory.descriptor, job.name.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
        } catch {
            // A link took its place.
            if error == .tooManySymbolicLinkLevels { return report(CheckFinding(job.place, .busy)) }
            return report(.system(error), at: job.place)
        }
        defer { disk.close(descriptor) }
        do throws(VaultError) {
            var attempts = 0
            while true {
                let before = try system { () throws(Errno) in try disk.status(descriptor) }
                // Another kind of thing took its place.
                guard before.st_mode & S_IFMT == S_IFREG else { return report(CheckFinding(job.place, .busy)) }
                if before.st_size > Self.largeSize { handBack() }
                let (found, isReconstructed) = try contents(
                    of: descriptor, job.place, before, isFirst: attempts == 0, scratch)
                let after = try system { () throws(Errno) in try disk.status(descriptor) }
                attempts += 1
                let isUnchanged = FileStamp(before) == FileStamp(after)
                // Nobody is in the middle of a write twice at the same moment of the file's clock.
                if !found.isEmpty && (isUnchanged ? attempts < 2 && options.mayChange : attempts < Self.patience) {
                    usleep(Self.pause)
                    continue
                }
                if !found.isEmpty && !isUnchanged {
                    report(CheckFinding(job.place, .busy))
                } else {
                    for finding in found { report(finding) }
                    if isReconstructed { report(CheckFinding(job.place, .reconstructed)) }
                }
                // They are bound to the header: where that is cut off there is nothing to be said of them.
                guard after.st_size >= FileHeader.byteCount else { break }
                try lookAtAttributes(of: descriptor, after.st_mode, job.place) { () throws(VaultError) in
                    // Not parsed: what is wrong with it otherwise has been told.
                    let raw = try system { () throws(Errno) in
                        try disk.readBytes(descriptor, limit: FileHeader.byteCount)
                    }
                    guard raw.count == FileHeader.byteCount else { throw .damaged(Damage(.header)) }
                    return Array(raw[8..<24])
                }
                break
            }
        } catch {
            report(error, at: job.place)
        }
    }

    private func contents(
        of descriptor: Int32, _ place: TreePlace, _ status: stat, isFirst: Bool, _ scratch: Scratch
    ) throws(VaultError) -> ([CheckFinding], isReconstructed: Bool) {
        var check = FileCheck(disk: tree.vault.disk, ring: tree.vault.ring, scratch: scratch)
        let size = BlockGeometry.plausibleSize(cipherSize: status.st_size)
        do throws(VaultError) {
            let bad = try check.run(
                descriptor, storedSize: status.st_size, contents: options.contents
            ) { count in if isFirst { tell { $0.bytes += count } } }
            let findings = bad.map { bad in
                let (first, end) = (bad.blocks.lowerBound, bad.blocks.upperBound)
                let plain = BlockGeometry.plainCount
                return CheckFinding(
                    place, .damage(bad.kind), bytes: min(size, first * plain)..<min(size, end * plain),
                    storedBytes: min(
                        status.st_size, BlockGeometry.offset(ofBlock: first))..<min(
                            status.st_size, BlockGeometry.offset(ofBlock: end)))
            }
            return (findings, check.isReconstructed)
        } catch {
            guard case .damaged(let damage) = error else { throw error }
            return (
                [
                    CheckFinding(
                        place, .damage(damage.kind), bytes: 0..<size, storedBytes: 0..<max(0, status.st_size))
                ], false
            )
        }
    }
}
