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
        /// What the file may be; while a change is under way, with it or without.
        private(set) var states: [[UInt8]] = [[]]
        /// What the file was to be by changes that failed, with none since that did not: these may be found made later, too.
        private var failed: [[UInt8]] = []
        /// What blocks may be as well, by their number: a write that failed may be found made later, as long as nothing else was written there.
        private var alternatives: [Int: [[UInt8]]] = [:]
        /// What was synced last, before any sync failed, and not changed since: blocks by their number.
        private var promised: [Int: [UInt8]] = [:]
        /// Writes in the middle of which it was killed.
        private(set) var isTorn = false

        init(_ past: Past, seed: UInt64, _ ring: KeyRing, _ scratch: Scratch) throws {
            random = SeededRandom(seed: seed)
            (self.ring, self.scratch) = (ring, scratch)
            log = try disk.makeLog(ring, capacity: 400_000)
            name = try SimulatedDisk.stored("A", ring)
            file = try disk.makeContents(name, ring, log, scratch)
            if past != .new {
                try change(.write(offset: 0, count: 50_000, value: 9))
                try file.sync(dataOnly: false, scratch)
                try log.checkpoint()
            }
            if past == .growing { try change(.write(offset: 50_000, count: 120_000, value: 11)) }
        }

        func change(_ change: Change) throws {
            let before = states[0]
            let after = change.applied(to: before)
            states = [before, after]
            promised = promised.filter { same(Self.block($0.key, after), $0.value) }
            try change.apply(to: file, after, scratch)
            if case .sync = change, !disk.hasLost {
                for block in 0..<(after.count + 4095) / 4096 { promised[block] = Self.block(block, after) }
            }
            // Else nobody was told that it is done.
            if isDead { return }
            states = [after]
            failed = []
            for block in alternatives.keys where !same(Self.block(block, before), Self.block(block, after)) {
                alternatives[block] = nil
            }
        }

        /// A block's bytes, zeros where there are none.
        private static func block(_ number: Int, _ bytes: [UInt8]) -> [UInt8] {
            let part = bytes.dropFirst(number * 4096).prefix(4096)
            return part + [UInt8](repeating: 0, count: 4096 - part.count)
        }

        /// Tries a change of which a call is refused, on the file itself: of what the log gets, nothing is. Whether it was.
        func refuse(_ change: Change, _ call: String) throws -> Bool {
            var isRefused = false
            disk.onCall = { [disk, file] name, _ throws(Errno) in
                guard name == call, !isRefused, disk.lastWritten == file.descriptor || name != "write",
                    disk.lastSynced == file.descriptor || name != "sync"
                else { return }
                isRefused = true
                throw .ioError
            }
            defer { disk.onCall = nil }
            do {
                try change.apply(to: file, change.applied(to: states[0]), scratch)
            } catch {
                return isRefused
            }
            return false
        }

        /// Makes a cut of which the system refuses the truncation, and then that the old end goes back: it counts as made.
        func cutHalfway(to size: Int) throws {
            var refused = 0
            disk.onCall = { [disk, file] name, _ throws(Errno) in
                guard name == "truncate" || refused == 1 && name == "write" && disk.lastWritten == file.descriptor
                else {
                    return
                }
                refused += 1
                throw .ioError
            }
            defer { disk.onCall = nil }
            try change(.resize(size))
            #expect(refused == 2)
        }

        /// Makes some changes, in every other of which a call fails, some of them in the middle of a write. Afterwards the file is what it reads as; false where it does not read.
        func fail() -> Bool {
            for _ in 0..<(1 + random.below(4)) {
                let wanted = Change.random(&random, size: file.size)
                var callsLeft = random.below(2) == 0 ? Int.max : 1 + random.below(6)
                // Or some of them, one after the other.
                let last = random.below(4) == 0 ? -random.below(8) : 0
                disk.onCall = { [self] _, part throws(Errno) in
                    callsLeft -= 1
                    guard callsLeft <= 0, callsLeft >= last else { return }
                    part = random.below(3) * SimulatedDisk.pageCount / 2
                    throw .ioError
                }
                do {
                    try change(wanted)
                } catch {
                    // What it is now is what counts.
                }
                disk.onCall = nil
                if !look() { return false }
            }
            return true
        }

        /// After a change, which may have failed: the file is what it reads as, and may be found to be what it was to be. False where it does not read.
        private func look() -> Bool {
            let wanted = states.last ?? []
            do {
                states = [try file.readBytes(file.size, at: 0, scratch)]
            } catch {
                return false
            }
            if !same(wanted, states[0]) { failed.append(wanted) }
            for block in 0..<(wanted.count + 4095) / 4096 {
                let bytes = Self.block(block, wanted)
                if !same(bytes, Self.block(block, states[0])) { alternatives[block, default: []].append(bytes) }
            }
            return true
        }

        /// Makes some changes of which none fails, and syncs: from then on the file is that to the byte.
        func settleDown() throws {
            // What failed while nobody waited for it is told once, to whoever syncs next.
            if (try? change(.sync)) == nil { try change(.sync) }
            for _ in 0..<random.below(4) { try change(Change.random(&random, size: file.size)) }
            try change(.sync)
            alternatives = [:]
        }

        /// Works until it is killed, in some call, of the next so many.
        func work(within calls: Int = 400) {
            callsLeft = 1 + random.below(calls)
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
            var told = 0
            while !isDead {
                do {
                    try change(Change.random(&random, size: file.size))
                } catch {
                    if isDead { return }
                    // What failed before, while nobody waited for it, is told to who needs it next, and to who syncs next.
                    told += 1
                    #expect(told <= 2, "\(error)")
                    var isReadable = false
                    disk.pausingCalls { isReadable = look() }
                    #expect(isReadable)
                    if !isReadable || told > 2 { return }
                }
            }
        }

        /// What is pending holds on to the file, which would stay in memory.
        func close() {
            disk.onCall = nil
            disk.onTear = nil
            // It is stored, and throws all the same where the log failed.
            _ = Result { () throws(VaultError) in try file.drain() }
        }

        /// As ``check(_:)``, where syncs may have failed: what they were to store is lost, but not what was promised before.
        func checkPromises(_ loss: SimulatedDisk.Loss) throws -> String? {
            if !disk.hasLost { return try check(loss) }
            let left = disk.crashed(loss, &random)
            let report = try left.recover(ring, scratch)
            if let failure = report.failed.first { return "not recovered: \(failure.error)" }
            if promised.isEmpty { return nil }
            let contents = try left.openFile(name, ring, scratch)
            for (block, bytes) in promised.sorted(by: { $0.key < $1.key }) {
                let count = min(4096, states[0].count - block * 4096)
                guard contents.size >= block * 4096 + count else { return "\(contents.size) bytes, block \(block)" }
                if !same(try contents.readBytes(count, at: block * 4096, scratch), Array(bytes.prefix(count))) {
                    return "block \(block) is not what was promised"
                }
            }
            return nil
        }

        /// What is wrong with what the next process finds; nil for nothing.
        func check(_ loss: SimulatedDisk.Loss = .nothing) throws -> String? {
            let left = disk.crashed(loss, &random)
            let report = try left.recover(ring, scratch)
            if let failure = report.failed.first { return "not recovered: \(failure.error)" }
            let contents = try left.openFile(name, ring, scratch)
            let states = states + failed
            let sizes = states.map(\.count)
            let limit = (sizes.max().map { ($0 + 4095) / 4096 * 4096 }) ?? 0
            if contents.size < sizes.min() ?? 0 || contents.size > limit {
                return "\(contents.size) bytes, of \(sizes)"
            }
            let found: [UInt8]
            do {
                found = try contents.readBytes(contents.size, at: 0, scratch)
            } catch {
                return "\(error), \(contents.size) bytes of \(sizes)"
            }
            for start in stride(from: 0, to: found.count, by: 4096) {
                let block = Array(found[start..<min(start + 4096, found.count)])
                let number = start / 4096
                let isOneOfThem = (states.map { Self.block(number, $0) } + (alternatives[number] ?? [])).contains {
                    same(block, Array($0.prefix(block.count)))
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
            let wrong = try killing.check()
            #expect(wrong == nil, "seed \(seed), \(past)")
            if wrong != nil { return }
            torn += killing.isTorn ? 1 : 0
            killing.close()
        }
        #expect(torn > count / 20)
    }

    /// Calls fail, and what is left of the file is what programs see from then on. It is killed soon.
    @Test(arguments: Past.allCases) func whatIsThereAfterFailuresStays(past: Past) throws {
        let first = environmentNumber("COFFER_FIRST_SEED").map { UInt64($0) } ?? UInt64.random(in: 0..<1 << 40)
        let (ring, scratch) = (try fixedRing(), try Scratch())
        print("first seed of killed writes after failures: \(first)")
        let count = environmentNumber("COFFER_KILLED_WRITES") ?? 150
        var seen = 0
        for seed in first..<(first + UInt64(count)) {
            let killing = try Killing(past, seed: seed, ring, scratch)
            guard killing.fail() else { continue }
            killing.work(within: 40)
            let wrong = try killing.check()
            #expect(wrong == nil, "seed \(seed), \(past)")
            if wrong != nil { return }
            seen += 1
            killing.close()
        }
        #expect(seen > count / 2)
    }

    /// As above, but it is synced afterwards, and then the power goes.
    @Test(arguments: Past.allCases) func whatIsSyncedAfterFailuresStays(past: Past) throws {
        let first = environmentNumber("COFFER_FIRST_SEED").map { UInt64($0) } ?? UInt64.random(in: 0..<1 << 40)
        let (ring, scratch) = (try fixedRing(), try Scratch())
        print("first seed of power cuts after failures: \(first)")
        let count = environmentNumber("COFFER_KILLED_WRITES") ?? 150
        var seen = 0
        for seed in first..<(first + UInt64(count)) {
            let killing = try Killing(past, seed: seed, ring, scratch)
            killing.disk.losesWhatItCannotSync = seed % 2 == 1
            guard killing.fail() else { continue }
            do {
                try killing.settleDown()
            } catch {
                Issue.record("seed \(seed), \(past): \(error)")
                return
            }
            let loss = SimulatedDisk.Loss.allCases[Int(seed / 2 % UInt64(SimulatedDisk.Loss.allCases.count))]
            let wrong = try killing.checkPromises(loss)
            #expect(wrong == nil, "seed \(seed), \(past), \(loss)")
            if wrong != nil { return }
            seen += 1
            killing.close()
        }
        #expect(seen > count / 2)
    }

    /// What a sync promised that needed nothing but the log is there, though a later one of the file failed, after which the system takes all for written.
    @Test func aFailedSyncTakesNothingThatWasPromised() throws {
        let killing = try Killing(.synced, seed: 1, try fixedRing(), try Scratch())
        killing.disk.losesWhatItCannotSync = true
        try killing.change(.write(offset: 3 * 4096, count: 100, value: 5))
        try killing.change(.sync)
        // Stored in its place, and not synced there.
        try killing.change(.write(offset: 50_000, count: 120_000, value: 6))
        #expect(try killing.refuse(.sync, "sync") && killing.disk.hasLost)
        try killing.change(.sync)
        // That the file was synced is in the log, and with the next record there for good.
        try killing.change(.write(offset: 9 * 4096, count: 100, value: 7))
        try killing.change(.sync)
        #expect(try killing.checkPromises(.all) == nil)
    }

    /// What the system refused to make of a new file is not made by recovery either, whatever was written since.
    @Test(arguments: ["write", "truncate"], [false, true])
    func aRefusedCutIsNotMadeLater(call: String, isWrittenTo: Bool) throws {
        for size in [20_000, 16_384, 9, 0] {
            let killing = try Killing(.new, seed: 1, try fixedRing(), try Scratch())
            try killing.change(.write(offset: 0, count: 50_000, value: 3))
            // In place: the log knows of the file from now on.
            try killing.change(.write(offset: 10_000, count: 100, value: 4))
            #expect(try killing.refuse(.resize(size), call) && killing.file.size == 50_000)
            if isWrittenTo { try killing.change(.write(offset: 50_000, count: 30_000, value: 5)) }
            #expect(try killing.check() == nil, "cut to \(size)")
        }
    }

    /// A block that the system would not make a hole of is there once the file was settled, whatever the log was told.
    @Test func aRefusedPunchIsNotMadeLater() throws {
        let killing = try Killing(.new, seed: 1, try fixedRing(), try Scratch())
        try killing.change(.write(offset: 0, count: 80_000, value: 3))
        try killing.change(.write(offset: 5 * 4096, count: 100, value: 4))
        #expect(try killing.refuse(.punch(offset: 5 * 4096, count: 4096), "allocate"))
        try killing.file.settle(killing.scratch)
        #expect(try killing.check() == nil)
    }

    /// A cut or an emptying is refused. What was a hole before, and was filled, is none.
    @Test(arguments: [40_000, 0]) func aRefusedCutLeavesWhatWasPunched(size: Int) throws {
        let killing = try Killing(.new, seed: 1, try fixedRing(), try Scratch())
        try killing.change(.write(offset: 0, count: 80_000, value: 3))
        try killing.change(.write(offset: 5 * 4096, count: 100, value: 4))
        try killing.change(.punch(offset: 5 * 4096, count: 4096))
        try killing.change(.write(offset: 5 * 4096, count: 4096, value: 5))
        #expect(try killing.refuse(.resize(size), "truncate") && killing.file.size == 80_000)
        #expect(try killing.check() == nil)
    }

    /// The end that was wanted is there, and so is what was to go.
    @Test func aCutThatIsHalfMade() throws {
        for size in [20_000, 9] {
            let killing = try Killing(.new, seed: 1, try fixedRing(), try Scratch())
            try killing.change(.write(offset: 0, count: 50_000, value: 3))
            try killing.change(.write(offset: 10_000, count: 100, value: 4))
            try killing.cutHalfway(to: size)
            #expect(try killing.check() == nil, "cut to \(size)")
        }
    }
}
