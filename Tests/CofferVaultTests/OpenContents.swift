import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

@testable import CofferVault

/// File contents under test, with one thread's scratch: what a mount does with a file, in arrays.
final class OpenContents {
    let path: String
    let ring: KeyRing
    let cipher: CipherSuite
    let disk: Disk
    let scratch: Scratch
    private(set) var contents: FileContents

    /// Creates the file, or opens it where `creating` is false.
    init(
        _ path: String, ring: KeyRing, cipher: CipherSuite, disk: Disk = Disk(), creating: Bool = true,
        scratch: Scratch? = nil
    ) throws {
        self.path = path
        self.ring = ring
        self.cipher = cipher
        self.disk = disk
        self.scratch = try scratch ?? Scratch()
        let descriptor = try openFile(path, flags: creating ? O_RDWR | O_CREAT | O_EXCL : O_RDWR)
        contents =
            creating
            ? try FileContents(
                creating: descriptor, disk: disk, ring: ring, cipher: cipher, scratch: self.scratch)
            : try FileContents(
                disk: disk, ring: ring, cipher: cipher, descriptor: descriptor, isWritable: true,
                scratch: self.scratch)
    }

    var size: Int { contents.size }

    /// Closes the file and opens it again, so that nothing is known but what is stored.
    func reopen() throws {
        let descriptor = try openFile(path)
        contents = try FileContents(
            disk: disk, ring: ring, cipher: cipher, descriptor: descriptor, isWritable: true, scratch: scratch)
    }

    func write(_ bytes: [UInt8], at offset: Int) throws {
        try contents.writeBytes(bytes[...], at: offset, scratch)
    }

    func read(_ count: Int, at offset: Int) throws -> [UInt8] {
        try contents.readBytes(count, at: offset, scratch)
    }

    func readAll() throws -> [UInt8] { try read(size, at: 0) }

    func resize(to size: Int) throws { try perform(.resize(size)) }

    func punch(_ offset: Int, _ count: Int) throws { try perform(.punch(offset: offset, count: count)) }

    func zero(_ offset: Int, _ count: Int, keepSize: Bool) throws {
        try perform(.zero(offset: offset, count: count, keepSize: keepSize))
    }

    func perform(_ operation: FileOperation) throws { try contents.perform(operation, scratch) }

    func settle() throws { try contents.settle(scratch) }

    func sync() throws { try contents.sync(dataOnly: true, scratch) }

    func nextData(_ offset: Int) throws -> Int? { try contents.nextData(from: offset, scratch) }

    func nextHole(_ offset: Int) throws -> Int? { try contents.nextHole(from: offset, scratch) }
}

extension FileContents {
    /// Writes an array's bytes: some as one does who had to wait.
    func writeBytes(_ bytes: ArraySlice<UInt8>, at offset: Int, _ scratch: Scratch) throws {
        try bytes.withUnsafeBytes { source in
            guard let base = source.baseAddress else { return }
            if (offset / 4096 + source.count) % 2 == 0 {
                sealAhead(base, count: source.count, at: offset, scratch)
            }
            try write(base, count: source.count, at: offset, scratch)
        }
    }

    /// Up to `count` bytes at `offset`, in an array.
    func readBytes(_ count: Int, at offset: Int, _ scratch: Scratch) throws -> [UInt8] {
        try [UInt8](unsafeUninitializedCapacity: max(1, count)) { buffer, initialized in
            guard let base = buffer.baseAddress else { return }
            // What is not read must not look as if it had been.
            memset(base, 0xEE, count)
            initialized = try read(into: UnsafeMutableRawPointer(base), count: count, at: offset, scratch)
        }
    }
}

/// A ring whose keys are fixed, so that a failing case can be looked at again.
func fixedRing(epochs: [UInt8] = [0]) throws -> KeyRing {
    var keys: [UInt8: SecretKey] = [:]
    for epoch in epochs {
        keys[epoch] = try SecretKey(copying: (0..<32).map { UInt8($0) &* 7 &+ epoch })
    }
    return try KeyRing(keys: keys)
}
