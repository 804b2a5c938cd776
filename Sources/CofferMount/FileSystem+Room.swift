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

    /// Remembers that what the kernel wrote back did not fit.
    func noteFailedWrite(_ inode: Inode, _ error: VaultError) {
        guard keepsCache, case .system(let code) = error, code == .noSpace || code == .diskQuotaExceeded else { return }
        inode.lacksRoom.store(code.rawValue, ordering: .relaxed)
        // Attributes alone are forgotten without waiting for anything.
        fuse_lowlevel_notify_inval_inode(session, inode.nodeID, -1, 0)
    }

    /// Whether there is room again for an inode's data; the error that a writer is to get where there is not.
    func checkRoom(_ inode: Inode, isForWriting: Bool) throws(VaultError) {
        let code = inode.lacksRoom.load(ordering: .relaxed)
        let status = try vault.fileSystemStatus()
        // A quota's room cannot be asked for here: one write is let through, and fails again or not.
        if code == EDQUOT || status.f_bavail * status.f_frsize >= Self.leastRoom {
            inode.lacksRoom.store(0, ordering: .relaxed)
        }
        if code != 0, isForWriting, code == EDQUOT || inode.lacksRoom.load(ordering: .relaxed) != 0 {
            throw .system(Errno(rawValue: code))
        }
    }
}
