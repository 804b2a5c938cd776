import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// `coffer.log` in a vault's root: there while the vault is mounted for writing, or was when the machine stopped.
///
///     coffer.log/CACHEDIR.TAG   tells copy tools that they may leave the directory out
///     coffer.log/0, 1           the segments
///     coffer.log/left.ORDER.N   a segment of which not everything could be done yet
public final class LogDirectory: @unchecked Sendable {
    /// What the two segments may hold each, in bytes, unless told otherwise.
    public static let standardCapacity = 32 << 20
    static let segmentNames = [StoredName("0"), StoredName("1")]
    private static let tagName = StoredName("CACHEDIR.TAG")
    private static let tag = """
        Signature: 8a477f597d28d172789f06886806bc55
        # This directory holds the intent log of a mounted Coffer vault. A copy of the vault need not have it.

        """
    private static let leftPrefix = Array("left.".utf8)
    /// More are left for the next time.
    private static let leftLimit = 16

    private let disk: Disk
    private let rootDescriptor: Int32
    private let descriptor: Int32
    /// The log, ready to be written.
    public let log: IntentLog

    /// How a vault's log was opened.
    public struct Opening {
        /// Nil where there can be none.
        public let directory: LogDirectory?
        /// Why there can be none.
        public let trouble: VaultError?
        /// What recovery did; nil where there was nothing to recover.
        public let report: LogRecovery.Report?
    }

    /// Does what an earlier log says, and opens a new one. Nobody else may have the vault open for writing. The vault's root stays the caller's, and open for as
    /// long as this. Throws where an earlier log cannot be recovered from: then nothing may be written, for what it says would be done later, over newer files.
    public static func open(
        disk: Disk, ring: KeyRing, rootDescriptor: Int32, cipher: CipherSuite, capacity: Int = standardCapacity,
        scratch: Scratch
    ) throws(VaultError) -> Opening {
        let (report, order) = try recoverAll(disk, ring, rootDescriptor, cipher, scratch)
        do throws(VaultError) {
            let directory = try LogDirectory(disk, ring, rootDescriptor, capacity: capacity, order: order)
            return Opening(directory: directory, trouble: nil, report: report)
        } catch {
            return Opening(directory: nil, trouble: error, report: report)
        }
    }

    private init(
        _ disk: Disk, _ ring: KeyRing, _ rootDescriptor: Int32, capacity: Int, order: UInt64
    ) throws(VaultError) {
        self.disk = disk
        self.rootDescriptor = rootDescriptor
        let directory = try system { () throws(Errno) in try Self.makeDirectory(disk, rootDescriptor) }
        do throws(VaultError) {
            let segments = try Self.openSegments(disk, directory, flags: O_CREAT).map(\.descriptor)
            log = try IntentLog(
                disk: disk, ring: ring, rootDescriptor: rootDescriptor, descriptors: segments, capacity: capacity,
                order: order)
            try system { () throws(Errno) in
                try disk.syncEntries(directory)
                try Self.syncDirectory(disk, rootDescriptor)
            }
        } catch {
            // On a full disk every block counts.
            let removed: Result<Void, VaultError> = Result { () throws(VaultError) in
                try Self.remove(disk, rootDescriptor, directory)
            }
            disk.close(directory)
            // What cannot be removed has nothing to say, and the next mount does it.
            _ = removed
            throw error
        }
        descriptor = directory
    }

    deinit {
        disk.close(descriptor)
    }

    /// Does what a log that was left says, and removes it; nil where there is none.
    public static func recover(
        disk: Disk, ring: KeyRing, rootDescriptor: Int32, cipher: CipherSuite, scratch: Scratch
    ) throws(VaultError) -> LogRecovery.Report? {
        try recoverAll(disk, ring, rootDescriptor, cipher, scratch).report
    }

    private static func recoverAll(
        _ disk: Disk, _ ring: KeyRing, _ root: Int32, _ cipher: CipherSuite, _ scratch: Scratch
    ) throws(VaultError) -> (report: LogRecovery.Report?, order: UInt64) {
        guard isThere(disk: disk, rootDescriptor: root) else { return (nil, 0) }
        let directory = try system { () throws(Errno) in
            try disk.open(at: root, ReservedName.log.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        }
        defer { disk.close(directory) }
        let result = try recover(disk, ring, root, directory, cipher, scratch)
        // Whoever writes from now on must not find this one again, nor the older segment without the newer.
        let segments = try openSegments(disk, directory).map(\.descriptor)
        defer { for descriptor in segments { disk.close(descriptor) } }
        for index in try oldestFirst(segments, disk, ring) {
            try system { () throws(Errno) in
                try disk.write(segments[index], bytes: [UInt8](repeating: 0, count: LogSegment.headerCount))
                try disk.sync(segments[index], dataOnly: true)
            }
        }
        try remove(disk, root, directory)
        return result
    }

    /// The segments' indices, in the order in which they were begun.
    private static func oldestFirst(
        _ descriptors: [Int32], _ disk: Disk, _ ring: KeyRing
    ) throws(VaultError) -> [Int] {
        var orders: [UInt64] = []
        for descriptor in descriptors {
            let head = try system { () throws(Errno) in
                try disk.readBytes(descriptor, limit: LogSegment.headerCount)
            }
            orders.append(head.withUnsafeBytes { LogSegment.parse($0, ring: ring)?.header.order ?? 0 })
        }
        return orders.indices.sorted { orders[$0] < orders[$1] }
    }

    /// Whether a vault has a log: it is mounted for writing, or was not unmounted.
    public static func isThere(disk: Disk, rootDescriptor: Int32) -> Bool {
        do throws(Errno) {
            return try disk.status(at: rootDescriptor, ReservedName.log.cString).st_mode & S_IFMT == S_IFDIR
        } catch {
            return false
        }
    }

    /// Makes everything durable and removes the log: nobody writes any more.
    public func close() throws(VaultError) {
        try log.checkpoint()
        try Self.remove(disk, rootDescriptor, descriptor)
    }

    private static func makeDirectory(_ disk: Disk, _ root: Int32) throws(Errno) -> Int32 {
        do throws(Errno) {
            try keepingTimes(disk, root) { () throws(Errno) in
                try disk.makeDirectory(at: root, ReservedName.log.cString, mode: 0o700)
            }
        } catch {
            if error != .fileExists { throw error }
        }
        let directory = try disk.open(at: root, ReservedName.log.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        do throws(Errno) {
            let file = try disk.open(
                at: directory, tagName.cString, flags: O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, mode: 0o600)
            defer { disk.close(file) }
            try disk.write(file, bytes: Array(tag.utf8))
        } catch {
            // It is for copy tools, and nothing depends on it.
        }
        return directory
    }

    /// Whether a name in the log's directory is a regular file's.
    private static func isFile(_ disk: Disk, _ directory: Int32, _ name: StoredName) throws(Errno) -> Bool {
        try disk.status(at: directory, name.cString).st_mode & S_IFMT == S_IFREG
    }

    /// Runs what changes a directory that programs see, and not for them.
    private static func keepingTimes(_ disk: Disk, _ directory: Int32, _ body: () throws(Errno) -> Void) throws(Errno) {
        let before = try disk.status(directory)
        try body()
        try disk.setTimes(directory, access: before.st_atim, modification: before.st_mtim)
    }

    private static func syncDirectory(_ disk: Disk, _ directory: Int32) throws(Errno) {
        let descriptor = try disk.open(at: directory, ".", flags: O_RDONLY | O_DIRECTORY)
        defer { disk.close(descriptor) }
        try disk.syncEntries(descriptor)
    }

    private static func openSegments(
        _ disk: Disk, _ directory: Int32, flags: Int32 = 0
    ) throws(VaultError) -> [(name: StoredName, descriptor: Int32)] {
        var result: [(StoredName, Int32)] = []
        for name in segmentNames {
            do throws(Errno) {
                if flags & O_CREAT == 0 {
                    let isSegment = try isFile(disk, directory, name)
                    if !isSegment { continue }
                }
                result.append(
                    (
                        name,
                        try disk.open(
                            at: directory, name.cString, flags: O_RDWR | O_NOFOLLOW | O_NONBLOCK | flags, mode: 0o600)
                    ))
            } catch {
                if error == .noSuchFileOrDirectory { continue }
                for (_, descriptor) in result { disk.close(descriptor) }
                throw .system(error)
            }
        }
        return result
    }

    private static func recover(
        _ disk: Disk, _ ring: KeyRing, _ root: Int32, _ directory: Int32, _ cipher: CipherSuite, _ scratch: Scratch
    ) throws(VaultError) -> (LogRecovery.Report?, UInt64) {
        let segments = try openSegments(disk, directory)
        defer { for (_, descriptor) in segments { disk.close(descriptor) } }
        var left: [(name: StoredName, descriptor: Int32)] = []
        defer { for (_, descriptor) in left { disk.close(descriptor) } }
        for name in try leftNames(disk, directory) {
            let isSegment = try system { () throws(Errno) in try isFile(disk, directory, name) }
            guard isSegment else { continue }
            left.append(
                (
                    name,
                    try system { () throws(Errno) in
                        try disk.open(at: directory, name.cString, flags: O_RDWR | O_NOFOLLOW | O_NONBLOCK)
                    }
                ))
        }
        if segments.isEmpty && left.isEmpty { return (nil, 0) }
        var recovery = LogRecovery(disk: disk, ring: ring, rootDescriptor: root, cipher: cipher, scratch: scratch)
        let order = try recovery.recover(segments.map(\.descriptor), leftovers: left.map(\.descriptor))
        try system { () throws(Errno) in
            if recovery.report.isUnfinished {
                // What could not be done is tried again, when the system may be in a better mood; only what says something is kept.
                for (number, segment) in segments.enumerated() {
                    try disk.truncate(segment.descriptor, to: recovery.end(of: number))
                    let name = StoredName(leftPrefix + Array("\(order).\(number)".utf8))
                    try disk.rename(from: directory, segment.name.cString, to: directory, name.cString)
                }
                try disk.syncEntries(directory)
            } else {
                for (name, _) in left { try disk.remove(at: directory, name.cString) }
            }
        }
        return (recovery.hasFound ? recovery.report : nil, order)
    }

    private static func leftNames(_ disk: Disk, _ directory: Int32) throws(VaultError) -> [StoredName] {
        var names: [StoredName] = []
        let listing = try system { () throws(Errno) in
            try disk.open(at: directory, ".", flags: O_RDONLY | O_DIRECTORY)
        }
        defer { disk.close(listing) }
        try RawDirectory(disk: disk, descriptor: listing).forEach { name, _ in
            if name.starts(with: leftPrefix) { names.append(StoredName(name)) }
            return names.count < leftLimit
        }
        return names
    }

    private static func remove(_ disk: Disk, _ root: Int32, _ directory: Int32) throws(VaultError) {
        try system { () throws(Errno) in
            for name in segmentNames + [tagName] {
                do throws(Errno) {
                    try disk.remove(at: directory, name.cString)
                } catch {
                    if error != .noSuchFileOrDirectory { throw error }
                }
            }
            do throws(Errno) {
                try keepingTimes(disk, root) { () throws(Errno) in
                    try disk.remove(at: root, ReservedName.log.cString, directory: true)
                }
            } catch {
                // What could not be done yet stays.
                if error != .directoryNotEmpty && error != .fileExists { throw error }
            }
        }
    }
}
