import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// `coffer.lost+found` in a vault's root: what a repair has changed, as it was stored before.
struct LostAndFound {
    private static let partCount = 1 << 20

    let disk: Disk
    let root: Int32

    /// Puts a copy of a stored file there, with holes where it has zeros, and makes sure that it stays. Its name is `description`, and a number where that is taken.
    func keep(_ source: Int32, as description: String) throws(VaultError) {
        try withFile(description) { (file) throws(VaultError) in
            let buffer = UnsafeMutableRawPointer.allocate(byteCount: Self.partCount, alignment: 4096)
            defer { buffer.deallocate() }
            let size = try system { () throws(Errno) in Int(try disk.status(source).st_size) }
            var offset = 0
            while offset < size {
                try system { () throws(Errno) in
                    let count = try disk.read(source, into: buffer, count: Self.partCount, at: offset)
                    guard count > 0 else { throw .ioError }
                    let isZero = UnsafeRawBufferPointer(start: buffer, count: count).allSatisfy { $0 == 0 }
                    if !isZero { try disk.write(file, buffer, count: count, at: offset) }
                    offset += count
                }
            }
            try system { () throws(Errno) in try disk.truncate(file, to: size) }
        }
    }

    /// Likewise, of a few bytes.
    func keep(_ bytes: [UInt8], as description: String) throws(VaultError) {
        try withFile(description) { (file) throws(VaultError) in
            try system { () throws(Errno) in try disk.write(file, bytes: bytes) }
        }
    }

    private func withFile(_ description: String, _ body: (Int32) throws(VaultError) -> Void) throws(VaultError) {
        do throws(Errno) {
            try disk.makeDirectory(at: root, ReservedName.lostAndFound.cString, mode: 0o700)
        } catch {
            if error != .fileExists { throw .system(error) }
        }
        let directory = try system { () throws(Errno) in
            try disk.open(at: root, ReservedName.lostAndFound.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        }
        defer { disk.close(directory) }
        let file = try system { () throws(Errno) in try make(description, in: directory) }
        defer { disk.close(file) }
        try body(file)
        try system { () throws(Errno) in
            try disk.sync(file)
            try disk.sync(directory)
            try disk.sync(root)
        }
    }

    private func make(_ description: String, in directory: Int32) throws(Errno) -> Int32 {
        var number = 0
        while true {
            let name = number == 0 ? description : "\(description).\(number)"
            do throws(Errno) {
                return try disk.open(
                    at: directory, StoredName(name).cString, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
                    mode: 0o600)
            } catch {
                guard error == .fileExists, number < 100_000 else { throw error }
                number += 1
            }
        }
    }
}
