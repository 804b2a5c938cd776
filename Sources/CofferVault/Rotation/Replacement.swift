import CofferDisk
import CofferFormat
import Glibc

/// A ciphertext directory while what is in it is sealed again; its descriptor is closed with it.
final class TurnedDirectory {
    let disk: Disk
    /// Open for reading.
    let descriptor: Int32
    let identity: DirectoryIdentity
    let place: TreePlace
    /// Its attributes before anything was changed: what it has to look like after.
    let before: stat
    /// Something was changed that shows in the directory's times.
    var isTouched = false

    init(disk: Disk, descriptor: Int32, identity: DirectoryIdentity, place: TreePlace, before: stat) {
        self.disk = disk
        self.descriptor = descriptor
        self.identity = identity
        self.place = place
        self.before = before
    }

    deinit {
        disk.close(descriptor)
    }
}

/// A file that was written anew, to be renamed over the old one once it is on the disk.
struct Replacement {
    let directory: TurnedDirectory
    /// Open for reading and writing; closed by whoever ends the replacement.
    let descriptor: Int32
    let header: FileHeader
    /// The old file when it was read.
    let source: stat
    var storedSize: Int { Int(source.st_size) }
    /// What it is called until then.
    let temporary: StoredName
    let name: StoredName
    let place: TreePlace
}

/// What a rotation has done so far, and how much there is.
public struct RotationTotals: Sendable {
    /// Entries that were looked at, of `entryCount`.
    public var entries = 0
    /// All entries.
    public var entryCount = 0
    /// Stored bytes of files that were looked at, of `byteCount`.
    public var bytes = 0
    /// The stored bytes of all files.
    public var byteCount = 0
    /// Files that were written anew.
    public var files = 0
    /// Names, links, records and attributes that were sealed again.
    public var names = 0
    /// What could not be done.
    public var problems = 0

    /// Nothing yet.
    public init() {}
}
