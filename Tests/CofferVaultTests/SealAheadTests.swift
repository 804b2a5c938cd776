import CofferCrypto
import CofferFormat
import Glibc
import Randomness
import Testing

@testable import CofferVault

/// Blocks that are sealed before it is their turn: stored where nothing has changed that matters, and never else.
struct SealAheadTests {
    private let directory: TemporaryDirectory
    private let file: OpenContents
    /// Of the thread that waits.
    private let waiting: Scratch
    private let data = [UInt8](repeating: 7, count: 5 * 4096 + 100)

    init() throws {
        directory = try TemporaryDirectory()
        file = try OpenContents(directory.file("file"), ring: try fixedRing(), cipher: .aes256GCM)
        waiting = try Scratch()
    }

    private func bytes(_ value: UInt8, _ blocks: Int) -> [UInt8] { [UInt8](repeating: value, count: blocks * 4096) }

    private func sealAhead(_ bytes: [UInt8], at offset: Int, in file: OpenContents) {
        bytes.withUnsafeBytes { source in
            guard let base = source.baseAddress else { return }
            file.contents.sealAhead(base, count: source.count, at: offset, waiting)
        }
    }

    /// Writes by the thread that waited; whether it stored what it had sealed before.
    private func write(_ bytes: [UInt8], at offset: Int, to file: OpenContents) throws -> Bool {
        let nonce = waiting.ahead.map { _ in waiting.cipherText.loadUnaligned(as: UInt64.self) }
        try bytes.withUnsafeBytes { source in
            guard let base = source.baseAddress else { return }
            try file.contents.write(base, count: source.count, at: offset, waiting)
        }
        #expect(waiting.ahead == nil)
        var found: UInt64 = 0
        let got = pread(file.contents.descriptor, &found, 8, off_t(BlockGeometry.offset(ofBlock: offset / 4096)))
        #expect(got == 8)
        return found == nonce
    }

    private func expect(_ expected: [UInt8], in file: OpenContents) throws {
        #expect(same(try file.readAll(), expected))
        try file.settle()
        try file.reopen()
        #expect(same(try file.readAll(), expected))
        #expect(try StoredFile(file.path, ring: file.ring).faults(isSettled: true) == [])
    }

    @Test func whatWasSealedIsStored() throws {
        sealAhead(data, at: 3 * 4096, in: file)
        try file.write(bytes(1, 3), at: 0)
        #expect(try write(data, at: 3 * 4096, to: file))
        try expect(bytes(1, 3) + data, in: file)
    }

    @Test func ofAnEmptyFile() throws {
        sealAhead(data, at: 0, in: file)
        #expect(try write(data, at: 0, to: file))
        try expect(data, in: file)
    }

    enum Meanwhile: CaseIterable {
        case nothing, shorter, longer, partOfABlock, emptied, emptiedAndWritten, anotherFile, read, other
    }

    /// What was sealed does not fit any more.
    @Test(arguments: Meanwhile.allCases) func whatHappensMeanwhile(meanwhile: Meanwhile) throws {
        try file.write(bytes(1, 2), at: 0)
        sealAhead(data, at: 3 * 4096, in: file)
        var target = file
        var start = bytes(1, 2) + bytes(2, 1)
        var end: [UInt8] = []
        switch meanwhile {
        case .nothing: start = bytes(1, 2) + bytes(0, 1)
        case .shorter:
            try file.resize(to: 4096)
            start = bytes(1, 1) + bytes(0, 2)
        case .longer:
            end = bytes(3, 9)
            try file.write(bytes(2, 1) + data + end, at: 2 * 4096)
        case .partOfABlock:
            try file.write([UInt8](repeating: 2, count: 100), at: 2 * 4096)
            start = bytes(1, 2) + [UInt8](repeating: 2, count: 100) + [UInt8](repeating: 0, count: 3996)
        case .emptied:
            try file.resize(to: 0)
            start = bytes(0, 3)
        case .emptiedAndWritten:
            try file.resize(to: 0)
            try file.write(start, at: 0)
        case .anotherFile:
            target = try OpenContents(directory.file("other"), ring: file.ring, cipher: .aes256GCM)
            try target.write(start, at: 0)
        case .read:
            try file.write(bytes(2, 1), at: 2 * 4096)
            _ = try file.contents.readBytes(8192, at: 0, waiting)
        case .other:
            try file.write(bytes(2, 1), at: 2 * 4096)
            try file.contents.writeBytes([9], at: 0, waiting)
            try file.contents.writeBytes([1], at: 0, waiting)
        }
        // An old end that is filled up is where it was to be.
        #expect(try write(data, at: 3 * 4096, to: target) == (meanwhile == .partOfABlock))
        try expect(start + data + end, in: target)
    }

    /// Once, and not for other bytes that come to the same place later.
    @Test func storedOnce() throws {
        sealAhead(data, at: 0, in: file)
        #expect(try write(data, at: 0, to: file))
        try file.resize(to: 4096)
        let others = [UInt8](repeating: 8, count: data.count)
        #expect(try !write(others, at: 4096, to: file))
        try file.resize(to: 4096)
        #expect(try !write(data, at: 4096, to: file))
        try expect([UInt8](repeating: 7, count: 4096) + data, in: file)
    }

    /// Of a write that failed nothing is left that another, of another file with as much at the same place, could take for its own.
    @Test func aFailedWriteLeavesNothing() throws {
        let disk = FailingDisk()
        let failing = try OpenContents(directory.file("failing"), ring: file.ring, cipher: .aes256GCM, disk: disk)
        let broken = try OpenContents(directory.file("broken"), ring: file.ring, cipher: .aes256GCM)
        try broken.write(bytes(1, 2), at: 0)
        try broken.reopen()
        #expect(truncate(broken.path, off_t(BlockGeometry.cipherSize(plainSize: 4096))) == 0)
        try broken.reopen()
        disk.fault = .dead(call: 1)
        // One before anything of it is used, and one after.
        for (target, offset) in [(broken, 4096), (failing, 0)] {
            sealAhead(data, at: offset, in: target)
            #expect(waiting.ahead != nil)
            #expect(throws: VaultError.self) { _ = try write(data, at: offset, to: target) }
            #expect(waiting.ahead == nil)
        }
    }

    /// Somebody cuts the file to nothing, which gives it another key, while others seal.
    @Test func emptiedAllTheTime() throws {
        let contents = file.contents
        try run(threads: 3) { thread, scratch in
            for round in 0..<300 {
                if thread == 0 {
                    try contents.resize(to: 0, scratch)
                    continue
                }
                let bytes = [UInt8](repeating: UInt8(thread), count: (1 + round % 5) * 4096)
                try bytes.withUnsafeBytes { source in
                    guard let base = source.baseAddress else { return }
                    let offset = contents.size / 4096 * 4096
                    contents.sealAhead(base, count: source.count, at: offset, scratch)
                    try contents.write(base, count: source.count, at: offset, scratch)
                }
            }
        }
        let found = try file.readAll()
        #expect(found.allSatisfy { $0 <= 2 })
        try expect(found, in: file)
    }
}
