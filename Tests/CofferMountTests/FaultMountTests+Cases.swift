import CofferDisk
import Foundation
import Glibc
import SystemPackage
import Testing

@testable import CofferMount

/// Single sequences that random scripts seldom meet: from each of some calls on everything fails, until a program has been told.
extension FaultMountTests {
    /// Runs `body` on a mount of its own, and sees to it that nothing stays mounted.
    private func mounted(_ body: (FaultHome, FaultMount, FaultyDisk) throws -> Void) throws {
        let home = try FaultHome()
        let disk = FaultyDisk()
        let mount = try FaultMount(home.path, disk: disk)
        let watch = FaultWatch(mount)
        defer { watch.stop() }
        try watch.timing("the whole") { try body(home, mount, disk) }
        try mount.unmount()
    }

    private func failing(_ disk: FaultyDisk, from call: Int, _ body: () throws -> Void) throws {
        disk.arm(FaultyDisk.Fault(error: .ioError, first: call, count: Int.max / 2, isPartial: false))
        defer { disk.disarm() }
        try body()
    }

    /// Ciphertext files too short to be any.
    private func stubs(_ home: FaultHome) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "\(home.path)/vault").filter { name in
            try name.hasPrefix("coffer.") ? false : ProgramCalls.status("\(home.path)/vault/\(name)").st_size < 64
        }
    }

    private func waitUntil(_ what: () throws -> Bool) rethrows -> Bool {
        for _ in 0..<100 {
            if try what() { return true }
            usleep(50_000)
        }
        return false
    }

    /// What could be neither made nor taken away goes by itself, and what a program then makes under its name stays.
    @Test func whatCouldNotBeMadeGoes() throws {
        try mounted { home, mount, disk in
            var left = 0
            for call in 0..<12 {
                let path = "\(mount.path)/f\(call)"
                try failing(disk, from: call) {
                    let file = Glibc.open(path, O_CREAT | O_EXCL | O_RDWR)
                    if file >= 0 { close(file) }
                }
                if try !stubs(home).isEmpty { left += 1 }
                #expect(try waitUntil { try stubs(home).isEmpty }, "call \(call)")
                // One that has its first bytes stays, as an empty file, which the kernel learns in a while.
                var file: Int32 = -1
                #expect(
                    waitUntil {
                        file = Glibc.open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0o644)
                        return file >= 0
                    }, "call \(call)")
                #expect(try ProgramCalls.read(file) == [])
                #expect(ProgramCalls.write(file, [1, 2, 3], at: 0).error == nil)
                try ProgramCalls.close(file)
            }
            // Else nothing was tried.
            #expect(left > 0)
            usleep(1_200_000)
            for call in 0..<12 {
                let file = try ProgramCalls.open("\(mount.path)/f\(call)", O_RDONLY)
                #expect(try ProgramCalls.read(file) == [1, 2, 3])
                try ProgramCalls.close(file)
            }
        }
    }

    /// A listing that fails half-way counts nothing as looked up that the kernel does not hear of: else what is removed stays open for ever.
    @Test func aListingThatFailsHalfWayLeavesNothingOpen() throws {
        try mounted { home, mount, disk in
            for number in 0..<20 {
                try ProgramCalls.close(try ProgramCalls.open("\(mount.path)/f\(number)", O_CREAT | O_RDWR))
            }
            var failures = 0
            for call in 0..<36 {
                // Else the kernel answers from what it has listed before.
                try ProgramCalls.close(try ProgramCalls.open("\(mount.path)/n\(call)", O_CREAT | O_RDWR))
                disk.arm(FaultyDisk.Fault(error: .ioError, first: call, count: 1, isPartial: false))
                defer { disk.disarm() }
                // One that failed half-way goes on where it was.
                let listed: Int? = try? ProgramCalls.list(mount.path).count
                #expect(listed ?? 21 + call == 21 + call)
                if !disk.failed.isEmpty { failures += 1 }
            }
            // Else nothing was tried.
            #expect(failures > 30)
            for name in try ProgramCalls.list(mount.path).keys where name != "." && name != ".." {
                try ProgramCalls.check(unlink("\(mount.path)/\(name)"))
            }
            #expect(waitUntil { home.openFiles.isEmpty }, "\(home.openFiles)")
        }
    }

    /// The ways in which programs cut files.
    enum Cut: CaseIterable {
        case opening, toNothing, toSome

        var size: Int { self == .toSome ? 9000 : 0 }
    }

    /// A file that could not be cut is what it was, or is cut, once the disk is well: though nobody had it open any more when that was.
    @Test(arguments: Cut.allCases) func whatCouldNotBeCutCanBeRead(cut: Cut) throws {
        let data = [UInt8](repeating: 7, count: 20_000)
        var failures = 0
        // Each on a mount of its own: a log that has met failures makes other calls.
        for call in 0..<18 {
            try mounted { _, mount, disk in
                let path = "\(mount.path)/f"
                let file = try ProgramCalls.open(path, O_CREAT | O_EXCL | O_RDWR)
                #expect(ProgramCalls.write(file, data, at: 0).error == nil)
                try ProgramCalls.check(fsync(file))
                try ProgramCalls.close(file)
                var isCut = false
                try failing(disk, from: call) {
                    switch cut {
                    case .opening:
                        let file = Glibc.open(path, O_RDWR | O_TRUNC)
                        isCut = file >= 0
                        if isCut { close(file) }
                    case .toNothing, .toSome: isCut = truncate(path, cut.size) == 0
                    }
                }
                failures += isCut ? 0 : 1
                var found: [UInt8]?
                let isRead = waitUntil {
                    do {
                        let file = try ProgramCalls.open(path, O_RDONLY)
                        defer { close(file) }
                        // The kernel remembers what was written.
                        ProgramCalls.forget(file)
                        found = try ProgramCalls.read(file)
                        return true
                    } catch {
                        return false
                    }
                }
                let wanted = Array(data[..<cut.size])
                #expect(
                    isRead && (found == wanted || found == data && !isCut), "call \(call): \(found?.count ?? -1) bytes")
            }
        }
        #expect(failures > 5)
    }

    /// A directory that has been renamed keeps a record of what its entries are bound to. Removing it takes that away first; where the rest fails, what is made in it then must not be
    /// bound to what no record says.
    @Test func whatIsMadeWhereNothingCouldBeRemoved() throws {
        var failures = 0
        for call in 0..<24 {
            let home = try FaultHome()
            let disk = FaultyDisk()
            let mount = try FaultMount(home.path, disk: disk)
            let watch = FaultWatch(mount)
            defer { watch.stop() }
            let (old, new) = ("\(mount.path)/old", "\(mount.path)/new")
            try ProgramCalls.check(mkdir(old, 0o755))
            try ProgramCalls.check(mkdir("\(old)/full", 0o755))
            try ProgramCalls.check(rename(old, new))
            try ProgramCalls.check(rmdir("\(new)/full"))
            disk.arm(FaultyDisk.Fault(error: .ioError, first: call, count: 1, isPartial: false))
            let isRemoved = rmdir(new) == 0
            disk.disarm()
            if !isRemoved {
                failures += 1
                try ProgramCalls.check(mkdir("\(new)/made", 0o755))
            }
            try mount.unmount()
            // What is bound to an id that no other has needs a record here.
            let kept = try ProgramCalls.list("\(home.path)/vault").keys.filter {
                !$0.hasPrefix(".") && !$0.hasPrefix("coffer.")
            }
            .map { try ProgramCalls.list("\(home.path)/vault/\($0)").keys.contains("coffer.dir") }
            #expect(kept == (isRemoved ? [] : [true]), "call \(call)")
            let again = try FaultMount(home.path, disk: Disk())
            let otherWatch = FaultWatch(again)
            defer { otherWatch.stop() }
            let listed =
                isRemoved ? nil : try ProgramCalls.list("\(again.path)/new").keys.filter { $0 != "." && $0 != ".." }
            try again.unmount()
            #expect(listed == (isRemoved ? nil : ["made"]), "call \(call)")
        }
        // Else nothing was tried.
        #expect(failures > 3)
    }

    /// As a power cut may leave it while it is being removed: the id that its place derives is another directory's.
    @Test func aDirectoryThatLostItsRecord() throws {
        let home = try FaultHome()
        func names(_ path: String) throws -> Set<String> {
            Set(try ProgramCalls.list(path).keys.filter { !$0.hasPrefix(".") })
        }
        func places() throws -> [String] {
            try names("\(home.path)/vault").filter { !$0.hasPrefix("coffer.") }.map { "\(home.path)/vault/\($0)" }
        }
        let long = String(repeating: "l", count: 200)
        func serve(_ body: (String) throws -> Void) throws {
            let mount = try FaultMount(home.path, disk: Disk())
            let watch = FaultWatch(mount)
            defer { watch.stop() }
            try body(mount.path)
            try mount.unmount()
            #expect(mount.lines.damage.isEmpty)
        }
        try serve { place in
            try ProgramCalls.check(mkdir("\(place)/old", 0o755))
            for name in ["first", long] { try ProgramCalls.check(mkdir("\(place)/old/\(name)", 0o755)) }
            try ProgramCalls.check(rename("\(place)/old", "\(place)/new"))
            try ProgramCalls.check(mkdir("\(place)/old", 0o755))
        }
        #expect(try places().count == 2)
        for place in try places() where try names(place) == ["coffer.dir"] {
            try ProgramCalls.check(unlink("\(place)/coffer.dir"))
        }
        let isLost = try places().contains { try names($0).isEmpty }
        #expect(isLost)
        try serve { place in
            let found = try names("\(place)/old")
            #expect(found == [])
            for name in ["first", long] { try ProgramCalls.check(mkdir("\(place)/old/\(name)", 0o755)) }
        }
        try serve { place in
            let found = try names("\(place)/old")
            #expect(found == ["first", long])
        }
        let stored = try places().map(names)
        #expect(stored.count == 2 && stored[0].intersection(stored[1]) == ["coffer.dir"])
    }
}
