import CLinux
import Glibc
import SystemPackage

/// The calls of a program on a mount. Each throws the system's own error, and closing tells one too.
enum ProgramCalls {
    static func check(_ result: Int) throws(Errno) {
        if result < 0 { throw Errno(rawValue: errno) }
    }

    static func check(_ result: Int32) throws(Errno) { try check(Int(result)) }

    static func open(_ path: String, _ flags: Int32, mode: mode_t = 0o644) throws(Errno) -> Int32 {
        let descriptor = Glibc.open(path, flags | O_CLOEXEC, mode)
        try check(descriptor)
        return descriptor
    }

    static func close(_ descriptor: Int32) throws(Errno) { try check(Glibc.close(descriptor)) }

    /// Writes until all is written; how much was, and why not more.
    static func write(_ descriptor: Int32, _ bytes: [UInt8], at offset: Int) -> (count: Int, error: Errno?) {
        var done = 0
        while done < bytes.count {
            let put = bytes.withUnsafeBytes {
                pwrite(descriptor, $0.baseAddress.map { $0 + done }, $0.count - done, offset + done)
            }
            if put < 0 { return (done, Errno(rawValue: errno)) }
            done += put
        }
        return (done, nil)
    }

    /// Everything in a file, read until its end.
    static func read(_ descriptor: Int32) throws(Errno) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let got = pread(descriptor, &chunk, chunk.count, bytes.count)
            try check(got)
            if got == 0 { return bytes }
            bytes += chunk[..<got]
        }
    }

    static func status(_ path: String) throws(Errno) -> stat {
        var status = stat()
        try check(lstat(path, &status))
        return status
    }

    /// The entries of a directory and their inode numbers.
    static func list(_ path: String) throws(Errno) -> [String: UInt64] {
        guard let stream = opendir(path) else { throw Errno(rawValue: errno) }
        defer { closedir(stream) }
        var result: [String: UInt64] = [:]
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                if errno != 0 { throw Errno(rawValue: errno) }
                return result
            }
            let number = UInt64(entry.pointee.d_ino)
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { result[name] = number }
        }
    }

    static func target(_ path: String) throws(Errno) -> String {
        var bytes = [CChar](repeating: 0, count: 4096)
        let got = readlink(path, &bytes, bytes.count)
        try check(got)
        return String(decoding: bytes[..<got].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    static func rename(_ path: String, to new: String, _ flags: Int32 = 0) throws(Errno) {
        try check(coffer_renameat2(AT_FDCWD, path, AT_FDCWD, new, UInt32(flags)))
    }

    /// The value of an extended attribute; nil where there is none.
    static func attribute(_ path: String, _ name: String) throws(Errno) -> [UInt8]? {
        let object = try open(path, COFFER_O_PATH)
        defer { Glibc.close(object) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let got = coffer_getxattr(object, name, &bytes, bytes.count)
        if got < 0 && errno == ENODATA { return nil }
        try check(got)
        return Array(bytes[..<got])
    }

    static func setAttribute(_ path: String, _ name: String, _ value: [UInt8]?) throws(Errno) {
        let object = try open(path, COFFER_O_PATH)
        defer { Glibc.close(object) }
        if let value {
            try check(coffer_setxattr(object, name, value, value.count, 0))
        } else {
            try check(coffer_removexattr(object, name))
        }
    }

    static func setTimes(_ path: String, _ seconds: Int) throws(Errno) {
        let times = [timespec(tv_sec: seconds, tv_nsec: 0), timespec(tv_sec: seconds, tv_nsec: 0)]
        try check(utimensat(AT_FDCWD, path, times, 0))
    }

    /// Makes a directory's or file's changes durable.
    static func sync(_ path: String) throws(Errno) {
        let descriptor = try open(path, O_RDONLY)
        let result = fsync(descriptor)
        let code = errno
        try close(descriptor)
        if result < 0 { throw Errno(rawValue: code) }
    }

    /// Makes the kernel forget what it holds of a file, so that the driver is asked.
    static func forget(_ descriptor: Int32) { _ = posix_fadvise(descriptor, 0, 0, Int32(POSIX_FADV_DONTNEED)) }
}
