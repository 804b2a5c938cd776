import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import Randomness
import SystemPackage
import Testing

@testable import CofferVault

/// One process, and what is left of its file.
final class KilledProcess {
    let disk = SimulatedDisk()
    let ring: KeyRing
    let scratch: Scratch
    let log: IntentLog
    let file: FileContents
    let name: StoredName
    var random: SeededRandom
    var callsLeft = Int.max
    var isDead = false
    /// Calls have failed that were not the end of it.
    private var hasFailures = false
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

    init(_ past: KilledPast, seed: UInt64, _ ring: KeyRing, _ scratch: Scratch) throws {
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

    func change(_ change: KilledChange) throws {
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

    /// Tries a change of which the calls with these numbers are refused, the first being 0. Which they were; nil where the change was made all the same.
    func refuse(_ change: KilledChange, calls: ClosedRange<Int>) throws -> [String]? {
        var (number, refused) = (0, [String]())
        disk.onCall = { name, _ throws(Errno) in
            defer { number += 1 }
            guard calls.contains(number) else { return }
            refused.append(name)
            throw .ioError
        }
        defer { disk.onCall = nil }
        do {
            try change.apply(to: file, change.applied(to: states[0]), scratch)
        } catch {
            return refused
        }
        return nil
    }

    /// Tries a change of which a call is refused, on the file itself: of what the log gets, nothing is. Whether it was.
    func refuse(_ change: KilledChange, _ call: String) throws -> Bool {
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
            let wanted = KilledChange.random(&random, size: file.size)
            var callsLeft = random.below(2) == 0 ? Int.max : 1 + random.below(6)
            // Or some of them, one after the other.
            let last = random.below(4) == 0 ? -random.below(8) : 0
            disk.onCall = { [self] _, part throws(Errno) in
                callsLeft -= 1
                guard callsLeft <= 0, callsLeft >= last else { return }
                hasFailures = true
                // Not all of it: the last bytes may be zeros by chance, as what is there already.
                part = min(random.below(3) * SimulatedDisk.pageCount / 2, disk.lastCount * 7 / 8)
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
        for _ in 0..<random.below(4) { try change(KilledChange.random(&random, size: file.size)) }
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
                try change(KilledChange.random(&random, size: file.size))
            } catch {
                if isDead { return }
                // What failed before, while nobody waited for it, is told to who needs it next, and to who syncs next.
                told += 1
                var isReadable = false
                disk.pausingCalls { isReadable = look() }
                #expect(isReadable && told <= (hasFailures ? 2 : 0), "\(error)")
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
