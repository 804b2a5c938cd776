import Foundation
import Glibc
import SystemPackage

/// A directory of a test's own, removed with everything in it when the test lets go of it.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        let base = FileManager.default.temporaryDirectory.path
        var template = Array("\(base)/coffer-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        do {
            try FileManager.default.removeItem(atPath: path)
        } catch {
            print("could not remove \(path): \(error)")
        }
    }

    /// The path of an entry.
    func file(_ name: String) -> String { "\(path)/\(name)" }
}

/// Opens a file by path, as whoever copies a vault would.
func openFile(_ path: String, flags: Int32 = O_RDWR, mode: mode_t = 0o600) throws -> Int32 {
    let descriptor = Glibc.open(path, flags | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    return descriptor
}

/// The whole of a small file.
func rawBytes(_ path: String) throws -> [UInt8] {
    let descriptor = try openFile(path, flags: O_RDONLY)
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw Errno(rawValue: errno) }
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    let got = bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
    guard got == bytes.count else { throw Errno(rawValue: EIO) }
    return bytes
}

/// Makes a file hold exactly `bytes`.
func setRawBytes(_ path: String, _ bytes: [UInt8]) throws {
    let descriptor = try openFile(path, flags: O_RDWR | O_CREAT | O_TRUNC)
    defer { close(descriptor) }
    let put = bytes.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 0) }
    guard put == bytes.count else { throw Errno(rawValue: errno) }
}

/// Removes a file where there is one.
func removeFile(_ path: String) throws {
    guard unlink(path) == 0 || errno == ENOENT else { throw Errno(rawValue: errno) }
}
