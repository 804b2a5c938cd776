import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage
import Testing

@testable import CofferVault

/// A time that is set while the intent log has something to store waits for that, and no longer than it may.
struct QueuedTimeTests {
    private let directory: TemporaryDirectory
    private let intents: LogDirectory
    private let file: FileContents
    private let scratch: Scratch
    private let path: String
    private static let time = timespec(tv_sec: 1_000_000_000, tv_nsec: 123_456_789)

    init() throws {
        directory = try TemporaryDirectory()
        scratch = try Scratch()
        let ring = try fixedRing()
        let disk = Disk()
        let root = try disk.open(at: AT_FDCWD, directory.file("."), flags: O_RDONLY | O_DIRECTORY)
        let opened = try LogDirectory.open(
            disk: disk, ring: ring, rootDescriptor: root, cipher: .aes256GCM, scratch: scratch)
        intents = try #require(opened.directory)
        let name = try NameCodec(ring: ring, limit: 255).encoding(of: [65], in: .root(vaultID: [])).entry
        path = directory.file(name.description)
        let making = try intents.log.making(in: [IntentLog.Directory(known: 0) { [] }])
        file = try FileContents(
            creating: try disk.open(at: root, name.cString, flags: O_RDWR | O_CREAT | O_EXCL, mode: 0o600),
            disk: disk, ring: ring, cipher: .aes256GCM, log: intents.log, making: making, place: { [name] },
            scratch: scratch)
        intents.log.end(making.ticket)
        try write(1)
        try file.sync(dataOnly: false, scratch)
        // Over what is durable: by way of the log.
        try write(2)
        try file.setTimes(access: Disk.unchangedTime, modification: Self.time)
    }

    private func write(_ byte: UInt8) throws {
        try [UInt8](repeating: byte, count: 8192).withUnsafeBytes { buffer in
            if let base = buffer.baseAddress { try file.write(base, count: buffer.count, at: 0, scratch) }
        }
    }

    private func hasTime() throws -> Bool {
        var status = stat()
        try #require(stat(path, &status) == 0)
        return status.st_mtim.tv_sec == Self.time.tv_sec && status.st_mtim.tv_nsec == Self.time.tv_nsec
    }

    /// Where the old contents had it, a copy tool would take them for the new ones.
    @Test func theOldContentsDoNotHaveIt() throws {
        try #require(file.logged?.pending.isEmpty == false)
        #expect(try !hasTime())
        try file.drain()
        #expect(try hasTime())
        try file.drain()
        #expect(try hasTime())
    }

    /// What was synced has its time on the disk.
    @Test func aSyncBringsIt() throws {
        try file.sync(dataOnly: false, scratch)
        #expect(try hasTime())
    }

    /// One that is set later counts, and the one before does not come back.
    @Test func theLastOneCounts() throws {
        try file.setTimes(access: Disk.unchangedTime, modification: timespec(tv_sec: 5, tv_nsec: 6))
        try file.drain()
        var status = stat()
        try #require(stat(path, &status) == 0)
        #expect(status.st_mtim.tv_sec == 5 && status.st_mtim.tv_nsec == 6)
        try file.setTimes(access: Disk.unchangedTime, modification: Self.time)
        try write(3)
        try file.drain()
        // Nobody has said when that was.
        #expect(try !hasTime())
    }
}
