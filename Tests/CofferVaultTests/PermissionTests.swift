import CofferCrypto
import CofferDisk
import Synchronization
import Testing

@testable import CofferVault

/// Counts what is read.
private final class CountingDisk: Disk, @unchecked Sendable {
    let reads = Atomic<Int>(0)

    override func readOnce(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer, _ count: Int, _ offset: Int) -> Int {
        reads.add(1, ordering: .relaxed)
        return super.readOnce(descriptor, buffer, count, offset)
    }
}

/// Final marks and gaps are taken back by settling, whatever made them too wide.
struct PermissionTests {
    private let directory: TemporaryDirectory
    private let file: OpenContents
    private let block = 4096

    init() throws {
        directory = try TemporaryDirectory()
        file = try OpenContents(directory.file("file"), ring: try fixedRing(), cipher: .aes256GCM)
    }

    /// Blocks 0 and 10 are stored, 1 to 9 are holes.
    private func makeHole() throws {
        try file.write(filled(1, block), at: 0)
        try file.write(filled(10, block), at: 10 * block)
        try file.settle()
    }

    private func filled(_ value: UInt8, _ count: Int) -> [UInt8] { [UInt8](repeating: value, count: count) }

    private func expectExact(_ gaps: [Int: Int], sourceLocation: SourceLocation = #_sourceLocation) throws {
        try file.settle()
        let stored = try StoredFile(file.path, ring: file.ring)
        #expect(stored.faults(isSettled: true) == [], sourceLocation: sourceLocation)
        let found = Dictionary(uniqueKeysWithValues: stored.blocks.filter { $0.gap > 0 }.map { ($0.index, $0.gap) })
        #expect(found == gaps, sourceLocation: sourceLocation)
    }

    @Test func fillingInTheMiddleOfAHole() throws {
        try makeHole()
        try file.write(filled(5, block), at: 5 * block)
        try expectExact([5: 4, 10: 4])
    }

    @Test func fillingTheStartOfAHoleInOneWriteWithWhatIsBeforeIt() throws {
        try makeHole()
        try file.reopen()
        try file.write(filled(5, 5 * block), at: 0)
        try expectExact([10: 5])
    }

    @Test func fillingAHoleUpToItsVoucher() throws {
        try makeHole()
        try file.reopen()
        try file.write(filled(5, 4 * block), at: 6 * block)
        try expectExact([6: 5])
    }

    @Test func fillingAWideHoleTakesFewCalls() throws {
        let disk = CountingDisk()
        let file = try OpenContents(directory.file("wide"), ring: file.ring, cipher: .aes256GCM, disk: disk)
        try file.write(filled(1, block), at: 0)
        try file.write(filled(10, block), at: 1000 * block)
        try file.write(filled(5, 999 * block), at: block)
        disk.reads.store(0, ordering: .relaxed)
        try file.settle()
        // The voucher and what is directly before it, however wide the hole was.
        #expect(disk.reads.load(ordering: .relaxed) <= 4)
        let stored = try StoredFile(file.path, ring: file.ring)
        #expect(stored.faults(isSettled: true) == [])
        #expect(stored.blocks.allSatisfy { $0.gap == 0 })
    }

    @Test func fillingAHoleAndItsVoucher() throws {
        try makeHole()
        try file.write(filled(5, 5 * block), at: 6 * block)
        try expectExact([6: 5])
    }

    @Test func cuttingInAVoucherOfAFilledHole() throws {
        try makeHole()
        try file.write(filled(5, block), at: 5 * block)
        try file.resize(to: 10 * block + 100)
        try expectExact([5: 4, 10: 4])
    }

    @Test func appendingBehindAVoucherOfAFilledHole() throws {
        try makeHole()
        try file.write(filled(5, block), at: 5 * block)
        try file.write(filled(11, block), at: 11 * block)
        try expectExact([5: 4, 10: 4])
    }

    @Test func fillingAndPunchingAgain() throws {
        try makeHole()
        try file.write(filled(5, block), at: 5 * block)
        try file.punch(5 * block, block)
        try expectExact([10: 9])
    }

    @Test func fillingWithMoreHolesThanTheMapRemembers() throws {
        // Every other block is a hole, so that the map forgets while the first voucher is not settled yet.
        try makeHole()
        let count = 4200
        for index in 0..<count { try file.write([1], at: (12 + 2 * index) * block) }
        try file.settle()
        try file.reopen()
        try file.write(filled(5, block), at: 5 * block)
        for index in 0..<count { _ = try file.read(1, at: (11 + 2 * index) * block) }
        try file.settle()
        let stored = try StoredFile(file.path, ring: file.ring)
        #expect(stored.faults(isSettled: true) == [])
    }

    @Test func zeroingWhatWasFilledIsDamage() throws {
        try makeHole()
        try file.reopen()
        try file.write(filled(5, 5 * block), at: 0)
        try file.settle()
        var raw = try rawBytes(file.path)
        raw.replaceSubrange((32 + 4 * 4128)..<(32 + 5 * 4128), with: repeatElement(0, count: 4128))
        try setRawBytes(file.path, raw)
        try file.reopen()
        #expect(throws: VaultError.damaged(Damage(.hole, block: 4))) { try file.readAll() }
    }

    @Test func readingFarBeyondTheEndIsEmpty() throws {
        try makeHole()
        #expect(try file.read(4096, at: Int.max - 10) == [])
    }
}
