import CFuse
import CofferVault
import Glibc
import Synchronization
import SystemPackage

/// Full disks and write-back.
///
/// With write-back the kernel takes what programs write and hands it over later, so write(2) would go on succeeding on a full disk, and only
/// fsync(2) or close(2) would say that all of it is lost. But before each write the kernel makes sure that it knows the file's size and mode. So once
/// data could not be stored it is made to forget them, and the question is answered by the error, which write(2) then returns.
extension FileSystem {
    /// Less room than this is none: what one request may bring.
    private static let leastRoom: UInt = 2 << 20
    /// Seconds after which a write is let through all the same: what the system says of room is not always true.
    private static let patience = 3

    /// Remembers that what the kernel wrote back did not fit.
    func noteFailedWrite(_ inode: Inode, _ error: VaultError) {
        guard keepsCache, case .system(let code) = error, code == .noSpace || code == .diskQuotaExceeded else { return }
        inode.lacksRoomSince.store(time(nil), ordering: .relaxed)
        inode.lacksRoom.store(code.rawValue, ordering: .relaxed)
        makeKernelAsk(inode)
    }

    /// Makes the kernel ask for a file's mode before the next write(2). Size and times are its own to know, so that reading and seeking ask for nothing.
    func makeKernelAsk(_ inode: Inode) {
        // Attributes alone are forgotten without waiting for anything.
        fuse_lowlevel_notify_inval_inode(session, inode.nodeID, -1, 0)
    }

    /// Whether there is room again for an inode's data; the error that a writer is to get where there is not.
    func checkRoom(_ inode: Inode, isForWriting: Bool) throws(VaultError) {
        let code = inode.lacksRoom.load(ordering: .relaxed)
        let status = try vault.fileSystemStatus()
        let free = (givesAway ? status.f_bfree : status.f_bavail) * status.f_frsize
        let hasRoom = code == ENOSPC && free >= Self.leastRoom
        if hasRoom || time(nil) - inode.lacksRoomSince.load(ordering: .relaxed) >= Self.patience {
            inode.lacksRoom.store(0, ordering: .relaxed)
        } else if code != 0, isForWriting {
            throw .system(Errno(rawValue: code))
        }
    }
}
