import CofferDisk
import FoundationEssentials
import Glibc
import SystemPackage

/// What such a file holds.
protocol Memory: Codable {
    /// The layout that this program knows.
    static var currentVersion: Int { get }
    /// The layout of the file.
    var version: Int { get }
    /// Nothing remembered.
    init()
}

/// A file in the state directory, such as `known-vaults.json`: read whole, replaced whole, one program at a time.
///
/// The state directory is the machine's own and no part of any vault.
struct MemoryFile<Contents: Memory>: Sendable {
    private static var byteLimit: Int { 64 << 20 }

    private let directory: String
    private let name: String

    /// The file's path.
    var path: String { directory + "/\(name).json" }

    init(directory: String, name: String) {
        self.directory = directory
        self.name = name
    }

    // MARK: - Lock

    /// The right to read, change and write the file, or why there is none.
    struct Lock {
        fileprivate let descriptor: Result<Int32, Errno>

        func requireHeld() throws(Errno) {
            _ = try descriptor.get()
        }

        func release() {
            if case .success(let descriptor) = descriptor { close(descriptor) }
        }
    }

    /// Waits for the lock, which guards the memory file from being read until it has been replaced.
    ///
    /// The only locks of this room are these, and nobody holds two.
    func lock() -> Lock {
        Lock(
            descriptor: Result { () throws(Errno) in
                try makeDirectories()
                let descriptor = try checked {
                    open(directory + "/\(name).lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
                }
                do throws(Errno) {
                    try checked { flock(descriptor, LOCK_EX) }
                } catch {
                    close(descriptor)
                    throw error
                }
                return descriptor
            })
    }

    private func makeDirectories() throws(Errno) {
        var path = ""
        for component in directory.split(separator: "/", omittingEmptySubsequences: false) {
            path += component + "/"
            if component.isEmpty || mkdir(path, 0o700) == 0 { continue }
            let code = errno
            var status = stat()
            // Whatever mkdir says of a directory that is there, such as EROFS, does not matter.
            if stat(path, &status) != 0 || status.st_mode & S_IFMT != S_IFDIR { throw Errno(rawValue: code) }
        }
    }

    // MARK: - Contents

    /// The memory; empty where there is no file.
    func read() throws(KeysError) -> Contents {
        let bytes: [UInt8]
        do throws(Errno) {
            bytes = try readBytes()
        } catch {
            // Nothing can have been remembered where there cannot be a file.
            if error == .noSuchFileOrDirectory || error == .notDirectory { return Contents() }
            throw .damagedMemory(path: path, reason: error.description)
        }
        let memory: Contents
        do {
            memory = try JSONDecoder().decode(Contents.self, from: Data(bytes))
        } catch {
            throw .damagedMemory(path: path, reason: "its contents are damaged")
        }
        guard memory.version == Contents.currentVersion else {
            throw .damagedMemory(
                path: path, reason: "version \(memory.version) is not one that this version of Coffer knows")
        }
        return memory
    }

    private func readBytes() throws(Errno) -> [UInt8] {
        let descriptor = try checked { open(path, O_RDONLY | O_CLOEXEC) }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = try checked { Glibc.read(descriptor, &buffer, buffer.count) }
            if count == 0 { return bytes }
            bytes.append(contentsOf: buffer[..<count])
            if bytes.count > Self.byteLimit { throw Errno.fileTooLarge }
        }
    }

    /// Replaces the file so that a power cut leaves the old or the new; the lock must be held.
    func write(_ memory: Contents) throws(Errno) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let bytes: [UInt8]
        do {
            bytes = Array(try encoder.encode(memory)) + [0x0a]
        } catch {
            // Strings and numbers always encode.
            throw Errno.invalidArgument
        }
        let newPath = path + ".new"
        try writeAndSync(bytes, to: newPath)
        try checked { rename(newPath, path) }
        let descriptor = try checked { open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        defer { close(descriptor) }
        try Disk().syncEntries(descriptor)
    }

    private func writeAndSync(_ bytes: [UInt8], to newPath: String) throws(Errno) {
        let descriptor = try checked { open(newPath, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600) }
        defer { close(descriptor) }
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = try checked { rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) } }
            rest = rest.dropFirst(count)
        }
        try checked { fsync(descriptor) }
    }

    @discardableResult
    private func checked<Number: SignedInteger>(_ call: () -> Number) throws(Errno) -> Number {
        while true {
            let result = call()
            if result >= 0 { return result }
            let code = errno
            if code != EINTR { throw Errno(rawValue: code) }
        }
    }
}
