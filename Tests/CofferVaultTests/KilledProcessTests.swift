import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage
import Testing

@testable import CofferVault

/// A disk that hears no more of a process from a given change on, as if it had been killed then.
private final class SilentDisk: Disk, @unchecked Sendable {
    var changesLeft = Int.max

    private func change() throws(Errno) {
        guard changesLeft > 0 else { throw .ioError }
        changesLeft -= 1
    }

    override func write(
        _ descriptor: Int32, _ buffer: UnsafeRawPointer, count: Int, at offset: Int
    ) throws(Errno) {
        try change()
        try super.write(descriptor, buffer, count: count, at: offset)
    }

    override func truncate(_ descriptor: Int32, to size: Int) throws(Errno) {
        try change()
        try super.truncate(descriptor, to: size)
    }

    override func allocate(_ descriptor: Int32, mode: Int32, offset: Int, length: Int) throws(Errno) {
        try change()
        try super.allocate(descriptor, mode: mode, offset: offset, length: length)
    }
}

/// Between any two changes of the disk a killed process leaves a file in which everything that was there before can be read.
struct KilledProcessTests {
    @Test(arguments: [1, 99, 4095, 4096, 4097, 12_288, 20_000])
    func appendsKeepWhatWasThere(size: Int) throws {
        let old = (0..<size).map { UInt8(truncatingIfNeeded: $0 * 7) }
        for (offset, count) in [(size, 10), (size, 10_000), (size, 4096), (size + 50_000, 100), (size + 3, 1)] {
            for changes in 0...6 {
                let home = try TemporaryDirectory()
                let disk = SilentDisk()
                let file = try OpenContents(
                    home.file("file"), ring: try KeyRing.random(), cipher: .aes256GCM, disk: disk)
                try file.write(old, at: 0)
                try file.contents.sync(dataOnly: true, file.scratch)
                disk.changesLeft = changes
                do {
                    try file.write([UInt8](repeating: 0xEE, count: count), at: offset)
                } catch {
                    // Killed in the middle of it.
                }
                disk.changesLeft = .max
                try file.reopen()
                #expect(file.size >= size)
                #expect(try file.read(size, at: 0) == old, "\(changes) changes of an append of \(count) at \(offset)")
            }
        }
    }
}
