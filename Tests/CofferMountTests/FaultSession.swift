import CofferDisk
import Glibc
import Randomness
import SystemPackage
import Testing

@testable import CofferMount
@testable import CofferVault

/// One mount after the other, on which a script runs again and again, with another call failing each time.
final class FaultSession {
    /// How many faults one mount sees.
    private static let roundsPerMount = 12
    private static let steps = 40
    /// From which call on one mount's faults are tried again, and nothing else.
    private static let firstCall = environmentNumber("COFFER_MOUNT_FAULT_CALL")

    private let seed: UInt64
    private let error: Errno
    private let isLasting: Bool
    private let home: FaultHome
    private var tried = 0
    private var leftOpen: Set<String> = []

    init(seed: UInt64, error: Errno, isLasting: Bool) throws {
        (self.seed, self.error, self.isLasting) = (seed, error, isLasting)
        home = try FaultHome()
    }

    /// Lets each call of the script fail, or as many as are wanted, evenly.
    func run(atMost limit: Int?) throws {
        let script = seed
        var calls = 0
        try withMount { mount, disk, watch in
            let program = try round(mount, disk, watch, "whole", script, nil)
            calls = disk.calls
            #expect(program.failures == 0)
            return [program]
        }
        #expect(calls > 300)
        let step = limit.map { max(1, calls / $0) } ?? 1
        var points = Array(stride(from: Int(seed) * 7 % step, to: calls, by: step))
        if let first = Self.firstCall { points = (0..<Self.roundsPerMount).map { first + $0 } }
        while !points.isEmpty {
            let batch = points.prefix(Self.roundsPerMount)
            points.removeFirst(batch.count)
            try withMount { mount, disk, watch in
                try batch.compactMap { point in
                    let fault = FaultyDisk.Fault(
                        error: error, first: point, count: isLasting ? 40 : 1, isPartial: !isLasting && point % 2 == 1)
                    do {
                        return try round(mount, disk, watch, "\(point)", script, fault)
                    } catch let wrong as FaultMount.Wrong where !watch.isOver {
                        Issue.record("\(wrong)")
                        return nil
                    }
                }
            }
        }
        print("faults through a mount: seed \(seed), errno \(error.rawValue): \(calls) calls, \(tried) faults")
    }

    func runInterrupted() throws {
        try withMount { mount, disk, watch in
            disk.interrupts.store(true, ordering: .relaxed)
            let programs = try (0..<4).map { try round(mount, disk, watch, "\($0)", seed &* 4 &+ UInt64($0), nil) }
            #expect(programs.allSatisfy { $0.failures == 0 })
            #expect(disk.interruptionCount > 100)
            return programs
        }
    }

    /// Lets calls of unmounting fail, and of the mounting after it, which then has a log to recover from.
    func runEndings(atMost limit: Int) throws {
        var ending = try runEnding(nil, nil)
        #expect(ending.unmounting > 5)
        let points = stride(from: 0, to: ending.unmounting, by: max(1, ending.unmounting / limit))
        for (number, point) in points.enumerated() {
            // Twice from each: once, and for good.
            let isLasting = (number + Int(seed)) % 2 == 0
            let first = FaultyDisk.Fault(
                error: error, first: point, count: isLasting ? Int.max / 2 : 1, isPartial: false)
            let second = FaultyDisk.Fault(
                error: error, first: Int(seed) + number * max(1, ending.mounting / limit), count: 1,
                isPartial: number % 3 == 0)
            let seen = try runEnding(first, second)
            ending.mounting = max(ending.mounting, seen.mounting)
        }
        print("faults while unmounting: seed \(seed), errno \(error.rawValue): \(ending) calls, \(tried) faults")
    }

    /// How many calls unmounting and mounting make.
    private func runEnding(
        _ first: FaultyDisk.Fault?, _ second: FaultyDisk.Fault?
    ) throws -> (unmounting: Int, mounting: Int) {
        let what =
            "seed \(seed), unmounting: \(first.map { "\($0)" } ?? "no fault"), mounting: \(second.map { "\($0)" } ?? "no fault")"
        tried += first == nil ? 0 : 2
        let disk = FaultyDisk(hasEntryOrder: seed % 2 == 0)
        do {
            let mount = try FaultMount(home.path, disk: disk)
            let watch = FaultWatch(mount)
            defer { watch.stop() }
            let program = try FaultProgram("\(mount.path)/top", disk: disk, watch: watch, error: error, seed: seed)
            for _ in 0..<6 { try program.makeFile() }
            for _ in 0..<Self.steps { try program.act() }
            try program.leave()
            disk.arm(first)
            try mount.unmount()
            let unmounting = disk.calls
            disk.arm(second)
            do {
                let again = try FaultMount(home.path, disk: disk)
                disk.disarm()
                try again.unmount()
            } catch let error as VaultError {
                if disk.failed.isEmpty { throw FaultMount.Wrong("not mounted again: \(error)") }
            } catch let error as MountError {
                if disk.failed.isEmpty { throw FaultMount.Wrong("not mounted again: \(error)") }
            }
            let mounting = disk.calls
            disk.disarm()
            let last = try FaultMount(home.path, disk: Disk())
            if let report = last.report, !report.failed.isEmpty { throw FaultMount.Wrong("\(report)") }
            let lastWatch = FaultWatch(last)
            defer { lastWatch.stop() }
            try program.check(fresh: "\(last.path)/top")
            try last.unmount()
            guard last.lines.damage.isEmpty, !home.hasLog else { throw FaultMount.Wrong("\(last.lines.all)") }
            try home.empty()
            return (unmounting, mounting)
        } catch {
            throw FaultMount.Wrong("\(what) (\(disk.failed.prefix(4))): \(error)")
        }
    }

    /// Mounts, lets programs work, unmounts, and compares what they left in a new mount on a disk that is well.
    private func withMount(
        _ body: (FaultMount, FaultyDisk, FaultWatch) throws -> [FaultProgram]
    ) throws {
        let disk = FaultyDisk(hasEntryOrder: seed % 2 == 0)
        var programs: [FaultProgram] = []
        try served(disk) { mount, watch in
            programs = try body(mount, disk, watch)
            return programs.contains { $0.hadStubs }
        }
        try served(Disk()) { mount, _ in
            for program in programs {
                let name = FaultNames.name(program.top)
                do {
                    try program.check(fresh: "\(mount.path)/\(name)")
                } catch let wrong as FaultMount.Wrong {
                    Issue.record("seed \(seed), call \(name): \(wrong)")
                }
            }
            return false
        }
        try home.empty()
    }

    /// Mounts for as long as `body` takes, which says whether the driver may have met damage.
    private func served(_ disk: Disk, _ body: (FaultMount, FaultWatch) throws -> Bool) throws {
        let mount = try FaultMount(home.path, disk: disk)
        let watch = FaultWatch(mount)
        defer { watch.stop() }
        do {
            guard mount.trouble == nil, mount.report == nil else {
                throw FaultMount.Wrong(
                    "seed \(seed), mounted: \(String(describing: mount.trouble)) \(String(describing: mount.report))")
            }
            let mayBeDamaged = try body(mount, watch)
            try mount.unmount()
            guard mayBeDamaged || mount.lines.damage.isEmpty, !home.hasLog else {
                throw FaultMount.Wrong("seed \(seed), unmounted: \(mount.lines.all)")
            }
        } catch {
            mount.abort()
            throw error
        }
    }

    /// Nothing stays open once programs have closed everything. The kernel tells of that a little later, and what could not be stored is tried again after some seconds.
    private func checkDescriptors() throws {
        for _ in 0..<2000 {
            if home.openFiles.allSatisfy(leftOpen.contains) { return }
            usleep(10_000)
        }
        let left = home.openFiles
        // Told once, not by each round that follows.
        leftOpen.formUnion(left)
        throw FaultMount.Wrong("left open: \(left)")
    }

    /// Runs the script with a fault.
    private func round(
        _ mount: FaultMount, _ disk: FaultyDisk, _ watch: FaultWatch, _ name: String, _ script: UInt64,
        _ fault: FaultyDisk.Fault?
    ) throws -> FaultProgram {
        tried += fault == nil ? 0 : 1
        disk.arm(nil)
        let program = try FaultProgram("\(mount.path)/\(name)", disk: disk, watch: watch, error: error, seed: script)
        do {
            for _ in 0..<6 { try program.makeFile() }
            for _ in 0..<3 { try program.makeDirectory() }
            disk.arm(fault)
            for _ in 0..<Self.steps { try program.act() }
            disk.disarm()
            try program.settle()
            try program.check()
            try program.checkUse()
            try checkDescriptors()
            return program
        } catch {
            disk.disarm()
            throw FaultMount.Wrong(
                "seed \(seed), \(fault.map { "\($0)" } ?? "no fault") (\(disk.failed.prefix(5))): \(error); the driver: \(mount.lines.all.suffix(3))"
            )
        }
    }
}
