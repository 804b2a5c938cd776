import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import Randomness
import SystemPackage
import Testing

@testable import CofferVault

/// A process that is killed leaves what its calls have done, and of the one that it was in, a part: the kernel ends a write between any two pages. Whatever a
/// program was told is written is there after the next recovery, synced or not.
struct KilledWriteTests {
    /// What the file was when its last changes began.
    enum Past: CaseIterable {
        /// Made and never synced.
        case new
        /// Synced, and the log says nothing of it.
        case synced
        /// Synced, and growing since by what the log says nothing of but that.
        case growing
    }

    private enum Change {
        case write(offset: Int, count: Int, value: UInt8)
        case resize(Int)
        case punch(offset: Int, count: Int)
        case sync

        static func random(_ random: inout SeededRandom, size: Int) -> Change {
            let counts = [1, 100, 4096, 8192, 30_000, 90_000]
            switch random.below(20) {
            case 0..<7:
                return .write(
                    offset: random.below(size + 1), count: counts[random.below(6)], value: UInt8(1 + random.below(255)))
            case 7..<13:
                return .write(offset: size, count: counts[random.below(6)], value: UInt8(1 + random.below(255)))
            case 13..<15:
                return .write(
                    offset: size + random.below(30_000), count: counts[random.below(5)],
                    value: UInt8(1 + random.below(255)))
            case 15: return .resize(random.below(3) == 0 ? 0 : random.below(size + 5000))
            case 16..<19: return .punch(offset: random.below(size + 1), count: 1 + random.below(60_000))
            default: return .sync
            }
        }

        func applied(to old: [UInt8]) -> [UInt8] {
            var bytes = old
            switch self {
            case .write(let offset, let count, let value):
                if bytes.count < offset + count { bytes += [UInt8](repeating: 0, count: offset + count - bytes.count) }
                // Another value in each block.
                var start = offset
                while start < offset + count {
                    let end = min(offset + count, (start / 4096 + 1) * 4096)
                    let run = [UInt8](repeating: value &+ UInt8(truncatingIfNeeded: start / 4096), count: end - start)
                    bytes.replaceSubrange(start..<end, with: run)
                    start = end
                }
            case .resize(let size):
                bytes = Array(bytes.prefix(size)) + [UInt8](repeating: 0, count: max(0, size - bytes.count))
            case .punch(let offset, let count):
                guard offset < bytes.count else { break }
                let end = min(bytes.count, offset + count)
                bytes.replaceSubrange(offset..<end, with: [UInt8](repeating: 0, count: end - offset))
            case .sync: break
            }
            return bytes
        }

        func apply(to file: FileContents, _ after: [UInt8], _ scratch: Scratch) throws {
            switch self {
            case .write(let offset, let count, _):
                try file.writeBytes(after[offset..<(offset + count)], at: offset, scratch)
            case .resize(let size): try file.resize(to: size, scratch)
            case .punch(let offset, let count): try file.punch(offset: offset, count: count, scratch)
            case .sync: try file.sync(dataOnly: true, scratch)
            }
        }
    }

    /// One process, and what is left of its file.
    private final class Killing {
        let disk = SimulatedDisk()
        let ring: KeyRing
        let scratch: Scratch
        let log: IntentLog
        let file: FileContents
        let name: StoredName
        var random: SeededRandom
        var callsLeft = Int.max
        var isDead = false
        /// What the file may be after the change that is under way; after one that failed, with it or without.
        var states: [[UInt8]] = [[]]
        private var before: [[UInt8]] = []
        /// Writes in the middle of which it was killed.
        private(set) var isTorn = false

        init(_ past: Past, seed: UInt64, _ ring: KeyRing, _ scratch: Scratch) throws {
            random = SeededRandom(seed: seed)
            (self.ring, self.scratch) = (ring, scratch)
            let disk = disk
            let segments = try LogDirectory.segmentNames.map {
                try disk.open(at: SimulatedDisk.root, $0.cString, flags: O_RDWR | O_CREAT)
            }
            log = try IntentLog(
                disk: disk, ring: ring, rootDescriptor: SimulatedDisk.root, descriptors: segments, capacity: 400_000,
                order: 0)
            let name = try NameCodec(ring: ring, limit: 255).encoding(of: [65], in: .root(vaultID: [])).entry
            self.name = name
            let making = try log.making(in: [IntentLog.Directory(known: 0) { [] }])
            file = try FileContents(
                creating: try disk.open(at: SimulatedDisk.root, name.cString, flags: O_RDWR | O_CREAT), disk: disk,
                ring: ring, cipher: .aes256GCM, log: log, making: making, place: { [name] }, scratch: scratch)
            log.end(making.ticket)
            if past != .new {
                try change(.write(offset: 0, count: 50_000, value: 9))
                try file.sync(dataOnly: false, scratch)
                try log.checkpoint()
            }
            if past == .growing { try change(.write(offset: 50_000, count: 120_000, value: 11)) }
        }

        func change(_ change: Change) throws {
            before = states
            states = before.map { change.applied(to: $0) }
            do {
                try change.apply(to: file, states[0], scratch)
            } catch {
                states += before
                guard !isDead else { throw error }
            }
        }

        /// Works until it is killed, in some call.
        func work() {
            callsLeft = 1 + random.below(400)
            disk.onTear = { [self] count, offset in
                callsLeft -= 1
                guard callsLeft == 0 else { return nil }
                isDead = true
                isTorn = true
                // A whole number of the file's pages.
                let pages = (offset + count - 1) / SimulatedDisk.pageCount - offset / SimulatedDisk.pageCount
                let boundary = (offset / SimulatedDisk.pageCount + random.below(pages + 1)) * SimulatedDisk.pageCount
                return max(0, boundary - offset)
            }
            disk.onCall = { [self] _, _ throws(Errno) in
                if isDead { throw .ioError }
                callsLeft -= 1
                if callsLeft <= 0 {
                    isDead = true
                    throw .ioError
                }
            }
            while !isDead {
                do {
                    try change(Change.random(&random, size: file.size))
                } catch {
                    return
                }
            }
        }

        /// What is wrong with what the next process finds; nil for nothing.
        func check() throws -> String? {
            let left = disk.crashed(.nothing, &random)
            var recovery = LogRecovery(disk: left, ring: ring, rootDescriptor: SimulatedDisk.root, scratch: scratch)
            _ = try recovery.recover(
                try LogDirectory.segmentNames.map { try left.open(at: SimulatedDisk.root, $0.cString, flags: O_RDWR) })
            if let failure = recovery.report.failed.first { return "not recovered: \(failure.error)" }
            let contents = try FileContents(
                disk: left, ring: ring, cipher: .aes256GCM,
                descriptor: try left.open(at: SimulatedDisk.root, name.cString, flags: O_RDWR), isWritable: true,
                scratch: scratch)
            let sizes = states.map(\.count)
            let limit = (sizes.max().map { ($0 + 4095) / 4096 * 4096 }) ?? 0
            if contents.size < sizes.min() ?? 0 || contents.size > limit {
                return "\(contents.size) bytes, of \(sizes)"
            }
            let found = try contents.readBytes(contents.size, at: 0, scratch)
            for start in stride(from: 0, to: found.count, by: 4096) {
                let block = Array(found[start..<min(start + 4096, found.count)])
                let isOneOfThem = states.contains { state in
                    let part = state.dropFirst(start).prefix(block.count)
                    return same(block, part + [UInt8](repeating: 0, count: block.count - part.count))
                }
                if !isOneOfThem { return "a block at \(start) that it never had; \(sizes)" }
            }
            return nil
        }
    }

    /// `COFFER_KILLED_WRITES`: how many of each kind.
    @Test(arguments: Past.allCases) func whatWasToldToBeWrittenIsThere(past: Past) throws {
        let first = environmentNumber("COFFER_FIRST_SEED").map { UInt64($0) } ?? UInt64.random(in: 0..<1 << 40)
        let (ring, scratch) = (try fixedRing(), try Scratch())
        print("first seed of killed writes: \(first)")
        let count = environmentNumber("COFFER_KILLED_WRITES") ?? 150
        var torn = 0
        for seed in first..<(first + UInt64(count)) {
            let killing = try Killing(past, seed: seed, ring, scratch)
            killing.work()
            killing.disk.onCall = nil
            killing.disk.onTear = nil
            let wrong = try killing.check()
            #expect(wrong == nil, "seed \(seed), \(past)")
            if wrong != nil { return }
            torn += killing.isTorn ? 1 : 0
        }
        #expect(torn > count / 20)
    }
}
