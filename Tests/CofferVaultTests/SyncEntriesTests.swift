import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import CofferDisk

/// Syncs of directories where fsync(2) of them may do nothing.
struct SyncEntriesTests {
    /// A disk like Btrfs in this, on which a sync of a file takes until it is let go on.
    private final class SlowDisk: Disk, @unchecked Sendable {
        let mayGoOn = Atomic<Bool>(true)
        let begun = Atomic<Int>(0)
        /// What was done to the directory, in order.
        let calls = Mutex<[String]>([])
        let directory: Int32
        /// What a change of the directory's times gives.
        let refusal: Errno?
        /// How long nothing was changed in it, in seconds.
        let age: Int

        init(directory: Int32, refusal: Errno? = nil, age: Int = 0) {
            self.directory = directory
            self.refusal = refusal
            self.age = age
        }

        override func passesOverDirectories(_ directory: Int32) -> Bool { true }
        /// However slow the machine is.
        override var syncPatience: Int { 60_000_000 }

        override func syncOnce(_ descriptor: Int32, _ dataOnly: Bool) -> Int32 {
            if descriptor == directory {
                calls.withLock { $0.append("sync") }
            } else {
                begun.add(1, ordering: .sequentiallyConsistent)
                while !mayGoOn.load(ordering: .sequentiallyConsistent) { usleep(1000) }
                calls.withLock { $0.append("file") }
            }
            return super.syncOnce(descriptor, dataOnly)
        }

        override func setTimes(_ descriptor: Int32, access: timespec, modification: timespec) throws(Errno) {
            calls.withLock { $0.append("change") }
            if let refusal { throw refusal }
            try super.setTimes(descriptor, access: access, modification: modification)
        }

        override func syncFileSystem(_ descriptor: Int32) throws(Errno) {
            calls.withLock { $0.append("all") }
        }

        override func status(_ descriptor: Int32) throws(Errno) -> stat {
            var status = try super.status(descriptor)
            status.st_ctim.tv_sec -= age
            return status
        }
    }

    private func withDirectory(_ body: (SlowDisk, _ directory: Int32, _ file: Int32) throws -> Void) throws {
        let home = try TemporaryDirectory()
        let directory = try openFile(home.path, flags: O_RDONLY | O_DIRECTORY)
        defer { close(directory) }
        let file = try openFile(home.file("file"), flags: O_CREAT | O_RDWR)
        defer { close(file) }
        try body(SlowDisk(directory: directory), directory, file)
    }

    /// One of a file may have looked at the directory already, and is not over.
    @Test func syncsUnderWayAreWaitedFor() throws {
        try withDirectory { disk, directory, file in
            disk.mayGoOn.store(false, ordering: .sequentiallyConsistent)
            try run(threads: 3) { number, _ in
                if number == 0 { return try disk.sync(file) }
                while disk.begun.load(ordering: .sequentiallyConsistent) == 0 { usleep(1000) }
                if number == 1 { return try disk.syncEntries(directory) }
                // Time enough to go on without waiting, for who does.
                usleep(100_000)
                disk.mayGoOn.store(true, ordering: .sequentiallyConsistent)
            }
            #expect(disk.calls.withLock { $0 } == ["file", "change", "sync"])
        }
    }

    /// Else nobody would ever be done where there is always one.
    @Test func thoseThatBeginMeanwhileAreNot() throws {
        var isOver = false
        // One that begins too early is waited for, so there is more than one attempt.
        for _ in 0..<20 where !isOver { isOver = try Self.isOverBeforeTheSecond() }
        #expect(isOver)
    }

    private static func isOverBeforeTheSecond() throws -> Bool {
        let syncs = SyncsUnderWay()
        let first = syncs.begin()
        let isOver = Atomic<Bool>(false)
        let result = Atomic<Bool>(false)
        try run(threads: 2) { number, _ in
            if number == 0 {
                syncs.waitForAll(atMost: 500_000)
                return isOver.store(true, ordering: .sequentiallyConsistent)
            }
            usleep(20_000)
            let second = syncs.begin()
            syncs.end(first)
            for _ in 0..<100 where !isOver.load(ordering: .sequentiallyConsistent) { usleep(2000) }
            result.store(isOver.load(ordering: .sequentiallyConsistent), ordering: .sequentiallyConsistent)
            syncs.end(second)
        }
        return result.load(ordering: .sequentiallyConsistent)
    }

    /// One may be writing gigabytes.
    @Test func nobodyWaitsForLong() throws {
        let syncs = SyncsUnderWay()
        _ = syncs.begin()
        syncs.waitForAll(atMost: 10_000)
    }

    /// A program sees no other time of modification or access.
    @Test func timesOfModificationStay() throws {
        try withDirectory { disk, directory, _ in
            try disk.setTimes(
                directory, access: timespec(tv_sec: 1000, tv_nsec: 1), modification: timespec(tv_sec: 2000, tv_nsec: 2))
            try disk.syncEntries(directory)
            let status = try disk.status(directory)
            #expect(status.st_mtim.tv_sec == 2000 && status.st_mtim.tv_nsec == 2)
            #expect(status.st_atim.tv_sec == 1000 && status.st_atim.tv_nsec == 1)
        }
    }

    @Test(arguments: [
        (nil, 0, ["change", "sync"]), (nil, 3000, ["change", "sync"]), (nil, 4000, ["sync"]),
        (nil, -4000, ["change", "sync"]),
        (Errno.notPermitted, 0, ["change", "all", "sync"]), (Errno.readOnlyFileSystem, 0, ["change", "sync"]),
    ])
    func whatIsDone(refusal: Errno?, age: Int, calls: [String]) throws {
        try withDirectory { _, directory, _ in
            let disk = SlowDisk(directory: directory, refusal: refusal, age: age)
            try disk.syncEntries(directory)
            #expect(disk.calls.withLock { $0 } == calls)
        }
    }
}
