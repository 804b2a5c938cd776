import CofferCrypto
import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import Synchronization
import SystemPackage

/// What a seal says of each place, for whoever opens one file after the other. About 32 bytes of memory for each entry; the rest is read from the seal again,
/// and believed only if it is what it was.
public final class SealGuard: @unchecked Sendable {
    private struct Entry {
        /// The beginning of the hash of the place.
        let key: UInt64
        /// Where the record is in the manifest.
        let offset: UInt64
        /// The beginning of the hash of the place and the record.
        let check: (UInt64, UInt64)
    }

    private let disk: Disk
    private let file: Int32
    private let manifestCount: Int
    // By key.
    private let entries: [Entry]
    // What was found as sealed, and has not changed since.
    private let seen = Mutex<[[UInt8]: Stamp]>([:])
    private static let seenLimit = 100_000

    /// The seal that is being looked after.
    public let head: SealHead

    /// Reads the whole manifest of a genuine seal.
    public init(_ head: SealHead, in seals: VaultSeals) throws(VaultError) {
        self.head = head
        disk = seals.store.disk
        manifestCount = Int(head.manifestCount)
        file = try seals.store.open(head.counter)
        var entries: [Entry] = []
        entries.reserveCapacity(Int(clamping: min(head.entries, 1 << 24)))
        do throws(VaultError) {
            let cursor = try SealCursor(
                disk: disk, descriptor: file, start: SealHead.byteCount, count: manifestCount)
            var place = StoredPlace(in: nil, [])
            while cursor.depth > 0 {
                guard let item = cursor.item else {
                    try cursor.leave()
                    if let parent = place.parent { place = parent }
                    continue
                }
                let here = StoredPlace(in: place, item.record.name)
                let path = here.path
                entries.append(
                    Entry(
                        key: Self.key(path), offset: UInt64(item.offset), check: Self.check(path, item.record)))
                if item.record.isDirectory {
                    place = here
                    try cursor.enter()
                } else {
                    try cursor.skip()
                }
            }
            guard try cursor.finish() == head.root else { throw .damaged(Damage(.seal)) }
        } catch {
            disk.close(file)
            throw error
        }
        entries.sort { $0.key < $1.key }
        self.entries = entries
    }

    deinit { disk.close(file) }

    private static func words(_ hash: [UInt8]) -> (UInt64, UInt64) {
        hash.withUnsafeBytes {
            ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
    }

    private static func key(_ path: [UInt8]) -> UInt64 {
        var hash = Hash(outputCount: 16)
        hash.update(path)
        return words(hash.finish()).0
    }

    private static func check(_ path: [UInt8], _ record: SealRecord) -> (UInt64, UInt64) {
        var hash = Hash(outputCount: 16)
        // No path has a zero.
        hash.update(path + [0] + record.encoded)
        return words(hash.finish())
    }

    /// What was sealed at a place, stored names from the root down; nil for nothing.
    public func record(at place: [StoredName]) throws(VaultError) -> SealRecord? {
        let path = Array(place.map(\.bytes).joined(separator: [UInt8(ascii: "/")]))
        let key = Self.key(path)
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].key < key { low = middle + 1 } else { high = middle }
        }
        while low < entries.count, entries[low].key == key {
            let entry = entries[low]
            low += 1
            // Nearly all are small.
            for limit in [512, SealRecord.maximumCount] {
                let raw = try system { () throws(Errno) in
                    try disk.readBytes(
                        file, limit: min(limit, manifestCount - Int(entry.offset)),
                        at: SealHead.byteCount + Int(entry.offset))
                }
                do throws(FormatError) {
                    if let record = try SealRecord.parse(raw[...]).record, Self.check(path, record) == entry.check {
                        return record
                    }
                } catch {
                    // Not all of it; or not what it was, and then it is as if it were not there.
                }
            }
        }
        return nil
    }

    /// Whether something was sealed at a place.
    public func has(_ place: [StoredName]) throws(VaultError) -> Bool { try record(at: place) != nil }

    /// What a file was when it was found as sealed: any change makes it another.
    public struct Stamp: Equatable, Sendable {
        private let device: UInt64
        private let inode: UInt64
        private let stamp: FileStamp

        /// The stamp of a file's attributes.
        public init(_ status: stat) {
            device = UInt64(status.st_dev)
            inode = UInt64(status.st_ino)
            stamp = FileStamp(status)
        }
    }

    /// Throws where something of another type was sealed at a place, or nothing.
    public func verify(type mode: mode_t, at place: [StoredName]) throws(VaultError) {
        guard let record = try record(at: place) else { throw .damaged(Damage(.unsealed)) }
        guard mode_t(record.mode) & S_IFMT == mode & S_IFMT else { throw .damaged(Damage(.otherThanSealed)) }
    }

    /// Reads a file as a whole, unless that was done since it changed last, and throws where it is not what was sealed at its place. What it was then.
    @discardableResult
    public func verify(_ descriptor: Int32, at place: [StoredName]) throws(VaultError) -> Stamp {
        guard let record = try record(at: place), case .file(let size, let contents) = record.kind else {
            throw .damaged(Damage(.unsealed))
        }
        guard !record.isUnsure else { throw .damaged(Damage(.unsealed)) }
        let status = try system { () throws(Errno) in try disk.status(descriptor) }
        guard status.st_mode & S_IFMT == S_IFREG, UInt64(status.st_size) == size else {
            throw .damaged(Damage(.otherThanSealed))
        }
        let key = contents + Array(place.map(\.bytes).joined(separator: [UInt8(ascii: "/")]))
        if seen.withLock({ $0[key] == Stamp(status) }) { return Stamp(status) }
        let found = try FileHashing(disk: disk, verifyingWith: nil) { _ in }.hash(descriptor, isContent: false)
        guard !found.isUnsure, found.contents == contents, UInt64(found.status.st_size) == size else {
            throw .damaged(Damage(.otherThanSealed))
        }
        seen.withLock { seen in
            if seen.count >= Self.seenLimit { seen.removeAll() }
            seen[key] = Stamp(found.status)
        }
        return Stamp(found.status)
    }

    /// Throws where a link's text is not what was sealed at its place.
    public func verify(link text: [UInt8], at place: [StoredName]) throws(VaultError) {
        guard let record = try record(at: place) else { throw .damaged(Damage(.unsealed)) }
        guard record.kind == .link(text) else { throw .damaged(Damage(.otherThanSealed)) }
    }
}
