import CofferCrypto
import CofferFormat
import Foundation
import Randomness
import Synchronization
import Testing

@testable import CofferVault

/// Several threads on one file, each with a scratch of its own.
struct ConcurrencyTests {
    private let directory: TemporaryDirectory
    private let blockCount = 64

    init() throws {
        directory = try TemporaryDirectory()
    }

    @Test(arguments: CipherSuite.allCases)
    func writersOfDifferentBlocksDoNotMeet(cipher: CipherSuite) throws {
        let file = try OpenContents(directory.file("file"), ring: try fixedRing(), cipher: cipher)
        try file.resize(to: blockCount * 4096)
        let contents = file.contents
        // Four threads write every fourth block, over and over; two read anything.
        try run(threads: 6) { thread, scratch in
            var random = SeededRandom(seed: UInt64(thread))
            for _ in 0..<60 {
                let block = random.below(blockCount / 4) * 4 + thread
                if thread < 4 {
                    let tail = random.below(2) * random.below(3000)
                    try contents.writeBytes(mark(block)[tail...], at: block * 4096 + tail, scratch)
                } else {
                    let first = random.below(blockCount)
                    let bytes = try contents.readBytes(20_000, at: first * 4096, scratch)
                    try expectMarks(bytes, first: first)
                }
            }
            guard thread < 4 else { return }
            for block in stride(from: thread, to: blockCount, by: 4) {
                try contents.writeBytes(mark(block)[...], at: block * 4096, scratch)
            }
        }
        try file.settle()
        let expected = (0..<blockCount).flatMap { mark($0) }
        #expect(same(try file.readAll(), expected))
        #expect(try StoredFile(file.path, ring: file.ring).faults(isSettled: true) == [])
    }

    @Test(arguments: CipherSuite.allCases)
    func writersReadersAndOneWhoChangesTheSize(cipher: CipherSuite) throws {
        let file = try OpenContents(directory.file("file"), ring: try fixedRing(), cipher: cipher)
        try file.write((0..<blockCount).flatMap { mark($0) }, at: 0)
        let contents = file.contents
        let stable = blockCount
        try run(threads: 6) { thread, scratch in
            var random = SeededRandom(seed: UInt64(thread) + 50)
            for _ in 0..<80 {
                switch thread {
                case 0, 1:
                    // The first blocks stay, whatever happens to the end.
                    let block = random.below(stable / 2) * 2 + thread
                    try contents.writeBytes(mark(block)[...], at: block * 4096, scratch)
                case 2:
                    let offset = stable * 4096 + random.below(200_000)
                    try contents.writeBytes([UInt8](repeating: 0xAA, count: 5000)[...], at: offset, scratch)
                case 3:
                    let size = stable * 4096 + random.below(200_000)
                    try contents.resize(to: size, scratch)
                    if random.oneIn(4) { try contents.settle(scratch) }
                case 4:
                    let offset = stable * 4096 + random.below(100_000)
                    try contents.punch(offset: offset, count: 1 + random.below(50_000), scratch)
                default:
                    let first = random.below(stable)
                    try expectMarks(
                        try contents.readBytes((stable - first) * 4096, at: first * 4096, scratch), first: first)
                    let beyond = try contents.readBytes(300_000, at: stable * 4096, scratch)
                    try #require(consists(beyond[...], of: 0xAA))
                    _ = try contents.nextData(from: random.below(stable * 4096), scratch)
                    _ = try contents.nextHole(from: random.below(stable * 4096), scratch)
                }
            }
        }
        try file.settle()
        #expect(try StoredFile(file.path, ring: file.ring).faults(isSettled: true) == [])
        try file.reopen()
        try expectMarks(try file.read(stable * 4096, at: 0), first: 0)
    }

    @Test func emptyingWhileOthersReadAndWrite() throws {
        let file = try OpenContents(directory.file("file"), ring: try fixedRing(), cipher: .aes256GCM)
        let contents = file.contents
        try run(threads: 4) { thread, scratch in
            for round in 0..<80 {
                switch thread {
                case 0: try contents.resize(to: 0, scratch)
                case 1: try contents.writeBytes([UInt8](repeating: 0xAA, count: 9000)[...], at: round * 3000, scratch)
                case 2: try contents.resize(to: round * 5000, scratch)
                default:
                    let bytes = try contents.readBytes(100_000, at: 0, scratch)
                    try #require(consists(bytes[...], of: 0xAA))
                    try #require(contents.fileID.count == FileHeader.fileIDCount)
                }
            }
        }
        try file.settle()
        #expect(try StoredFile(file.path, ring: file.ring).faults(isSettled: true) == [])
    }

    /// A block's content, which tells which block it is.
    private func mark(_ block: Int) -> [UInt8] { [UInt8](repeating: UInt8(block + 1), count: 4096) }

    /// Every block is zeros or its own mark, also where only a part was written.
    private func expectMarks(_ bytes: [UInt8], first: Int) throws {
        for start in stride(from: 0, to: bytes.count, by: 4096) {
            let value = UInt8(first + start / 4096 + 1)
            try #require(consists(bytes[start..<min(start + 4096, bytes.count)], of: value), "block \(value)")
        }
    }

    /// Whether all bytes are zero or `value`.
    private func consists(_ bytes: ArraySlice<UInt8>, of value: UInt8) -> Bool {
        let whole = [UInt8](repeating: value, count: 512)
        let zeros = [UInt8](repeating: 0, count: 512)
        return bytes.withUnsafeBytes { all in
            guard let base = all.baseAddress else { return true }
            return stride(from: 0, to: all.count, by: 512).allSatisfy { start in
                let count = min(512, all.count - start)
                if memcmp(base + start, whole, count) == 0 || memcmp(base + start, zeros, count) == 0 { return true }
                return all[start..<(start + count)].allSatisfy { $0 == 0 || $0 == value }
            }
        }
    }
}
