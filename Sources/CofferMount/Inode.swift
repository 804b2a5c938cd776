import CofferFormat
import CofferVault
import Glibc
import Synchronization

/// What only directories have. The kernel may remember a million files, and each byte counts there.
final class DirectoryState: @unchecked Sendable {
    // Guarded by the directory descriptors' lock.
    var descriptor: Int32 = -1
    var descriptorUsers = 0
    var wasUsed = false

    /// What it answers to; nil until it is asked for the first time. Changes only by renames, which have the name space to themselves.
    let identity = Mutex<DirectoryIdentity?>(nil)
    /// The id that its place derived when it was last looked up or moved. Guarded like `identity`.
    let derived = Mutex<DirectoryID?>(nil)
    /// The intent log's segment that knows that entries are being made in it; 0 for none.
    let makingIn = Atomic<UInt64>(0)
}

/// What the kernel knows by a node id: one backing object, however many names and handles it has.
final class Inode: @unchecked Sendable {
    /// The open contents of a regular file, shared by all handles.
    struct Opened {
        var contents: FileContents?
        /// Handles, and calls that need the contents for a moment.
        var users: Int32 = 0
        /// Handles that may write: while there are any, the kernel may hold data that the driver has not seen.
        var writers: Int32 = 0
        /// The contents stay though nobody uses them, because they could not be settled: what is to be done is known to them only.
        var isKept = false
    }

    // In this order they take the least room: there may be a million inodes.
    let device: dev_t
    let number: ino_t

    // Guarded by the table's lock.
    var lookups: UInt64 = 0
    var links = Links.none

    /// Of a directory; nil for anything else.
    let directory: DirectoryState?
    /// When the last data could not be stored for want of room, in seconds.
    let lacksRoomSince = Atomic<Int>(0)
    /// The time of modification that the kernel holds for a regular file: with write-back its own, which it does not tell again where a write comes
    /// within the same tick of its clock. What is on disk must agree with it once a handle that was written through is released.
    let believed: Mutex<timespec>
    /// Held while contents are opened, so that one inode never has two.
    let opened = Mutex(Opened())
    /// Its last name is gone; it lives on for handles and for the kernel. Guarded by the table's lock.
    var isUnlinked = false
    /// Why the last data that the kernel wrote back could not be stored for want of room; 0 where there is room. Programs are told at their next write.
    let lacksRoom = Atomic<Int32>(0)
    /// `S_IFMT` bits.
    let kind: mode_t

    // Guarded by the table's lock.
    /// An `O_PATH` descriptor that takes the place of the names once there are none; -1 before.
    var orphan: Int32 = -1

    init(_ status: stat) {
        device = status.st_dev
        number = status.st_ino
        kind = status.st_mode & S_IFMT
        directory = kind == S_IFDIR ? DirectoryState() : nil
        believed = Mutex(status.st_mtim)
    }

    var isDirectory: Bool { directory != nil }

    /// The number that the kernel knows the inode by.
    var nodeID: UInt64 { UInt64(UInt(bitPattern: Unmanaged.passUnretained(self).toOpaque())) }
}
