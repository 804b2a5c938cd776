import CLinux
import Glibc
import SystemPackage

/// An open file of the test itself, closed when the test lets go of it.
///
/// Every call throws the system's own error.
final class OpenFile: Sendable {
    let descriptor: Int32

    init(_ path: String, _ flags: Int32 = O_RDWR, mode: mode_t = 0o644) throws(Errno) {
        descriptor = open(path, flags | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    }

    deinit {
        close(descriptor)
    }

    /// Up to `count` bytes at an offset.
    func read(_ count: Int, at offset: Int = 0) throws(Errno) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let got = bytes.withUnsafeMutableBytes { bytes in
                pread(descriptor, bytes.baseAddress?.advanced(by: done), count - done, offset + done)
            }
            guard got >= 0 else { throw Errno(rawValue: errno) }
            if got == 0 { break }
            done += got
        }
        return Array(bytes.prefix(done))
    }

    /// Everything in the file.
    func readAll() throws(Errno) -> [UInt8] {
        // One more than there should be, so that a file longer than its size shows.
        try read(Int(try status().st_size) + 1)
    }

    /// Writes all of `bytes` at an offset.
    func write(_ bytes: [UInt8], at offset: Int = 0) throws(Errno) {
        guard pwrite(descriptor, bytes, bytes.count, offset) == bytes.count else { throw Errno(rawValue: errno) }
    }

    /// Writes all of `bytes` where the file stands, at its end with O_APPEND.
    func append(_ bytes: [UInt8]) throws(Errno) {
        guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else { throw Errno(rawValue: errno) }
    }

    func sync() throws(Errno) { try check(fsync(descriptor)) }

    func truncate(to size: Int) throws(Errno) { try check(ftruncate(descriptor, size)) }

    func allocate(_ mode: Int32, at offset: Int, count: Int) throws(Errno) {
        try check(coffer_fallocate(descriptor, mode, offset, count))
    }

    /// lseek(2); nil where there is no more data or hole.
    func seek(_ offset: Int, _ whence: Int32) throws(Errno) -> Int? {
        let position = lseek(descriptor, offset, whence)
        if position < 0 && errno == ENXIO { return nil }
        try check(Int32(position < 0 ? -1 : 0))
        return position
    }

    func status() throws(Errno) -> stat {
        var status = stat()
        try check(fstat(descriptor, &status))
        return status
    }
}

/// Throws the system's error where a call returned -1.
func check(_ result: Int32) throws(Errno) {
    if result < 0 { throw Errno(rawValue: errno) }
}

/// A path's attributes; of a link itself, not of what it leads to.
func status(of path: String) throws(Errno) -> stat {
    var status = stat()
    try check(lstat(path, &status))
    return status
}

/// A whole file's bytes.
func contents(of path: String) throws(Errno) -> [UInt8] {
    try OpenFile(path, O_RDONLY).readAll()
}

/// Makes a file hold `bytes`.
func put(_ bytes: [UInt8], in path: String) throws(Errno) {
    try OpenFile(path, O_RDWR | O_CREAT | O_TRUNC).write(bytes)
}

/// renameat2(2) with RENAME_NOREPLACE or RENAME_EXCHANGE.
func rename(_ old: String, to new: String, _ flags: Int32 = 0) throws(Errno) {
    try check(coffer_renameat2(AT_FDCWD, old, AT_FDCWD, new, UInt32(flags)))
}

/// What `bytes` are after a write at an offset, which may be behind their end.
func written(_ new: [UInt8], at offset: Int, over bytes: [UInt8]) -> [UInt8] {
    var result = bytes
    let end = offset + new.count
    if end > result.count { result += [UInt8](repeating: 0, count: end - result.count) }
    result.replaceSubrange(offset..<end, with: new)
    return result
}

/// `count` zeros.
func zeros(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }

/// `count` bytes that differ from place to place and from `seed` to `seed`.
func pattern(_ count: Int, seed: Int = 0) -> [UInt8] {
    var state = UInt64(truncatingIfNeeded: seed) &* 0x9e37_79b9_7f4a_7c15 | 1
    var words = [UInt64](repeating: 0, count: count / 8 + 1)
    for index in words.indices {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        words[index] = state
    }
    return words.withUnsafeBytes { Array($0.prefix(count)) }
}
