import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
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
            ring: ring, cipher: .aes256GCM, log: log, making: making,
            place: { gone.isSet ? nil : [name] }, scratch: scratch)
        log.end(making.ticket)
        try file.writeBytes(bytes(1, 30)[...], at: 0, scratch)
        try file.sync(dataOnly: false, scratch)
        try log.checkpoint()
    }

    private func bytes(_ value: UInt8, _ blocks: Int) -> [UInt8] { [UInt8](repeating: value, count: blocks * 4096) }

    private func afterPowerCut(_ loss: SimulatedDisk.Loss = .all) throws -> [UInt8] {
        var random = SeededRandom(seed: 1)
        let left = disk.crashed(loss, &random)
        var recovery = LogRecovery(disk: left, ring: ring, rootDescriptor: SimulatedDisk.root, scratch: scratch)
        _ = try recovery.recover(
            try LogDirectory.segmentNames.map { try left.open(at: SimulatedDisk.root, $0.cString, flags: O_RDWR) })
        #expect(recovery.report.failed == [])
        let contents = try FileContents(
            disk: left, ring: ring, cipher: .aes256GCM,
            descriptor: try left.open(at: SimulatedDisk.root, name.cString, flags: O_RDWR), isWritable: true,
            scratch: scratch)
        return try contents.readBytes(contents.size, at: 0, scratch)
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

    /// An append in one segment, and a change of what it added in the next: both are there, or neither.
    @Test func recordsThatRelyOnTheSegmentBefore() throws {
        try file.resize(to: 9 * 4096 + 1000, scratch)
        try file.sync(dataOnly: false, scratch)
        try log.checkpoint()
        try file.writeBytes(bytes(2, 1)[...], at: 9 * 4096 + 1000, scratch)
        // The segment fills up with another file's records.
        let (_, second) = try another()
        for round in 0..<12 {
            try second.writeBytes(bytes(UInt8(round), 10)[...], at: 0, scratch)
            try file.writeBytes([7, 7, UInt8(round)], at: 10 * 4096 + 3, scratch)
            if round % 4 == 3 { try second.sync(dataOnly: true, scratch) }
            let found = try afterPowerCut()
            #expect(same(Array(found.prefix(9 * 4096 + 1000)), bytes(1, 9) + [UInt8](repeating: 1, count: 1000)))
        }
    }

    /// As above where nobody has emptied the first segment yet: its last records, which nobody waited for, are there before any of the next.
    @Test func theTailOfASegmentThatIsNotEmptiedYet() throws {
        try file.resize(to: 9 * 4096 + 1000, scratch)
        try file.sync(dataOnly: false, scratch)
        try log.checkpoint()
        // As if a thread would see to it, in a while.
        log.hasKeeper = true
        try file.writeBytes(bytes(2, 1)[...], at: 9 * 4096 + 1000, scratch)
        let (_, second) = try another()
        let before = log.active
        var round: UInt8 = 0
        while log.active == before {
            try second.writeBytes(bytes(round, 10)[...], at: 0, scratch)
            round += 1
        }
        try file.writeBytes([7], at: 10 * 4096 + 3, scratch)
        try second.sync(dataOnly: true, scratch)
        let found = try afterPowerCut()
        #expect(same(Array(found.prefix(9 * 4096 + 1000)), bytes(1, 9) + [UInt8](repeating: 1, count: 1000)))
        log.hasKeeper = false
    }

    /// Another file, of 15 blocks and synced.
    private func another() throws -> (StoredName, FileContents) {
        let name = try NameCodec(ring: ring, limit: 255).encoding(of: [66], in: .root(vaultID: [])).entry
        let making = try log.making(in: [IntentLog.Directory(known: 0) { [] }])
        let contents = try FileContents(
            creating: try disk.open(at: SimulatedDisk.root, name.cString, flags: O_RDWR | O_CREAT), disk: disk,
            ring: ring, cipher: .aes256GCM, log: log, making: making, place: { [name] }, scratch: scratch)
        log.end(making.ticket)
        try contents.writeBytes(bytes(5, 15)[...], at: 0, scratch)
        try contents.sync(dataOnly: true, scratch)
        return (name, contents)
    }

    /// Two threads log in one order and add what is pending in the other: a sync waits for the farthest.
    @Test func aSyncWaitsForTheFarthestRecord() throws {
        let logged = try #require(file.logged)
        func append() throws -> IntentLog.Ticket {
            let image = [UInt8](repeating: 0, count: BlockGeometry.storedCount)
            let ticket = try image.withUnsafeBytes { payload in
                try log.append(
                    [.blocks(first: 3, isCut: false, predecessors: [.absent])], payload: payload, for: logged,
                    header: file.header.bytes)
            }
            return try #require(ticket)
        }
        func add(_ ticket: IntentLog.Ticket) {
            logged.pending.add(
                ticket, first: 3, byteCount: BlockGeometry.storedCount, cutSize: nil,
                descriptor: log.descriptor(of: ticket), in: file)
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
        log.introduceAnew(try #require(file.logged))
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
