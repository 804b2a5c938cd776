import CofferCrypto
import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// What this machine knows of a vault's files since it sealed them last, so that what did not change need not be read again. It is trusted, and no part of
/// the vault.
///
///     "COFSEALC" ‖ u32(version) ‖ manifest, each record behind a byte 1 ‖ u64(device) ‖ u64(inode) ‖ i64(time of change) ‖ i64(when it was read) ‖ BLAKE2b-256 of all
///
/// A record without its entry's status (a directory's, say) has zeros there.
final class SealCache {
    static let prefixCount = 33
    /// What no end begins with.
    private static let mark: UInt8 = 1
    private static let magic = Array("COFSEALC".utf8) + [1, 0, 0, 0]
    /// What was changed so shortly before it was read may have been changed after, without its time telling; nanoseconds.
    private static let doubt: Int64 = 2_000_000_000

    private let disk: Disk
    private let descriptor: Int32
    private let cursor: SealCursor

    /// The cache in a file; nil where it is damaged, or none.
    init?(disk: Disk, path: String) {
        self.disk = disk
        do throws(Errno) {
            descriptor = try disk.open(at: AT_FDCWD, path, flags: O_RDONLY | O_NOFOLLOW)
        } catch {
            return nil
        }
        do throws(VaultError) {
            guard let count = try Self.manifestCount(disk, descriptor) else { throw .damaged(Damage(.seal)) }
            cursor = try SealCursor(
                disk: disk, descriptor: descriptor, start: Self.magic.count, count: count,
                prefixCount: Self.prefixCount)
        } catch {
            disk.close(descriptor)
            return nil
        }
    }

    deinit { disk.close(descriptor) }

    /// Nil where the file is not one that was finished.
    private static func manifestCount(_ disk: Disk, _ descriptor: Int32) throws(VaultError) -> Int? {
        do throws(Errno) {
            let size = Int(try disk.status(descriptor).st_size)
            let count = size - magic.count - RunningHash.byteCount
            guard count > 0, try disk.readBytes(descriptor, limit: magic.count) == magic else { return nil }
            let hash = RunningHash()
            var offset = 0
            while offset < size - RunningHash.byteCount {
                let part = try disk.readBytes(
                    descriptor, limit: min(1 << 20, size - RunningHash.byteCount - offset), at: offset)
                if part.isEmpty { return nil }
                hash.update(part)
                offset += part.count
            }
            let wanted = try disk.readBytes(descriptor, limit: RunningHash.byteCount, at: offset)
            return wanted == hash.finish() ? count : nil
        } catch {
            throw .system(error)
        }
    }

    // MARK: Beside a walk

    // Directories that the walk is in and the cache has not.
    private var unknown = 0

    /// The walk goes into a directory.
    func enter(_ name: [UInt8]) throws(VaultError) {
        guard unknown == 0, try find(name)?.record.isDirectory == true else {
            unknown += 1
            return
        }
        try cursor.enter()
    }

    /// The walk leaves a directory.
    func leave() throws(VaultError) {
        if unknown > 0 { unknown -= 1 } else { try cursor.leave() }
    }

    /// What is known of an entry that is the same still.
    func record(of name: [UInt8], _ status: stat) throws(VaultError) -> SealRecord? {
        guard unknown == 0, let item = try find(name), item.record.mode == status.st_mode else { return nil }
        let record = item.record
        guard case .file(let size, _) = record.kind, !record.isUnsure, !record.isDamaged,
            size == UInt64(status.st_size), record.time == SealTime.nanoseconds(status.st_mtim),
            record.owner == status.st_uid, record.group == status.st_gid
        else { return nil }
        let wanted = Self.prefix(status, readAt: 0)
        let changed = SealTime.nanoseconds(status.st_ctim)
        let readAt = item.prefix.withUnsafeBytes {
            Int64(littleEndian: $0.loadUnaligned(fromByteOffset: 25, as: Int64.self))
        }
        guard item.prefix.prefix(25).elementsEqual(wanted.prefix(25)), changed < readAt - Self.doubt else {
            return nil
        }
        return record
    }

    private func find(_ name: [UInt8]) throws(VaultError) -> SealCursor.Item? {
        while let item = cursor.item, item.record.name.lexicographicallyPrecedes(name) { try cursor.skip() }
        guard let item = cursor.item, item.record.name == name else { return nil }
        return item
    }

    /// What is kept before the record of something of which nothing is.
    static let noPrefix = [mark] + [UInt8](repeating: 0, count: prefixCount - 1)

    static func prefix(_ status: stat, readAt: Int64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(prefixCount)
        bytes.append(mark)
        let changed = UInt64(bitPattern: SealTime.nanoseconds(status.st_ctim))
        for number in [UInt64(status.st_dev), UInt64(status.st_ino), changed, UInt64(bitPattern: readAt)] {
            withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
        }
        return bytes
    }

    /// A cache being written: what it is not finished with is no cache.
    final class Writer {
        private let disk: Disk
        private let path: String
        private let descriptor: Int32
        private let hash = RunningHash()
        private var buffer: [UInt8] = SealCache.magic
        private var offset = 0
        private var isFinished = false

        /// A new file beside `path`.
        init(disk: Disk, path: String) throws(Errno) {
            self.disk = disk
            self.path = path
            descriptor = try disk.open(
                at: AT_FDCWD, path + ".new", flags: O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o600)
        }

        deinit {
            disk.close(descriptor)
            if isFinished { return }
            // What it could not be finished with is of no use; where it stays, the next one is written over it.
            _ = Result { () throws(Errno) in try disk.remove(at: AT_FDCWD, path + ".new") }
        }

        func add(_ bytes: [UInt8]) throws(Errno) {
            buffer += bytes
            if buffer.count >= 1 << 18 { try flush() }
        }

        private func flush() throws(Errno) {
            hash.update(buffer)
            try disk.write(descriptor, bytes: buffer, at: offset)
            offset += buffer.count
            buffer.removeAll(keepingCapacity: true)
        }

        /// Puts it in place. It need not survive a power cut.
        func finish() throws(Errno) {
            try flush()
            try disk.write(descriptor, bytes: hash.finish(), at: offset)
            try disk.rename(from: AT_FDCWD, path + ".new", to: AT_FDCWD, path)
            isFinished = true
        }
    }
}

/// Times as a seal has them.
public enum SealTime {
    /// Nanoseconds since 1970.
    public static func nanoseconds(_ time: timespec) -> Int64 {
        Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
    }

    /// Now.
    public static var now: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return nanoseconds(time)
    }
}
