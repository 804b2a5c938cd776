import CofferDisk
import CofferFormat
import Glibc
import Randomness
import Testing

@testable import CofferVault

/// The system reads and writes less than it was asked for, and is interrupted, wherever it may: nobody notices.
struct ShortCallTests {
    private final class ShortDisk: Disk, @unchecked Sendable {
        private var random = SeededRandom(seed: 11)
        private(set) var interruptions = 0

        private func step(_ count: Int) -> Int? {
            if random.oneIn(4) {
                interruptions += 1
                errno = EINTR
                return nil
            }
            return random.oneIn(2) ? count : 1 + random.below(count)
        }

        override func readOnce(
            _ descriptor: Int32, _ buffer: UnsafeMutableRawPointer, _ count: Int, _ offset: Int
        ) -> Int {
            guard let step = step(count) else { return -1 }
            return super.readOnce(descriptor, buffer, step, offset)
        }

        override func writeOnce(_ descriptor: Int32, _ buffer: UnsafeRawPointer, _ count: Int, _ offset: Int) -> Int {
            guard let step = step(count) else { return -1 }
            return super.writeOnce(descriptor, buffer, step, offset)
        }
    }

    @Test func nobodyNotices() throws {
        let directory = try TemporaryDirectory()
        let disk = ShortDisk()
        let ring = try fixedRing()
        let scratch = try Scratch()
        let root = try disk.open(at: AT_FDCWD, directory.file("."), flags: O_RDONLY | O_DIRECTORY)
        defer { disk.close(root) }
        let intents = try #require(
            try LogDirectory.open(
                disk: disk, ring: ring, rootDescriptor: root, cipher: .aes256GCM, capacity: 1 << 20,
                scratch: scratch
            ).directory)
        let name = try NameCodec(ring: ring, limit: 255).encoding(of: [65], in: .root(vaultID: [])).entry
        let making = try intents.log.making(in: [IntentLog.Directory(known: 0) { [] }])
        let file = try FileContents(
            creating: try disk.open(at: root, name.cString, flags: O_RDWR | O_CREAT, mode: 0o600), disk: disk,
            ring: ring, cipher: .aes256GCM, log: intents.log, making: making, place: { [name] }, scratch: scratch)
        intents.log.end(making.ticket)
        var random = SeededRandom(seed: 12)
        var model = ByteModel()
        for round in 0..<300 {
            let operation = FileOperation.random(size: model.size, limit: 200_000, using: &random)
            operation.apply(to: &model)
            try file.perform(operation, scratch)
            if random.oneIn(5) { try file.sync(dataOnly: random.oneIn(2), scratch) }
            #expect(same(try file.readBytes(model.size, at: 0, scratch), model.bytes), "round \(round), \(operation)")
        }
        #expect(disk.interruptions > 500)
        try intents.close()
    }
}
