import CofferCrypto
import CofferDisk
import CofferFormat
import Randomness
import SystemPackage
import Testing

@testable import CofferVault

/// Single sequences in which a call fails and then the process is killed, or the power goes. Random ones are in ``KilledWriteTests``, which found most of these.
struct RefusedCallTests {
    private func process(_ past: KilledPast) throws -> KilledProcess {
        try KilledProcess(past, seed: 1, try fixedRing(), try Scratch())
    }

    /// The header that the file never got is not the one that the log goes on by.
    @Test(arguments: ["write", "truncate"], [false, true])
    func aRefusedEmptying(call: String, isSynced: Bool) throws {
        let killing = try process(.synced)
        #expect(try killing.refuse(.resize(0), call) && killing.file.size == 50_000)
        try killing.change(.write(offset: 20_000, count: 100, value: 3))
        try killing.change(.write(offset: 50_000, count: 5000, value: 4))
        if isSynced { try killing.change(.sync) }
        #expect(try killing.check(isSynced ? .all : .nothing) == nil)
    }

    /// What was refused is not made when the process is killed after the next write.
    @Test func aRefusedPunch() throws {
        let killing = try process(.new)
        try killing.change(.write(offset: 0, count: 80_000, value: 3))
        try killing.change(.write(offset: 5 * 4096, count: 100, value: 4))
        #expect(try killing.refuse(.punch(offset: 5 * 4096, count: 4096), "allocate"))
        try killing.change(.write(offset: 70_000, count: 100, value: 5))
        #expect(try killing.check() == nil)
    }

    /// A write that the log had and the file refused is void once the file was synced.
    @Test func aRefusedWriteIsNotMadeAfterASync() throws {
        let killing = try process(.growing)
        // What is pending of the growth is in its place, and what is logged next is so in one that is changed directly.
        try killing.file.drain()
        #expect(try killing.refuse(.write(offset: 115_487, count: 1, value: 85), "write"))
        // Whoever syncs another file makes the record durable.
        for segment in killing.log.descriptors { try killing.disk.sync(segment) }
        try killing.change(.sync)
        #expect(try killing.check(.all) == nil)
    }

    /// A growth fails, and with it the sync of the log's segment that was to hold what makes it void.
    @Test func aGrowthAndTheLogFail() throws {
        let killing = try process(.synced)
        try killing.change(.write(offset: 63_514, count: 100, value: 105))
        try killing.change(.write(offset: 63_614, count: 100, value: 19))
        #expect(
            try killing.refuse(.write(offset: 63_714, count: 30_000, value: 203), calls: 4...5) == ["read", "sync"])
        #expect(try killing.check() == nil)
    }

    /// A sync that fails while nobody waits for it is told once, by the next one; but not where the kernel tells it already.
    @Test(arguments: [false, true]) func whatNobodyWasTold(isKernels: Bool) throws {
        let killing = try process(.synced)
        try killing.change(.write(offset: 50_000, count: 120_000, value: 6))
        #expect(try killing.refuse(.punch(offset: 5 * 4096, count: 4096), "allocate"))
        if isKernels { killing.file.noteFailureIsKernels() }
        killing.disk.onCall = { name, _ throws(Errno) in if name == "sync" { throw .ioError } }
        #expect(throws: VaultError.self) { try killing.file.settle(killing.scratch) }
        killing.disk.onCall = nil
        try killing.file.settle(killing.scratch)
        if !isKernels {
            #expect(throws: VaultError.system(.ioError)) { try killing.file.sync(dataOnly: true, killing.scratch) }
        }
        try killing.change(.sync)
        #expect(try killing.check(.all) == nil)
    }

    /// A sync that fails is told by itself; that the same thing fails again while nobody waits is no news, as long as nothing could be changed in between.
    @Test func whatASyncHasTold() throws {
        let killing = try process(.synced)
        try killing.change(.write(offset: 50_000, count: 120_000, value: 6))
        for block in [5, 9] {
            #expect(try killing.refuse(.punch(offset: block * 4096, count: 4096), "allocate"))
            killing.disk.onCall = { name, _ throws(Errno) in if name == "sync" { throw .ioError } }
            #expect(throws: VaultError.self) { try killing.file.sync(dataOnly: true, killing.scratch) }
            #expect(throws: VaultError.self) { try killing.file.settle(killing.scratch) }
            killing.disk.onCall = nil
            try killing.file.settle(killing.scratch)
            try killing.file.sync(dataOnly: true, killing.scratch)
            try killing.change(.write(offset: block, count: 1000, value: 8))
        }
        // After that, what fails is news.
        #expect(try killing.refuse(.punch(offset: 7 * 4096, count: 4096), "allocate"))
        killing.disk.onCall = { name, _ throws(Errno) in if name == "sync" { throw .ioError } }
        #expect(throws: VaultError.self) { try killing.file.settle(killing.scratch) }
        killing.disk.onCall = nil
        #expect(throws: VaultError.system(.ioError)) { try killing.file.sync(dataOnly: true, killing.scratch) }
        try killing.change(.sync)
        #expect(try killing.check(.all) == nil)
    }

    /// The kernel tells what failed before, too, but not what fails when the file was changed again.
    @Test(arguments: [false, true]) func whatTheKernelTells(isChanged: Bool) throws {
        let killing = try process(.synced)
        try killing.change(.write(offset: 50_000, count: 120_000, value: 6))
        let failing = {
            #expect(try killing.refuse(.punch(offset: 5 * 4096, count: 4096), "allocate"))
            killing.disk.onCall = { name, _ throws(Errno) in if name == "sync" { throw .ioError } }
            #expect(throws: VaultError.self) { try killing.file.settle(killing.scratch) }
            killing.disk.onCall = nil
            try killing.file.settle(killing.scratch)
        }
        try failing()
        killing.file.noteFailureIsKernels()
        if isChanged {
            try killing.change(.write(offset: 100, count: 1000, value: 9))
            try failing()
            #expect(throws: VaultError.system(.ioError)) { try killing.file.sync(dataOnly: true, killing.scratch) }
        } else {
            try killing.file.sync(dataOnly: true, killing.scratch)
        }
        try killing.change(.sync)
        #expect(try killing.check(.all) == nil)
    }

    /// Where only the log cannot be made durable, the file is: a sync that succeeds by that is none that failed.
    @Test(arguments: [false, true], [false, true]) func aLogThatFailsAlone(isOverBefore: Bool, dataOnly: Bool) throws {
        let killing = try process(.synced)
        try killing.change(.write(offset: 20_000, count: 9000, value: 6))
        var failures = 0
        killing.disk.onCall = { name, _ throws(Errno) in
            guard name == "sync", failures == 0 else { return }
            failures += 1
            throw .ioError
        }
        if isOverBefore { #expect(throws: VaultError.system(.ioError)) { try killing.file.drain() } }
        try killing.file.sync(dataOnly: dataOnly, killing.scratch)
        #expect(failures == 1)
        killing.disk.onCall = nil
        try killing.change(.sync)
        try killing.change(.write(offset: 24_000, count: 9000, value: 7))
        try killing.change(.sync)
        #expect(try killing.check(.all) == nil)
    }

    /// What only the log's file had may have been lost there: that is told, whoever stores it.
    @Test(arguments: [false, true]) func aLogThatFailsWithWhatOnlyItHas(isStoredBefore: Bool) throws {
        let killing = try process(.synced)
        try killing.change(.write(offset: 50_000, count: 120_000, value: 6))
        try killing.change(.sync)
        // So much is not kept in memory.
        try killing.change(.write(offset: 0, count: 20 * 4096, value: 7))
        var failures = 0
        killing.disk.onCall = { name, _ throws(Errno) in
            guard name == "sync", failures == 0 else { return }
            failures += 1
            throw .ioError
        }
        if isStoredBefore {
            try killing.file.logged?.pending.apply(killing.log, tellsAll: false)
            #expect(failures == 1)
        }
        #expect(throws: VaultError.system(.ioError)) { try killing.file.sync(dataOnly: true, killing.scratch) }
        #expect(failures == 1)
        killing.disk.onCall = nil
        try killing.change(.sync)
        #expect(try killing.check(.all) == nil)
    }

    /// As long as the system refuses to make void what is not so, changes fail; then they go on.
    @Test func changesWaitForTheVoid() throws {
        let killing = try process(.synced)
        #expect(try killing.refuse(.resize(0), "truncate"))
        #expect(try killing.refuse(.write(offset: 100, count: 10, value: 7), "sync") && killing.file.size == 50_000)
        try killing.change(.write(offset: 100, count: 10, value: 7))
        #expect(try killing.check() == nil)
    }
}
