import CLinux
import Glibc
import SystemPackage

/// The one room for system calls that touch a vault.
///
/// The class makes the real calls; a test replaces it by overriding. Descriptors are plain numbers, so that a simulated disk can
/// hand out its own. Names are C strings relative to a directory's descriptor. Every method reads `errno` at once, retries `EINTR`
/// and throws the `Errno` otherwise.
open class Disk: @unchecked Sendable {
    /// How a rename treats an existing target.
    public enum RenameMode: UInt32, Sendable {
        /// The target is replaced.
        case replace = 0
        /// An existing target is an error.
        case noReplace = 1
        /// Both exist and change places.
        case exchange = 2
    }

    /// Syncs of directories wait for them, see `Disk+Entries.swift`.
    let syncsUnderWay = SyncsUnderWay()

    /// The host's own file system.
    public init() {}

    // MARK: Descriptors

    /// openat(2), always with `O_CLOEXEC`.
    open func open(
        at directory: Int32, _ name: UnsafePointer<CChar>, flags: Int32, mode: mode_t = 0
    ) throws(Errno) -> Int32 {
        try check { coffer_openat(directory, name, flags | O_CLOEXEC, mode) }
    }

    /// Opens what a descriptor (an `O_PATH` one will do) names once more, always with `O_CLOEXEC`.
    open func reopen(_ descriptor: Int32, flags: Int32) throws(Errno) -> Int32 {
        try check { coffer_reopen(descriptor, flags | O_CLOEXEC) }
    }

    /// close(2). Errors are of no use to a caller that has synced or does not care, so none are reported.
    open func close(_ descriptor: Int32) {
        _ = Glibc.close(descriptor)
    }

    /// dup3(2): makes `target` refer to what `source` refers to, atomically.
    open func replace(_ target: Int32, with source: Int32) throws(Errno) {
        try check { coffer_dup3(source, target, O_CLOEXEC) }
    }

    /// fcntl(F_DUPFD_CLOEXEC).
    open func duplicate(_ descriptor: Int32) throws(Errno) -> Int32 {
        try check { coffer_fcntl_int(descriptor, F_DUPFD_CLOEXEC, 0) }
    }

    /// flock(2) without waiting; false where somebody else holds a lock that excludes it.
    open func tryLock(_ descriptor: Int32, exclusive: Bool) throws(Errno) -> Bool {
        do throws(Errno) {
            try check { flock(descriptor, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) }
            return true
        } catch {
            if error == .wouldBlock { return false }
            throw error
        }
    }

    /// flock(2), waiting for whoever holds one that excludes it; false where the file system has no locks.
    open func waitForLock(_ descriptor: Int32, exclusive: Bool) throws(Errno) -> Bool {
        do throws(Errno) {
            try check { flock(descriptor, exclusive ? LOCK_EX : LOCK_SH) }
            return true
        } catch {
            if error == .notSupported || error == .noLocks || error == .badFileDescriptor { return false }
            throw error
        }
    }

    /// Gives back what ``waitForLock(_:exclusive:)`` got.
    open func releaseLock(_ descriptor: Int32) {
        flock(descriptor, LOCK_UN)
    }

    // MARK: Contents

    /// pread(2) until `buffer` is full or the file ends; the number of bytes read.
    open func read(
        _ descriptor: Int32, into buffer: UnsafeMutableRawPointer, count: Int, at offset: Int
    ) throws(Errno) -> Int {
        var done = 0
        while done < count {
            let got = readOnce(descriptor, buffer + done, count - done, offset + done)
            if got > 0 {
                done += got
            } else if got == 0 {
                break
            } else if errno != EINTR {
                throw Errno(rawValue: errno)
            }
        }
        return done
    }

    /// pwrite(2) until all of `buffer` is written.
    open func write(
        _ descriptor: Int32, _ buffer: UnsafeRawPointer, count: Int, at offset: Int
    ) throws(Errno) {
        var done = 0
        while done < count {
            let put = writeOnce(descriptor, buffer + done, count - done, offset + done)
            if put >= 0 {
                done += put
            } else if errno != EINTR {
                throw Errno(rawValue: errno)
            }
        }
    }

    /// One pread(2), which may bring less than was asked for: -1 and errno where it failed.
    open func readOnce(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer, _ count: Int, _ offset: Int) -> Int {
        Glibc.pread(descriptor, buffer, count, offset)
    }

    /// One pwrite(2), likewise.
    open func writeOnce(_ descriptor: Int32, _ buffer: UnsafeRawPointer, _ count: Int, _ offset: Int) -> Int {
        Glibc.pwrite(descriptor, buffer, count, offset)
    }

    /// ftruncate(2).
    open func truncate(_ descriptor: Int32, to size: Int) throws(Errno) {
        try check { ftruncate(descriptor, size) }
    }

    /// posix_fadvise(2): what was read or written is read from the disk the next time. Only advice.
    open func forgetCached(_ descriptor: Int32) {
        _ = posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
    }

    /// fallocate(2).
    open func allocate(_ descriptor: Int32, mode: Int32, offset: Int, length: Int) throws(Errno) {
        try check { coffer_fallocate(descriptor, mode, offset, length) }
    }

    /// fsync(2), or fdatasync(2) where `dataOnly`.
    open func sync(_ descriptor: Int32, dataOnly: Bool = false) throws(Errno) {
        let number = syncsUnderWay.begin()
        defer { syncsUnderWay.end(number) }
        try check { syncOnce(descriptor, dataOnly) }
    }

    /// The bare call, which may be interrupted.
    open func syncOnce(_ descriptor: Int32, _ dataOnly: Bool) -> Int32 {
        dataOnly ? fdatasync(descriptor) : fsync(descriptor)
    }

    /// How long a sync of a directory waits for others, in microseconds. One that takes longer writes its data for most of that time, and looks at directories after that.
    open var syncPatience: Int { 100_000 }

    /// Makes the entries of a directory durable: fsync(2), and on Btrfs what makes that do so.
    open func syncEntries(_ directory: Int32) throws(Errno) {
        if passesOverDirectories(directory) { try prepareSync(of: directory) }
        try sync(directory)
    }

    /// syncfs(2): everything of the file system that a descriptor is on.
    open func syncFileSystem(_ descriptor: Int32) throws(Errno) {
        try check { coffer_syncfs(descriptor) }
    }

    /// lseek(2) with `SEEK_DATA`: the first offset at or after `offset` that may hold data; nil at the end of the file.
    open func nextData(_ descriptor: Int32, from offset: Int) throws(Errno) -> Int? {
        try seek(descriptor, offset, COFFER_SEEK_DATA)
    }

    /// lseek(2) with `SEEK_HOLE`; nil past the end of the file.
    open func nextHole(_ descriptor: Int32, from offset: Int) throws(Errno) -> Int? {
        try seek(descriptor, offset, COFFER_SEEK_HOLE)
    }

    private func seek(_ descriptor: Int32, _ offset: Int, _ whence: Int32) throws(Errno) -> Int? {
        let result = lseek(descriptor, offset, whence)
        if result >= 0 { return Int(result) }
        let code = errno
        if code == ENXIO { return nil }
        throw Errno(rawValue: code)
    }

    // MARK: Attributes

    /// fstat(2).
    open func status(_ descriptor: Int32) throws(Errno) -> stat {
        var result = stat()
        try check { fstat(descriptor, &result) }
        return result
    }

    /// fstatat(2) without following a symbolic link.
    open func status(at directory: Int32, _ name: UnsafePointer<CChar>) throws(Errno) -> stat {
        var result = stat()
        try check { fstatat(directory, name, &result, AT_SYMLINK_NOFOLLOW) }
        return result
    }

    /// statx(2): when what a name stands for was made, or, with an empty name, what the descriptor stands for. Where the file system does not remember that,
    /// when it was changed last, and `isExact` is false.
    open func birthTime(
        at directory: Int32, _ name: UnsafePointer<CChar>
    ) throws(Errno) -> (time: timespec, isExact: Bool) {
        var (seconds, nanoseconds) = (Int64(0), Int64(0))
        let result = try check { coffer_birth_time(directory, name, &seconds, &nanoseconds) }
        return (timespec(tv_sec: Int(seconds), tv_nsec: Int(nanoseconds)), result == 0)
    }

    /// Whether entries come to the disk in the order in which they were made, whatever is synced: so on file systems with one journal for all of them (ext3, ext4,
    /// XFS), and where there is no disk. One of ext4's kind without a journal cannot be told from those. Btrfs writes what a sync of one file needs, and leaves out what was made before.
    open func keepsEntryOrder(_ descriptor: Int32) -> Bool {
        [0xEF53, 0x5846_5342, 0x0102_1994].contains(coffer_file_system_type(descriptor))
    }

    /// Whether fsync(2) of a directory may do nothing though something was made there: so on Btrfs.
    open func passesOverDirectories(_ directory: Int32) -> Bool { coffer_file_system_type(directory) == 0x9123_683E }

    /// Whether an object keeps its inode number when the file system is mounted anew: not so on FAT and exFAT, which have none.
    open func keepsInodeNumbers(_ descriptor: Int32) -> Bool {
        ![0x4D44, 0x2011_BAB0].contains(coffer_file_system_type(descriptor))
    }

    /// Whether every change of an object changes its time of change: not so on FAT and exFAT, nor surely where another machine or program keeps the files (FUSE, SMB).
    open func keepsChangeTimes(_ descriptor: Int32) -> Bool {
        ![0x4D44, 0x2011_BAB0, 0x6573_5546, 0x517B, 0xFF53_4D42, 0xFE53_4D42].contains(
            UInt64(UInt32(truncatingIfNeeded: coffer_file_system_type(descriptor))))
    }

    /// fstatvfs(2).
    open func fileSystemStatus(_ descriptor: Int32) throws(Errno) -> statvfs {
        var result = statvfs()
        try check { fstatvfs(descriptor, &result) }
        return result
    }

    /// chmod(2) of what an `O_PATH` descriptor names.
    open func setMode(_ descriptor: Int32, _ mode: mode_t) throws(Errno) {
        try check { coffer_chmod(descriptor, mode) }
    }

    /// fchownat(2) of what a descriptor names, symbolic links included. `UInt32.max` leaves an owner or group as it is.
    open func setOwner(_ descriptor: Int32, user: uid_t, group: gid_t) throws(Errno) {
        try check { fchownat(descriptor, "", user, group, COFFER_AT_EMPTY_PATH) }
    }

    /// For ``setTimes(_:access:modification:)``: a time that stays as it is.
    public static let unchangedTime = timespec(tv_sec: 0, tv_nsec: Int(COFFER_UTIME_OMIT))

    /// Likewise: the present one.
    public static let presentTime = timespec(tv_sec: 0, tv_nsec: Int(COFFER_UTIME_NOW))

    /// utimensat(2) of what a descriptor names, symbolic links included.
    open func setTimes(_ descriptor: Int32, access: timespec, modification: timespec) throws(Errno) {
        let times = [access, modification]
        try check { utimensat(descriptor, "", times, COFFER_AT_EMPTY_PATH) }
    }

    // MARK: Directory entries

    /// mkdirat(2).
    open func makeDirectory(at directory: Int32, _ name: UnsafePointer<CChar>, mode: mode_t) throws(Errno) {
        try check { mkdirat(directory, name, mode) }
    }

    /// mknodat(2).
    open func makeNode(at directory: Int32, _ name: UnsafePointer<CChar>, mode: mode_t, device: dev_t) throws(Errno) {
        try check { mknodat(directory, name, mode, device) }
    }

    /// symlinkat(2).
    open func makeLink(at directory: Int32, _ name: UnsafePointer<CChar>, target: UnsafePointer<CChar>) throws(Errno) {
        try check { symlinkat(target, directory, name) }
    }

    /// linkat(2) between two names, not following symbolic links.
    open func hardLink(
        from source: Int32, _ name: UnsafePointer<CChar>, to target: Int32, _ newName: UnsafePointer<CChar>
    ) throws(Errno) {
        try check { linkat(source, name, target, newName, 0) }
    }

    /// renameat2(2).
    open func rename(
        from source: Int32, _ name: UnsafePointer<CChar>, to target: Int32, _ newName: UnsafePointer<CChar>,
        mode: RenameMode = .replace
    ) throws(Errno) {
        try check { coffer_renameat2(source, name, target, newName, mode.rawValue) }
    }

    /// unlinkat(2); with `directory`, rmdir(2).
    open func remove(at parent: Int32, _ name: UnsafePointer<CChar>, directory: Bool = false) throws(Errno) {
        try check { unlinkat(parent, name, directory ? AT_REMOVEDIR : 0) }
    }

    /// readlinkat(2): the number of bytes put into `buffer`.
    open func readLink(
        at directory: Int32, _ name: UnsafePointer<CChar>, into buffer: UnsafeMutableBufferPointer<CChar>
    ) throws(Errno) -> Int {
        guard let base = buffer.baseAddress else { return 0 }
        return try check { readlinkat(directory, name, base, buffer.count) }
    }

    /// getdents64(2): fills `buffer` with raw `linux_dirent64` records; 0 at the end.
    open func readDirectory(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) throws(Errno) -> Int {
        guard let base = buffer.baseAddress else { return 0 }
        return Int(try check { coffer_getdents64(descriptor, base, buffer.count) })
    }

    /// Sets a directory stream to a position that a record's `d_off` gave, or to 0.
    open func seekDirectory(_ descriptor: Int32, to position: Int) throws(Errno) {
        try check { lseek(descriptor, position, SEEK_SET) }
    }

    // MARK: Extended attributes, of what a descriptor (an `O_PATH` one too) names

    /// getxattr(2): the value's length; with an empty buffer, the length it would have.
    open func attribute(
        _ descriptor: Int32, _ name: UnsafePointer<CChar>, into buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int {
        try check { coffer_getxattr(descriptor, name, buffer.baseAddress, buffer.count) }
    }

    /// setxattr(2).
    open func setAttribute(
        _ descriptor: Int32, _ name: UnsafePointer<CChar>, _ value: UnsafeRawBufferPointer, flags: Int32
    ) throws(Errno) {
        try check { coffer_setxattr(descriptor, name, value.baseAddress, value.count, flags) }
    }

    /// listxattr(2): the length of the list of NUL-terminated names; with an empty buffer, the length it would have.
    open func listAttributes(
        _ descriptor: Int32, into buffer: UnsafeMutableBufferPointer<CChar>
    ) throws(Errno) -> Int {
        try check { coffer_listxattr(descriptor, buffer.baseAddress, buffer.count) }
    }

    /// removexattr(2).
    open func removeAttribute(_ descriptor: Int32, _ name: UnsafePointer<CChar>) throws(Errno) {
        try check { coffer_removexattr(descriptor, name) }
    }

    // MARK: Helpers of this room

    /// Calls `body` until it does not fail with `EINTR`, and throws its error.
    @discardableResult
    @inline(__always)
    final func check<Number: SignedInteger>(_ body: () -> Number) throws(Errno) -> Number {
        while true {
            let result = body()
            if result >= 0 { return result }
            let code = errno
            if code != EINTR { throw Errno(rawValue: code) }
        }
    }
}
