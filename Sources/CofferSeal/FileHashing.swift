import CofferCrypto
import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// One thread's hashing of stored files.
final class FileHashing {
    /// What a file was, while nobody changed it.
    struct Result: Sendable {
        var status: stat
        var attributes: [UInt8]?
        var contents: [UInt8]
        /// It was written to each time: `contents` are zeros.
        var isUnsure = false
        /// It was not read: `contents` are zeros.
        var isTooLarge = false
        /// Blocks of it do not verify; false where nobody looked.
        var isDamaged = false
        /// When reading it began; nanoseconds since 1970.
        var readAt: Int64
    }

    /// So often a file that changes is read again.
    private static let patience = 5
    private static let pause: useconds_t = 10_000
    /// Larger ones, which are holes, would take days: 64 TiB.
    static let sizeLimit = 1 << 46

    private let disk: Disk
    private let ring: KeyRing?
    private let scratch: Scratch?
    private let buffer: UnsafeMutableRawPointer
    private let onBytes: (Int) -> Void
    // Read, and not told yet: telling takes as long as hashing a small file.
    private var untold = 0
    private static let tellsAt = 1 << 20

    /// With a ring, what is read is verified, too.
    init(disk: Disk, verifyingWith ring: KeyRing?, onBytes: @escaping (Int) -> Void) throws(VaultError) {
        self.disk = disk
        self.ring = ring
        self.onBytes = onBytes
        do throws(CryptoError) {
            scratch = ring == nil ? nil : try Scratch()
        } catch {
            throw .cryptography
        }
        buffer = .allocate(byteCount: ContentHash.partCount, alignment: 4096)
    }

    deinit { buffer.deallocate() }

    /// Opens a file for this.
    static func open(disk: Disk, _ name: [UInt8], in directory: Int32) throws(VaultError) -> Int32 {
        let name = StoredName(name)
        return try system { () throws(Errno) in
            do throws(Errno) {
                return try disk.open(
                    at: directory, name.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK, withoutAccessTime: true)
            } catch {
                guard error == .permissionDenied else { throw error }
            }
            // A mode may keep even the owner out.
            let object = try disk.open(at: directory, name.cString, flags: Disk.pathOnly | O_NOFOLLOW)
            defer { disk.close(object) }
            guard try disk.status(object).st_mode & S_IFMT == S_IFREG else { throw .staleNFSFileHandle }
            return try disk.withMode(0o400, of: object) { () throws(Errno) in
                try disk.reopen(object, flags: O_RDONLY | O_NONBLOCK, withoutAccessTime: true)
            }
        }
    }

    /// Tells what was read.
    func tell() {
        if untold > 0 { onBytes(untold) }
        untold = 0
    }

    /// Reads a file as a whole, again where it changes meanwhile. `isContent` where it should be an encrypted file. What has more than `limit` bytes is not read.
    func hash(_ descriptor: Int32, isContent: Bool, limit: Int = .max) throws(VaultError) -> Result {
        var attempt = 0
        while true {
            let began = SealTime.now
            let before = try system { () throws(Errno) in try disk.status(descriptor) }
            guard before.st_mode & S_IFMT == S_IFREG else { throw .system(.staleNFSFileHandle) }
            let attributes = try StoredAttributes.hash(disk: disk, descriptor)
            guard before.st_size <= limit else {
                return Result(
                    status: before, attributes: attributes,
                    contents: [UInt8](repeating: 0, count: RunningHash.byteCount), isTooLarge: true, readAt: began)
            }
            guard before.st_size <= Self.sizeLimit else {
                return Result(
                    status: before, attributes: attributes,
                    contents: [UInt8](repeating: 0, count: RunningHash.byteCount), isUnsure: true, readAt: began)
            }
            let hash = ContentHash(size: before.st_size)
            var isComplete = true
            var part = 0
            while part < ContentHash.parts(ofSize: before.st_size) {
                let count = min(Self.groupParts, ContentHash.parts(ofSize: before.st_size) - part)
                guard let hashes = try parts(descriptor, part..<(part + count), size: before.st_size) else {
                    isComplete = false
                    break
                }
                hashes.withUnsafeBytes { hash.add($0) }
                part += count
            }
            let isDamaged = isComplete && isContent ? try !verifies(descriptor, before) : false
            let after = try system { () throws(Errno) in try disk.status(descriptor) }
            attempt += 1
            // Damage is looked at twice: somebody may be in the middle of a write.
            if isComplete && FileStamp(before) == FileStamp(after) && (!isDamaged || attempt > 1) {
                return Result(
                    status: after, attributes: attributes, contents: hash.finish(), isDamaged: isDamaged,
                    readAt: began)
            }
            if attempt == Self.patience {
                return Result(
                    status: after, attributes: attributes,
                    contents: [UInt8](repeating: 0, count: RunningHash.byteCount), isUnsure: true, readAt: began)
            }
            usleep(Self.pause)
        }
    }

    /// Parts that one thread takes of a large file.
    static let groupParts = 16

    /// The hashes of some parts of a file; nil where it is shorter by now.
    func parts(_ descriptor: Int32, _ range: Range<Int>, size: Int) throws(VaultError) -> [UInt8]? {
        var output = [UInt8](repeating: 0, count: range.count * RunningHash.byteCount)
        let isComplete = try output.withUnsafeMutableBytes { output in
            Swift.Result { () throws(VaultError) in try parts(descriptor, range, size: size, into: output) }
        }.get()
        return isComplete ? output : nil
    }

    private func parts(
        _ descriptor: Int32, _ range: Range<Int>, size: Int, into output: UnsafeMutableRawBufferPointer
    ) throws(VaultError) -> Bool {
        guard let base = output.baseAddress else { return true }
        // Where the next data begins, as far as that is known.
        var data = 0
        for part in range {
            let start = part * ContentHash.partCount
            let count = min(ContentHash.partCount, size - start)
            let target = base + (part - range.lowerBound) * RunningHash.byteCount
            if count == ContentHash.partCount {
                if data <= start { data = try nextData(descriptor, from: start) }
                if data >= start + count {
                    target.copyMemory(from: ContentHash.zeroPart, byteCount: RunningHash.byteCount)
                    continue
                }
            }
            let got = try system { () throws(Errno) in
                try disk.read(descriptor, into: buffer, count: count, at: start)
            }
            guard got == count else { return false }
            RunningHash.hash(UnsafeRawBufferPointer(start: buffer, count: count), into: target)
            untold += count
            if untold >= Self.tellsAt { tell() }
        }
        return true
    }

    private func nextData(_ descriptor: Int32, from offset: Int) throws(VaultError) -> Int {
        do throws(Errno) {
            return try disk.nextData(descriptor, from: offset) ?? Int.max
        } catch {
            // A file system that does not tell where its holes are.
            if error == .invalidArgument || error == .notSupported { return offset }
            throw .system(error)
        }
    }

    /// Whether every block of an encrypted file verifies; true where there is no key to tell.
    func verifies(_ descriptor: Int32, _ status: stat) throws(VaultError) -> Bool {
        guard let ring, let scratch else { return true }
        var check = FileCheck(disk: disk, ring: ring, scratch: scratch)
        do throws(VaultError) {
            return try check.run(descriptor, storedSize: status.st_size, contents: true).isEmpty
        } catch {
            if case .damaged = error { return false }
            throw error
        }
    }
}
