import CofferDisk
import Glibc
import SystemPackage
import Testing

@testable import CofferVault

/// However deep it goes, few descriptors are open, and the way back leads where it came from.
struct TreeTrailTests {
    private let flags = O_RDONLY | O_DIRECTORY

    /// Makes `count` directories, each in the one before, and gives the paths of all of them.
    private func chain(_ home: TemporaryDirectory, _ count: Int) throws -> [String] {
        var paths = [home.path]
        for _ in 0..<count {
            let next = paths[paths.count - 1] + "/d"
            guard mkdir(next, 0o700) == 0 else { throw Errno(rawValue: errno) }
            paths.append(next)
        }
        return paths
    }

    private func number(_ path: String) throws -> UInt64 {
        var status = stat()
        guard lstat(path, &status) == 0 else { throw Errno(rawValue: errno) }
        return UInt64(status.st_ino)
    }

    @Test func downAndBack() throws {
        let home = try TemporaryDirectory()
        let paths = try chain(home, 200)
        let disk = CountingDisk()
        let first = try openFile(home.path, flags: flags)
        defer { close(first) }
        var trail = DirectoryTrail(disk: disk, first: first)
        for _ in 0..<200 { try trail.enter(try disk.open(at: trail.last, "d", flags: flags, mode: 0)) }
        #expect(disk.mostOpen < 40)
        for depth in (0..<200).reversed() {
            try trail.leave()
            #expect(UInt64(try disk.status(trail.last).st_ino) == (try number(paths[depth])))
        }
        #expect(disk.openNow == 0)
        #expect(disk.mostOpen < 40)
    }

    @Test func aDirectoryThatMovedIsNotTakenForAnother() throws {
        let home = try TemporaryDirectory()
        let paths = try chain(home, 60)
        let disk = Disk()
        let first = try openFile(home.path, flags: flags)
        defer { close(first) }
        var trail = DirectoryTrail(disk: disk, first: first)
        for _ in 0..<60 { try trail.enter(try disk.open(at: trail.last, "d", flags: flags, mode: 0)) }
        #expect(rename(paths[20], home.path + "/moved") == 0)
        for _ in 0..<40 { try trail.leave() }
        #expect(UInt64(try disk.status(trail.last).st_ino) == (try number(home.path + "/moved")))
        var failure: Errno?
        do throws(Errno) {
            try trail.leave()
        } catch {
            failure = error
        }
        #expect(failure == .staleNFSFileHandle)
    }
}

/// A disk that knows how many descriptors it has open.
private final class CountingDisk: Disk, @unchecked Sendable {
    private(set) var openNow = 0
    private(set) var mostOpen = 0

    override func open(
        at directory: Int32, _ name: UnsafePointer<CChar>, flags: Int32, mode: mode_t
    ) throws(Errno) -> Int32 {
        let descriptor = try super.open(at: directory, name, flags: flags, mode: mode)
        openNow += 1
        mostOpen = max(mostOpen, openNow)
        return descriptor
    }

    override func close(_ descriptor: Int32) {
        openNow -= 1
        super.close(descriptor)
    }
}
