import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

@testable import CofferVault

/// An intent log on a simulated disk, files that are made by way of it, and recovery from it.
extension SimulatedDisk {
    /// The stored name of a file in the root.
    static func stored(_ name: String, _ ring: KeyRing) throws -> StoredName {
        try NameCodec(ring: ring, limit: 255).encoding(of: Array(name.utf8), in: .root(vaultID: [])).entry
    }

    /// The log's segments, made where they are not there.
    func openSegments() throws -> [Int32] {
        try LogDirectory.segmentNames.map { try open(at: Self.root, $0.cString, flags: O_RDWR | O_CREAT) }
    }

    /// A new log.
    func makeLog(_ ring: KeyRing, capacity: Int) throws -> IntentLog {
        try IntentLog(
            disk: self, ring: ring, rootDescriptor: Self.root, descriptors: try openSegments(), capacity: capacity,
            order: 0)
    }

    /// A new file; `place` is where it is, by its name if nothing else is said.
    func makeContents(
        _ name: StoredName, _ ring: KeyRing, _ log: IntentLog, _ scratch: Scratch,
        place: (@Sendable () -> [StoredName]?)? = nil
    ) throws -> FileContents {
        let making = try log.making(in: [IntentLog.Directory(known: 0) { [] }])
        defer { log.end(making.ticket) }
        return try FileContents(
            creating: try open(at: Self.root, name.cString, flags: O_RDWR | O_CREAT), disk: self, ring: ring,
            cipher: .aes256GCM, log: log, making: making, place: place ?? { [name] }, scratch: scratch)
    }

    /// What the next mount does first.
    func recover(_ ring: KeyRing, _ scratch: Scratch) throws -> LogRecovery.Report {
        var recovery = LogRecovery(disk: self, ring: ring, rootDescriptor: Self.root, scratch: scratch)
        _ = try recovery.recover(try openSegments())
        return recovery.report
    }

    /// The file of a name, without a log.
    func openFile(_ name: StoredName, _ ring: KeyRing, _ scratch: Scratch) throws -> FileContents {
        try FileContents(
            disk: self, ring: ring, cipher: .aes256GCM,
            descriptor: try open(at: Self.root, name.cString, flags: O_RDWR), isWritable: true, scratch: scratch)
    }
}
