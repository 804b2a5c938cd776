import CofferCrypto
import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// Making a seal of a vault as it is.
///
/// Each file is sealed as it was at one moment, while it did not change. What a mount has not written yet has to be brought to the vault before. Whatever is
/// read is verified, too: a seal never makes damage genuine.
public final class Sealing {
    /// What came of it.
    public struct Outcome: Sendable {
        /// The seal.
        public let head: SealHead
        /// What was read and passed.
        public let totals: SealTotals
        /// Files that were written to all the time.
        public let unsure: [StoredPlace]
        /// Files that do not verify, or cannot be read from the disk.
        public let damaged: [StoredPlace]
        /// The cache could not be written: everything is read the next time.
        public let cacheFailure: Errno?
        /// Older seals could not be cut to their heads.
        public let thinFailure: VaultError?
    }

    private enum Item {
        /// Known before its turn.
        case record(SealRecord, stat?, readAt: Int64)
        case file(StoredPlace, stat)
        case end
    }

    private let vault: Vault
    private let vaultID: [UInt8]
    private let threadCount: Int
    private let cachePath: String?
    private let readsAll: Bool
    private let progress: SealProgress
    private var unsure: [StoredPlace] = []
    private var damaged: [StoredPlace] = []
    private var isFailureOfEarlier = false
    /// Where it failed; nil where that is no matter of one place.
    public private(set) var failedAt: StoredPlace?

    /// Sealing of a vault. What did not change since it was sealed last, as the file at `cachePath` says, is not read again, unless `readsAll`.
    public init(
        _ vault: Vault, vaultID: [UInt8], cachePath: String?, readsAll: Bool, threadCount: Int,
        onProgress: @escaping @Sendable (SealTotals) -> Void
    ) {
        self.vault = vault
        self.vaultID = vaultID
        self.cachePath = cachePath
        self.readsAll = readsAll
        self.threadCount = threadCount
        progress = SealProgress(onProgress)
    }

    /// Seals. The counter is above that of every seal that is there, and above `known`, the newest that this machine has seen. What is signed by none of
    /// `publicKeys` is no seal of this vault's.
    public func run(known: UInt64, signing key: SigningKey, publicKeys: [[UInt8]]) throws(VaultError) -> Outcome {
        let disk = vault.disk
        let store = try SealStore.make(disk: disk, root: vault.rootDescriptor)
        try store.lock()
        try store.removeUnfinished()
        let time = SealTime.now
        let (file, name) = try store.makeFile()
        defer { disk.close(file) }
        var cacheFailure: Errno?
        var cache: SealCache.Writer?
        if let cachePath {
            do throws(Errno) {
                cache = try SealCache.Writer(disk: disk, path: cachePath)
            } catch {
                cacheFailure = error
            }
        }
        let writer = ManifestWriter(disk: disk, descriptor: file, cache: cache)
        let outcome: Result<(StoredSeal, SealHead, [StoredSeal]), VaultError> = Result { () throws(VaultError) in
            try write(writer)
            let root = try writer.finish()
            let seals = try store.counters().map { store.read($0, publicKeys: publicKeys) }
            let genuine = seals.filter { $0.head?.vaultID == vaultID }
            // What somebody put there under a number says nothing, but is not replaced either.
            let taken = Set(seals.map(\.counter))
            var counter = max(known, genuine.first?.counter ?? 0) + 1
            while taken.contains(counter) { counter += 1 }
            guard counter < SealHead.counterLimit else { throw .system(.fileTooLarge) }
            let head = SealHead(
                counter: counter, time: time, vaultID: vaultID,
                previous: genuine.first?.hash ?? [UInt8](repeating: 0, count: RunningHash.byteCount), root: root,
                entries: UInt64(writer.entries), bytes: UInt64(writer.bytes), manifestCount: UInt64(writer.count),
                publicKey: key.publicKey)
            let raw = head.signed(by: key)
            try system { () throws(Errno) in try disk.write(file, bytes: raw) }
            try store.publish(file, name, as: head.counter)
            return (StoredSeal(counter: head.counter, state: .whole(head), hash: SealHead.hash(raw)), head, genuine)
        }
        guard case .success(let (sealed, head, genuine)) = outcome else {
            // The first failure is what is told.
            _ = Result { () throws(VaultError) in try store.removeUnfinished() }
            _ = try outcome.get()
            throw .cryptography
        }
        do throws(Errno) {
            try writer.keepCache()
        } catch {
            cacheFailure = error
        }
        var thinFailure: VaultError?
        do throws(VaultError) {
            try store.thin([sealed] + genuine)
        } catch {
            thinFailure = error
        }
        return Outcome(
            head: head, totals: progress.now, unsure: unsure, damaged: damaged, cacheFailure: cacheFailure,
            thinFailure: thinFailure)
    }

    private func write(_ writer: ManifestWriter) throws(VaultError) {
        let progress = progress
        let pipeline = try HashPipeline<Item>(
            disk: vault.disk, threadCount: threadCount, verifyingWith: vault.ring,
            onBytes: { count in progress.tell { $0.bytesRead += count } },
            emit: { [self] (item, result) throws(VaultError) in
                do throws(VaultError) {
                    try emit(item, result, writer)
                } catch {
                    // No matter of where the walk is by now.
                    isFailureOfEarlier = true
                    throw error
                }
            })
        let outcome: Result<Void, VaultError> = Result { () throws(VaultError) in
            try walk(pipeline)
            try pipeline.finish()
        }
        if case .failure = outcome { pipeline.abandon() }
        try outcome.get()
    }

    private func walk(_ pipeline: HashPipeline<Item>) throws(VaultError) {
        let disk = vault.disk
        let walk = try SealWalk(disk: disk, root: vault.rootDescriptor)
        // Elsewhere a file may be changed and show it by nothing.
        let isTelling = disk.keepsInodeNumbers(vault.rootDescriptor) && disk.keepsChangeTimes(vault.rootDescriptor)
        var cache = readsAll || !isTelling ? nil : cachePath.flatMap { SealCache(disk: disk, path: $0) }
        try pipeline.put(try directory([], walk.descriptor))
        while true {
            guard let name = walk.name else {
                try pipeline.put(.end)
                Self.beside(&cache) { cache throws(VaultError) in try cache.leave() }
                guard try walk.leave() else { return }
                continue
            }
            let place = StoredPlace(in: walk.place, name)
            do throws(VaultError) {
                let status = try system { () throws(Errno) in
                    try disk.status(at: walk.descriptor, StoredName(name).cString)
                }
                switch status.st_mode & S_IFMT {
                case S_IFDIR:
                    try walk.enter(name)
                    try pipeline.put(try directory(name, walk.descriptor))
                    Self.beside(&cache) { cache throws(VaultError) in try cache.enter(name) }
                    continue
                case S_IFREG:
                    var known: SealRecord?
                    Self.beside(&cache) { cache throws(VaultError) in
                        known = try cache.record(of: name, status)
                    }
                    if let known {
                        try pipeline.put(.record(known, status, readAt: SealTime.now))
                    } else {
                        let isContent = ReservedKind(name) == .content
                        try pipeline.put(
                            .file(place, status), file: name, in: try walk.shared(), size: status.st_size,
                            isContent: isContent)
                    }
                default:
                    try pipeline.put(
                        .record(try Self.record(disk, name, in: walk.descriptor, status), nil, readAt: 0))
                }
            } catch {
                // Removed this moment.
                if isFailureOfEarlier { throw error }
                // Where the walk has gone into it already, it is there.
                if error != .system(.noSuchFileOrDirectory) || walk.place !== place.parent {
                    failedAt = place
                    throw error
                }
            }
            walk.advance()
        }
    }

    /// Runs what is done with a cache; one that cannot be followed is left.
    private static func beside(_ cache: inout SealCache?, _ body: (SealCache) throws(VaultError) -> Void) {
        guard let known = cache else { return }
        do throws(VaultError) {
            try body(known)
        } catch {
            cache = nil
        }
    }

    private func directory(_ name: [UInt8], _ descriptor: Int32) throws(VaultError) -> Item {
        let status = try system { () throws(Errno) in try vault.disk.status(descriptor) }
        let record = SealRecord(
            name: name, mode: status.st_mode, owner: status.st_uid, group: status.st_gid, time: 0,
            attributes: try StoredAttributes.hash(disk: vault.disk, descriptor), kind: .directory)
        return .record(record, nil, readAt: 0)
    }

    /// What a seal says of a link, a fifo, a socket or a device.
    static func record(
        _ disk: Disk, _ name: [UInt8], in directory: Int32, _ status: stat
    ) throws(VaultError) -> SealRecord {
        var record = SealRecord(
            name: name, mode: status.st_mode, owner: status.st_uid, group: status.st_gid,
            time: SealTime.nanoseconds(status.st_mtim), kind: .other(device: UInt64(status.st_rdev)))
        try system { () throws(Errno) in
            if status.st_mode & S_IFMT == S_IFLNK {
                record.kind = .link(try disk.linkBytes(at: directory, StoredName(name).cString))
            }
        }
        if status.st_mode & S_IFMT != S_IFLNK {
            let object = try system { () throws(Errno) in
                try disk.open(at: directory, StoredName(name).cString, flags: Disk.pathOnly | O_NOFOLLOW)
            }
            defer { disk.close(object) }
            record.attributes = try StoredAttributes.hash(disk: disk, object)
        }
        return record
    }

    private func emit(
        _ item: Item, _ result: Result<FileHashing.Result, VaultError>?, _ writer: ManifestWriter
    ) throws(VaultError) {
        switch item {
        case .record(let record, let status, let readAt): try writer.add(record, status, readAt: readAt)
        case .end: return try writer.end()
        case .file(let place, let status):
            guard let result else { return }
            do throws(VaultError) {
                try add(place, try result.get(), writer)
            } catch {
                switch error {
                // Removed, or replaced by something else, this moment.
                case .system(.noSuchFileOrDirectory), .system(.tooManySymbolicLinkLevels),
                    .system(.staleNFSFileHandle):
                    return
                case .system(.ioError):
                    try add(place, Self.unread(status), writer)
                default:
                    failedAt = place
                    throw error
                }
            }
        }
        progress.tell { $0.entries += 1 }
    }

    /// What is said of a file that the disk does not give out.
    private static func unread(_ status: stat) -> FileHashing.Result {
        FileHashing.Result(
            status: status, attributes: nil, contents: [UInt8](repeating: 0, count: RunningHash.byteCount),
            isDamaged: true, readAt: 0)
    }

    private func add(
        _ place: StoredPlace, _ result: FileHashing.Result, _ writer: ManifestWriter
    ) throws(VaultError) {
        var record = SealRecord(
            name: place.name, mode: result.status.st_mode, owner: result.status.st_uid, group: result.status.st_gid,
            time: SealTime.nanoseconds(result.status.st_mtim), attributes: result.attributes,
            kind: .file(size: UInt64(result.status.st_size), contents: result.contents))
        record.isUnsure = result.isUnsure
        record.isDamaged = result.isDamaged
        if result.isUnsure { unsure.append(place) }
        if result.isDamaged { damaged.append(place) }
        progress.tell { $0.filesRead += 1 }
        try writer.add(record, result.status, readAt: result.readAt)
    }
}
