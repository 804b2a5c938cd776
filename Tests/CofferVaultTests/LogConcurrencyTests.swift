import CofferCrypto
import CofferDisk
import CofferFormat
import Foundation
import Randomness
import Synchronization
import SystemPackage
import Testing

@testable import CofferVault

/// Several threads on several files by way of one log, on a real file system, with a thread that sees to the log.
struct LogConcurrencyTests {
    private let directory: TemporaryDirectory
    private let ring: KeyRing
    private static let blockCount = 96
    private static let fileCount = 3

    init() throws {
        directory = try TemporaryDirectory()
        ring = try fixedRing()
    }

    private func openRoot() throws -> Int32 {
        try Disk().open(at: AT_FDCWD, directory.file("."), flags: O_RDONLY | O_DIRECTORY)
    }

    private func name(_ number: Int) throws -> StoredName {
        try NameCodec(ring: ring, limit: 255).encoding(of: [UInt8(65 + number)], in: .root(vaultID: [])).entry
    }

    private func makeFile(_ number: Int, _ log: IntentLog, _ root: Int32) throws -> FileContents {
        let name = try name(number)
        let making = try log.making(in: [IntentLog.Directory(known: 0) { [] }])
        defer { log.end(making.ticket) }
        return try FileContents(
            creating: try Disk().open(at: root, name.cString, flags: O_RDWR | O_CREAT | O_EXCL, mode: 0o600),
            disk: Disk(), ring: ring, cipher: .aes256GCM, log: log, making: making, place: { [name] },
            scratch: try Scratch())
    }

    /// Each thread has every fourth block of all files, which it counts up; it always reads what it wrote last. After the process ended at some moment, everything is there.
    @Test(arguments: [1 << 20, 4 << 20]) func everybodyReadsWhatTheyWrote(capacity: Int) throws {
        let root = try openRoot()
        let counts = Mutex([Int](repeating: 0, count: Self.fileCount * Self.blockCount))
        do {
            let disk = Disk()
            let intents = try #require(
                try LogDirectory.open(
                    disk: disk, ring: ring, rootDescriptor: root, cipher: .aes256GCM, capacity: capacity,
                    scratch: try Scratch()
                ).directory)
            let log = intents.log
            let keeper = DispatchGroup()
            keeper.enter()
            Thread.detachNewThread {
                log.keep { trouble in if let trouble { Issue.record("\(trouble)") } }
                keeper.leave()
            }
            let files = try (0..<Self.fileCount).map { try makeFile($0, log, root) }
            let first = try Scratch()
            for file in files {
                try file.resize(to: Self.blockCount * 4096, first)
                try file.sync(dataOnly: true, first)
            }
            try run(threads: 7) { thread, scratch in
                var random = SeededRandom(seed: UInt64(thread))
                for round in 0..<400 {
                    let number = random.below(Self.fileCount)
                    let file = files[number]
                    switch thread {
                    case 0..<4:
                        let block = random.below(Self.blockCount / 4) * 4 + thread
                        let index = number * Self.blockCount + block
                        let count = counts.withLock { $0[index] }
                        try #require(try file.readBytes(4096, at: block * 4096, scratch) == mark(index, count))
                        try file.writeBytes(mark(index, count + 1)[...], at: block * 4096, scratch)
                        counts.withLock { $0[index] = count + 1 }
                    case 4: try file.sync(dataOnly: random.oneIn(3), scratch)
                    case 5:
                        // Beyond what the others have, the file grows and shrinks.
                        let size = Self.blockCount * 4096 + random.below(300_000)
                        if random.oneIn(2) {
                            try file.resize(to: size, scratch)
                        } else {
                            try file.writeBytes([UInt8](repeating: 9, count: 5000)[...], at: size, scratch)
                        }
                    default:
                        if round % 40 == 0 { try log.checkpoint() }
                        if random.oneIn(3) { try file.settle(scratch) }
                        if random.oneIn(3) { try file.drain() }
                        _ = try file.readBytes(400_000, at: random.below(Self.blockCount) * 4096, scratch)
                    }
                }
            }
            log.stop()
            keeper.wait()
        }
        // The log was not closed: as if the process had been killed.
        let opening = try LogDirectory.open(
            disk: Disk(), ring: ring, rootDescriptor: root, cipher: .aes256GCM, scratch: try Scratch())
        #expect(opening.report?.failed == [])
        let second = try #require(opening.directory)
        let scratch = try Scratch()
        for number in 0..<Self.fileCount {
            let file = try FileContents(
                disk: Disk(), ring: ring, cipher: .aes256GCM,
                descriptor: try Disk().open(at: root, try name(number).cString, flags: O_RDWR), isWritable: true,
                scratch: scratch)
            for block in 0..<Self.blockCount {
                let index = number * Self.blockCount + block
                let expected = mark(index, counts.withLock { $0[index] })
                #expect(try file.readBytes(4096, at: block * 4096, scratch) == expected)
            }
            _ = try file.readBytes(file.size, at: 0, scratch)
        }
        try second.close()
        #expect(!FileManager.default.fileExists(atPath: directory.file("coffer.log")))
        Disk().close(root)
    }

    private func mark(_ index: Int, _ count: Int) -> [UInt8] {
        if count == 0 { return [UInt8](repeating: 0, count: 4096) }
        return (0..<4096).map { UInt8(truncatingIfNeeded: index &* 31 &+ count &+ $0 / 512) }
    }
}
