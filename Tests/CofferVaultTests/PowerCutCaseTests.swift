import CofferCrypto
import CofferDisk
import CofferFormat
import Foundation
import Glibc
import Randomness
import Synchronization
import SystemPackage
import Testing

@testable import CofferVault

/// Single sequences that once lost something, each on the simulated disk.
struct PowerCutCaseTests {
    private let disk = SimulatedDisk()
    private let ring: KeyRing
    private let scratch: Scratch
    private let log: IntentLog
    private let name: StoredName
    private let file: FileContents
    private let gone = Flag()

    /// Whether the file has lost its name.
    private final class Flag: @unchecked Sendable {
        var isSet = false
    }

    /// A file of 30 blocks that is on the disk, and an empty log.
    init() throws {
        let (disk, gone) = (disk, gone)
        ring = try fixedRing()
        scratch = try Scratch()
        log = try disk.makeLog(ring, capacity: 400_000)
        let name = try SimulatedDisk.stored("A", ring)
        self.name = name
        file = try disk.makeContents(name, ring, log, scratch) { gone.isSet ? nil : [name] }
        try file.writeBytes(bytes(1, 30)[...], at: 0, scratch)
        try file.sync(dataOnly: false, scratch)
        try log.checkpoint()
    }

    private func bytes(_ value: UInt8, _ blocks: Int) -> [UInt8] { [UInt8](repeating: value, count: blocks * 4096) }

    private func afterPowerCut(_ loss: SimulatedDisk.Loss = .all, of letter: UInt8 = 65) throws -> [UInt8] {
        var random = SeededRandom(seed: 1)
        let left = disk.crashed(loss, &random)
        #expect(try recover(left).failed == [])
        let contents = try open(left, letter)
        return try contents.readBytes(contents.size, at: 0, scratch)
    }

    private func recover(_ disk: SimulatedDisk) throws -> LogRecovery.Report { try disk.recover(ring, scratch) }

    private func open(_ disk: SimulatedDisk, _ letter: UInt8 = 65) throws -> FileContents {
        try disk.openFile(stored(letter), ring, scratch)
    }

    /// What is not yet synced of the log may be there all the same.
    @Test func grownCutAndGrownAgain() throws {
        try file.writeBytes(bytes(2, 20)[...], at: 30 * 4096, scratch)
        try file.resize(to: 10 * 4096 + 100, scratch)
        try file.writeBytes(bytes(3, 40)[...], at: 10 * 4096 + 100, scratch)
        try file.sync(dataOnly: false, scratch)
        let expected = bytes(1, 10) + [UInt8](repeating: 1, count: 100) + bytes(3, 40)
        for loss in [SimulatedDisk.Loss.all, .nothing] { #expect(same(try afterPowerCut(loss), expected)) }
    }

    /// A power cut while recovering from one that left a record half-way: what the first recovery wrote down is believed, whatever was before it.
    @Test func aRecoveryThatIsCutShortBehindATornRecord() throws {
        // Grown without a record of each block; then changes that nobody has waited for.
        try file.writeBytes(bytes(2, 20)[...], at: 30 * 4096, scratch)
        try file.writeBytes(bytes(3, 4)[...], at: 2 * 4096, scratch)
        var recoveries = 0
        for seed in 0..<200 {
            var random = SeededRandom(seed: UInt64(seed))
            let first = disk.crashed(.anything, &random)
            var second: SimulatedDisk?
            var changes = random.below(8)
            first.onChange = { [unowned first] in
                changes -= 1
                if changes == 0 { second = first.crashed(.anything, &random) }
            }
            _ = try recover(first)
            guard let second else { continue }
            recoveries += 1
            #expect(try recover(second).failed == [], "seed \(seed)")
            let contents = try open(second)
            let found = try contents.readBytes(contents.size, at: 0, scratch)
            #expect(found.count >= 30 * 4096, "seed \(seed)")
        }
        #expect(recoveries > 50)
    }

    /// An append in one segment, and a change of what it added in the next: the first segment's last records, which nobody waited for, are there before any of
    /// the next.
    @Test func theTailOfASegmentThatIsNotEmptiedYet() throws {
        let start = [UInt8](repeating: 5, count: 9 * 4096 + 1000)
        let (victim, second, third) = (try another(66, start), try another(67), try another(68))
        try log.checkpoint()
        // As if a thread would see to it, in a while.
        log.hasKeeper = true
        try victim.writeBytes(bytes(2, 1)[...], at: start.count, scratch)
        let before = log.active
        var round: UInt8 = 0
        while log.active == before {
            try second.writeBytes(bytes(round, 10)[...], at: 0, scratch)
            round += 1
        }
        try victim.writeBytes([7], at: 10 * 4096 + 3, scratch)
        // Of this one nothing is in the first segment that it would have to wait for.
        try third.writeBytes([7], at: 0, scratch)
        try third.sync(dataOnly: true, scratch)
        let found = try afterPowerCut(.all, of: 66)
        #expect(same(Array(found.prefix(start.count)), start))
        log.hasKeeper = false
    }

    private func stored(_ letter: UInt8) throws -> StoredName {
        try SimulatedDisk.stored(String(UnicodeScalar(letter)), ring)
    }

    /// Another file, synced.
    private func another(_ letter: UInt8, _ contents: [UInt8]? = nil) throws -> FileContents {
        let file = try disk.makeContents(stored(letter), ring, log, scratch)
        try file.writeBytes((contents ?? bytes(5, 15))[...], at: 0, scratch)
        try file.sync(dataOnly: true, scratch)
        return file
    }

    /// Images are being stored once more, which relies on nothing else being stored meanwhile: nor what the log is not told of.
    @Test func whatIsStoredOnceMoreMeetsNoUnloggedChange() throws {
        let logged = try #require(file.logged)
        logged.isUnsure.store(true, ordering: .relaxed)
        log.lock()
        log.isClosed = true
        log.unlock()
        let (file, log) = (file, log)
        let happened = Mutex<[String]>([])
        try run(threads: 2) { number, scratch in
            if number == 0 {
                try file.writeBytes([1, 2, 3], at: 5, scratch)
                happened.withLock { $0.append("written") }
            } else {
                usleep(100_000)
                happened.withLock { $0.append("stored once more") }
                log.lock()
                log.isClosed = false
                log.signal()
                log.unlock()
            }
        }
        #expect(happened.withLock { $0 } == ["stored once more", "written"])
    }

    /// Two threads log in one order and add what is pending in the other: a sync waits for the farthest.
    @Test func aSyncWaitsForTheFarthestRecord() throws {
        let logged = try #require(file.logged)
        let image = [UInt8](repeating: 0, count: BlockGeometry.storedCount)
        func append() throws -> IntentLog.Ticket {
            let ticket = try image.withUnsafeBytes { payload in
                try log.append(
                    [.blocks(first: 3, isCut: false, predecessors: [.absent])], payload: payload, for: logged,
                    header: file.header.bytes)
            }
            return try #require(ticket)
        }
        func add(_ ticket: IntentLog.Ticket) {
            image.withUnsafeBytes { images in
                guard let images = images.baseAddress else { return }
                logged.pending.add(
                    ticket, images, first: 3, byteCount: BlockGeometry.storedCount, cutSize: nil, log, in: file)
            }
        }
        let first = try append()
        try log.commit(first)
        let second = try append()
        add(second)
        add(first)
        #expect(log.segments[second.segment].durable < second.end)
        try logged.pending.commit(log)
        #expect(log.segments[second.segment].durable >= second.end)
        logged.pending.discard(from: 0, log)
    }

    /// Whoever comes late for a record finds its segment emptied and begun anew, by somebody who saw to it meanwhile: there is nothing to wait for.
    @Test func whoComesLateForARecordDoesNotWait() throws {
        for number in 0..<8 { try file.writeBytes(bytes(UInt8(number), 1)[...], at: 4096, scratch) }
        let logged = try #require(file.logged)
        let late = try #require(
            try log.append([.synced(size: 4160)], for: logged, header: file.header.bytes))
        log.end(late)
        try file.drain()
        // Until both segments have been begun again, and hold less than that.
        try log.checkpoint()
        try file.writeBytes(bytes(9, 1)[...], at: 4096, scratch)
        try log.checkpoint()
        #expect(log.segments[late.segment].order != late.order)
        #expect(log.segments[late.segment].durable < late.end)
        let done = DispatchSemaphore(value: 0)
        let log = log
        Thread.detachNewThread {
            #expect(throws: Never.self) { try log.commit(late) }
            done.signal()
        }
        #expect(done.wait(timeout: .now() + 10) == .success)
    }

    /// A file that could not be reached gets what was promised when it can, though its vault was in use meanwhile.
    @Test func aFileThatIsReachedLater() throws {
        try file.writeBytes(bytes(2, 1)[...], at: 4096, scratch)
        try file.writeBytes(bytes(2, 1)[...], at: 7 * 4096, scratch)
        try file.sync(dataOnly: true, scratch)
        var random = SeededRandom(seed: 1)
        let left = disk.crashed(.all, &random)
        let segments = try LogDirectory.segmentNames.map {
            try left.open(at: SimulatedDisk.root, $0.cString, flags: O_RDWR)
        }
        left.onCall = { name, _ throws(Errno) in if name == "open" { throw .permissionDenied } }
        var recovery = LogRecovery(disk: left, ring: ring, rootDescriptor: SimulatedDisk.root, scratch: scratch)
        _ = try recovery.recover(segments)
        #expect(recovery.report.isUnfinished && recovery.report.failed.map(\.path) == [[name]])
        left.onCall = nil
        // Meanwhile one of the two blocks is written anew.
        let contents = try FileContents(
            disk: left, ring: ring, cipher: .aes256GCM,
            descriptor: try left.open(at: SimulatedDisk.root, name.cString, flags: O_RDWR), isWritable: true,
            scratch: scratch)
        try contents.writeBytes(bytes(9, 1)[...], at: 7 * 4096, scratch)
        var second = LogRecovery(disk: left, ring: ring, rootDescriptor: SimulatedDisk.root, scratch: scratch)
        _ = try second.recover([], leftovers: segments)
        #expect(second.report.failed == [])
        let expected = bytes(1, 1) + bytes(2, 1) + bytes(1, 5) + bytes(9, 1) + bytes(1, 22)
        #expect(same(try contents.readBytes(contents.size, at: 0, scratch), expected))
    }

    /// What is written to a file without a name is not overtaken by what was logged of it when it had one.
    @Test func aFileThatLosesItsName() throws {
        try file.writeBytes(bytes(2, 1)[...], at: 4096, scratch)
        gone.isSet = true
        try #require(file.logged).number = nil
        try file.writeBytes(bytes(3, 1)[...], at: 4096, scratch)
        #expect(same(try file.readBytes(4096, at: 4096, scratch), bytes(3, 1)))
        try log.checkpoint()
        #expect(same(try file.readBytes(4096, at: 4096, scratch), bytes(3, 1)))
    }

    /// A cut that the system refuses at first comes before what is appended after it.
    @Test func aCutThatIsMadeLater() throws {
        var refused = 0
        disk.onCall = { name, _ throws(Errno) in
            if name == "truncate", refused < 1 {
                refused += 1
                throw .ioError
            }
        }
        try file.resize(to: 5 * 4096 + 10, scratch)
        disk.onCall = nil
        #expect(refused == 1)
        #expect(file.size == 5 * 4096 + 10)
        try file.writeBytes(bytes(4, 2)[...], at: 5 * 4096 + 10, scratch)
        try file.sync(dataOnly: true, scratch)
        let expected = bytes(1, 5) + [UInt8](repeating: 1, count: 10) + bytes(4, 2)
        for loss in [SimulatedDisk.Loss.all, .nothing, .sizes] { #expect(same(try afterPowerCut(loss), expected)) }
    }

    /// A punch that fails takes nothing, after a power cut neither.
    @Test func aPunchThatFails() throws {
        try file.writeBytes(bytes(2, 4)[...], at: 8 * 4096, scratch)
        try file.sync(dataOnly: true, scratch)
        disk.onCall = { name, _ throws(Errno) in if name == "allocate" { throw .ioError } }
        #expect(throws: VaultError.self) { try file.punch(offset: 8 * 4096, count: 4 * 4096, scratch) }
        disk.onCall = nil
        try file.sync(dataOnly: true, scratch)
        let expected = bytes(1, 8) + bytes(2, 4) + bytes(1, 18)
        for loss in [SimulatedDisk.Loss.all, .nothing] { #expect(same(try afterPowerCut(loss), expected)) }
    }
}
