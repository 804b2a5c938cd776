import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// A manifest being written behind the place of its head, and hashed; and, if there is to be one, the cache with it.
final class ManifestWriter {
    private static let roomCount = 1 << 18

    private let disk: Disk
    private let descriptor: Int32
    private var cache: SealCache.Writer?
    private var tree = SealTree()
    private var buffer: [UInt8] = []
    /// Bytes of the manifest so far.
    private(set) var count = 0
    /// Records so far, without the root's.
    private(set) var entries = 0
    /// The sizes of the files so far.
    private(set) var bytes = 0

    /// A manifest in a file that is the caller's.
    init(disk: Disk, descriptor: Int32, cache: SealCache.Writer?) {
        self.disk = disk
        self.descriptor = descriptor
        self.cache = cache
    }

    /// Adds a record. With a status, what it says is known for the next time, too.
    func add(_ record: SealRecord, _ status: stat?, readAt: Int64) throws(VaultError) {
        let raw = record.encoded
        raw.withUnsafeBytes { tree.add($0, isDirectory: record.isDirectory) }
        if !record.name.isEmpty { entries += 1 }
        if case .file(let size, _) = record.kind { bytes &+= Int(truncatingIfNeeded: size) }
        try append(raw)
        remember((status.map { SealCache.prefix($0, readAt: readAt) } ?? SealCache.noPrefix) + raw)
    }

    /// Ends a directory.
    func end() throws(VaultError) {
        tree.end()
        try append([SealRecord.end])
        remember([SealRecord.end])
    }

    /// Writes what is left. What everything hashes to.
    func finish() throws(VaultError) -> [UInt8] {
        try flush()
        return tree.root()
    }

    /// Puts the cache in place: only once the seal is.
    func keepCache() throws(Errno) { try cache?.finish() }

    private func append(_ raw: [UInt8]) throws(VaultError) {
        buffer += raw
        if buffer.count >= Self.roomCount { try flush() }
    }

    private func flush() throws(VaultError) {
        try system { () throws(Errno) in
            try disk.write(descriptor, bytes: buffer, at: SealHead.byteCount + count)
        }
        count += buffer.count
        buffer.removeAll(keepingCapacity: true)
    }

    /// A cache that cannot be written is none: the next time everything is read.
    private func remember(_ raw: [UInt8]) {
        do throws(Errno) {
            try cache?.add(raw)
        } catch {
            cache = nil
        }
    }
}
