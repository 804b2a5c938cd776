import CofferDisk
import CofferFormat
import Foundation
import Glibc
import Randomness
import Synchronization
import SystemPackage
import Testing

@testable import CofferVault

/// Files that were made since the log began, and what it says of them though nobody has waited for it: single sequences, each on the simulated disk.
struct NewFileCutTests {
    private let disk = SimulatedDisk()
    private let ring: KeyRing
    private let scratch: Scratch
    private let log: IntentLog

    init() throws {
        ring = try fixedRing()
        scratch = try Scratch()
        log = try disk.makeLog(ring, capacity: 400_000)
    }

    private func bytes(_ value: UInt8, _ blocks: Int) -> [UInt8] { [UInt8](repeating: value, count: blocks * 4096) }

    private func make(_ letter: String) throws -> FileContents {
        try disk.makeContents(try SimulatedDisk.stored(letter, ring), ring, log, scratch)
    }

    /// What was logged so far is durable: somebody has synced something.
    private func syncAnother() throws {
        let other = try make("Z")
        try other.writeBytes([1], at: 0, scratch)
        try other.sync(dataOnly: true, scratch)
    }

    /// What a file holds after a power cut and recovery. `damaging` is done to the disk before.
    private func afterPowerCut(
        _ letter: String, _ loss: SimulatedDisk.Loss, damaging: (SimulatedDisk) throws -> Void = { _ in }
    ) throws -> [UInt8] {
        var random = SeededRandom(seed: 1)
        let left = disk.crashed(loss, &random)
        try damaging(left)
        #expect(try left.recover(ring, scratch).failed == [])
        let contents = try left.openFile(try SimulatedDisk.stored(letter, ring), ring, scratch)
        return try contents.readBytes(contents.size, at: 0, scratch)
    }

    /// The way of editors: a new file is renamed, and the next one begun under its first name, of which nothing came to the disk. Neither is taken for the other: both can be
    /// read after a power cut, whatever came to the disk of them, and of what the log was told since.
    @Test func aNameThatIsUsedAgain() throws {
        let (first, second) = (try SimulatedDisk.stored("A", ring), try SimulatedDisk.stored("B", ring))
        let file = try make("A")
        try file.writeBytes(bytes(2, 9)[...], at: 0, scratch)
        try file.writeBytes(bytes(3, 1)[...], at: 4096, scratch)
        try syncAnother()
        try log.announceMove(from: [first], to: [second], isDurable: false)
        try disk.rename(
            from: SimulatedDisk.root, first.cString, to: SimulatedDisk.root, second.cString, mode: .replace)
        disk.close(try disk.open(at: SimulatedDisk.root, first.cString, flags: O_RDWR | O_CREAT))
        var kept = 0
        for seed in 0..<200 {
            var random = SeededRandom(seed: UInt64(seed))
            let left = disk.crashed(.mostPages, &random)
            #expect(try left.recover(ring, scratch).failed == [], "seed \(seed)")
            #expect(try left.openFile(first, ring, scratch).size == 0, "seed \(seed)")
            let contents = try left.openFile(second, ring, scratch)
            let found = try contents.readBytes(contents.size, at: 0, scratch)
            #expect(found.allSatisfy { [0, 2, 3].contains($0) }, "seed \(seed)")
            if !found.isEmpty { kept += 1 }
        }
        // Or there would have been nothing to recover.
        #expect(kept > 0)
    }

    /// Of a record that nobody had waited for a part is lost. What was synced, and what was logged and waited for after that, is believed all the same.
    @Test func whatWasSyncedBehindATornRecord() throws {
        let file = try make("A")
        try file.writeBytes(bytes(2, 3)[...], at: 0, scratch)
        try file.writeBytes(bytes(3, 1)[...], at: 4096, scratch)
        let (segment, end) = (log.descriptors[log.active], log.segments[log.active].written)
        try file.sync(dataOnly: true, scratch)
        try file.writeBytes(bytes(4, 1)[...], at: 4096, scratch)
        try file.sync(dataOnly: true, scratch)
        let index = try #require(log.descriptors.firstIndex(of: segment))
        let found = try afterPowerCut("A", .all) { left in
            try left.write(try left.openSegments()[index], bytes: [UInt8](repeating: 0, count: 64), at: end - 1000)
        }
        #expect(same(found, bytes(2, 1) + bytes(4, 1) + bytes(2, 1)))
    }

    /// A sync that the log could not take is told, and who syncs at the same time, or next, finds all that is to be done.
    @Test func aSyncThatTheLogDoesNotTake() throws {
        let file = try make("A")
        try file.writeBytes(bytes(2, 3)[...], at: 0, scratch)
        try file.writeBytes(bytes(3, 1)[...], at: 4096, scratch)
        try file.resize(to: 2 * 4096, scratch)
        let segment = log.descriptors[log.active]
        disk.onCall = { [disk] name, _ throws(Errno) in
            if name == "write", disk.lastWritten == segment { throw .ioError }
        }
        #expect(throws: VaultError.self) { try file.sync(dataOnly: true, scratch) }
        disk.onCall = nil
        let logged = try #require(file.logged)
        #expect(logged.hasUnloggedChanges.load(ordering: .relaxed) && logged.isUnsure.load(ordering: .relaxed))
        try file.sync(dataOnly: true, scratch)
        #expect(same(try afterPowerCut("A", .all), bytes(2, 1) + bytes(3, 1)))
    }

    /// Two sync at the same time: neither is told that it is done before the log says so, or what was punched could come back.
    @Test func whoSyncsAtTheSameTimeWaits() throws {
        let file = try make("A")
        try file.writeBytes(bytes(2, 3)[...], at: 0, scratch)
        try file.writeBytes(bytes(3, 1)[...], at: 4096, scratch)
        try file.punch(offset: 4096, count: 4096, scratch)
        let isTold = Atomic<Bool>(false)
        let group = DispatchGroup()
        let segment = log.descriptors[log.active]
        var isFirst = true
        disk.onSync = { [file] descriptor in
            guard descriptor == segment, isFirst else { return }
            isFirst = false
            group.enter()
            Thread.detachNewThread {
                do {
                    try file.sync(dataOnly: true, try Scratch())
                } catch {
                    Issue.record("\(error)")
                }
                isTold.store(true, ordering: .releasing)
                group.leave()
            }
            // As long as the record is on its way.
            usleep(200_000)
            let isTooEarly = isTold.load(ordering: .acquiring)
            #expect(!isTooEarly)
        }
        try file.sync(dataOnly: true, scratch)
        group.wait()
        disk.onSync = nil
        #expect(!isFirst)
        #expect(same(try afterPowerCut("A", .all), bytes(2, 1) + bytes(0, 1) + bytes(2, 1)))
    }
}
