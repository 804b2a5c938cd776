import Foundation
import Glibc
import Testing

/// A vault that is mounted and not used.
@Suite(.mounts) struct IdleTests {
    private let vault: TestVault

    init() throws {
        vault = try TestVault()
    }

    /// How often the driver's threads were run so far.
    private func switches(_ driver: RunningProgram) throws -> Int {
        let tasks = "/proc/\(driver.id)/task"
        return try FileManager.default.contentsOfDirectory(atPath: tasks).reduce(0) { sum, task in
            let status = try String(contentsOfFile: "\(tasks)/\(task)/status", encoding: .utf8)
            return sum
                + status.split(separator: "\n").filter { $0.contains("ctxt_switches") }
                .compactMap { Int($0.split(separator: "\t").last ?? "") }.reduce(0, +)
        }
    }

    private func expectSleep(_ driver: RunningProgram) throws {
        var last = try switches(driver)
        var quiet = 0
        for _ in 0..<60 where quiet < 4 {
            usleep(1_000_000)
            let now = try switches(driver)
            quiet = now == last ? quiet + 1 : 0
            last = now
        }
        #expect(quiet == 4, "threads of the driver keep running")
    }

    /// Nothing wakes the processor while no program asks for anything: once what was written is where it belongs, no thread runs. What is asked for then is seen to as
    /// before: a block that vouches for a hole that is filled vouches for it no longer, a moment after.
    @Test func nothingRunsWhileNobodyAsks() throws {
        let mount = try vault.mount()
        do {
            let file = try OpenFile(mount.file("a"), O_RDWR | O_CREAT)
            try file.write(pattern(4096))
            try file.write(pattern(4096), at: 9 * 4096)
            try vault.shell("sync -f mnt/a")
            try expectSleep(mount.driver)
            let stored = vault.directory + "/vault/" + (try vault.storedName())
            let before = try contents(of: stored).suffix(4128)
            try file.write(pattern(8 * 4096, seed: 1), at: 4096)
            // What is written comes to the driver, and nothing is opened, closed or synced, which would see to it by itself.
            sync()
            // Within a second, and long before it would look without having been woken.
            var isSeenTo = false
            for _ in 0..<100 where !isSeenTo {
                usleep(100_000)
                isSeenTo = try contents(of: stored).suffix(4128) != before
            }
            #expect(isSeenTo, "the last block vouches for a hole still")
            try expectSleep(mount.driver)
        }
        try mount.unmount()
    }
}
