import CFuse
import CLinux
import CofferVault
import Glibc

/// What Coffer's own programs ask of a mount.
extension Operations {
    static func addControl(_ operations: inout fuse_lowlevel_ops) {
        operations.ioctl = { request, node, command, _, _, _, _, _, _ in
            let fileSystem = FuseRequest.fileSystem(request)
            let inode = fileSystem.table.inode(node)
            guard Int32(bitPattern: command) == COFFER_SETTLE, inode === fileSystem.table.root else {
                return FuseRequest.reply(request, error: ENOTTY)
            }
            FuseRequest.run(request, fileSystem, inode) { () throws(VaultError) in
                Worker.current.expectWait()
                try fileSystem.settleEverything(Worker.current.scratch)
                fuse_reply_ioctl(request, 0, nil, 0)
            }
        }
    }
}

extension FileSystem {
    /// Brings everything that the driver has to the vault: what is stored then is what programs have written, and stays so until somebody writes again.
    func settleEverything(_ scratch: Scratch) throws(VaultError) {
        try vault.log?.checkpoint()
        settleAll(scratch)
        // What settling has put there.
        try vault.log?.checkpoint()
    }
}
