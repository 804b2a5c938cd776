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
    /// `COFFER_KILLED_WRITES`: how many of each kind.
    @Test(arguments: KilledPast.allCases) func whatWasToldToBeWrittenIsThere(past: KilledPast) throws {
        let first = environmentNumber("COFFER_FIRST_SEED").map { UInt64($0) } ?? UInt64.random(in: 0..<1 << 40)
        let (ring, scratch) = (try fixedRing(), try Scratch())
        print("first seed of killed writes: \(first)")
        let count = environmentNumber("COFFER_KILLED_WRITES") ?? 150
        var torn = 0
        for seed in first..<(first + UInt64(count)) {
            let killing = try KilledProcess(past, seed: seed, ring, scratch)
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
    @Test(arguments: KilledPast.allCases) func whatIsThereAfterFailuresStays(past: KilledPast) throws {
        let first = environmentNumber("COFFER_FIRST_SEED").map { UInt64($0) } ?? UInt64.random(in: 0..<1 << 40)
        let (ring, scratch) = (try fixedRing(), try Scratch())
        print("first seed of killed writes after failures: \(first)")
        let count = environmentNumber("COFFER_KILLED_WRITES") ?? 150
        var seen = 0
        for seed in first..<(first + UInt64(count)) {
            let killing = try KilledProcess(past, seed: seed, ring, scratch)
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
    @Test(arguments: KilledPast.allCases) func whatIsSyncedAfterFailuresStays(past: KilledPast) throws {
        let first = environmentNumber("COFFER_FIRST_SEED").map { UInt64($0) } ?? UInt64.random(in: 0..<1 << 40)
        let (ring, scratch) = (try fixedRing(), try Scratch())
        print("first seed of power cuts after failures: \(first)")
        let count = environmentNumber("COFFER_KILLED_WRITES") ?? 150
        var seen = 0
        for seed in first..<(first + UInt64(count)) {
            let killing = try KilledProcess(past, seed: seed, ring, scratch)
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
        let killing = try KilledProcess(.synced, seed: 1, try fixedRing(), try Scratch())
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
            let killing = try KilledProcess(.new, seed: 1, try fixedRing(), try Scratch())
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
        let killing = try KilledProcess(.new, seed: 1, try fixedRing(), try Scratch())
        try killing.change(.write(offset: 0, count: 80_000, value: 3))
        try killing.change(.write(offset: 5 * 4096, count: 100, value: 4))
        #expect(try killing.refuse(.punch(offset: 5 * 4096, count: 4096), "allocate"))
        try killing.file.settle(killing.scratch)
        #expect(try killing.check() == nil)
    }

    /// A cut or an emptying is refused. What was a hole before, and was filled, is none.
    @Test(arguments: [40_000, 0]) func aRefusedCutLeavesWhatWasPunched(size: Int) throws {
        let killing = try KilledProcess(.new, seed: 1, try fixedRing(), try Scratch())
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
            let killing = try KilledProcess(.new, seed: 1, try fixedRing(), try Scratch())
            try killing.change(.write(offset: 0, count: 50_000, value: 3))
            try killing.change(.write(offset: 10_000, count: 100, value: 4))
            try killing.cutHalfway(to: size)
            #expect(try killing.check() == nil, "cut to \(size)")
        }
    }
}
