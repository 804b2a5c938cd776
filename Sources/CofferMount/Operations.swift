import CFuse
import CofferDisk
import CofferVault
import Glibc

/// libfuse's table of requests.
enum Operations {
    /// The whole table.
    static func table() -> fuse_lowlevel_ops {
        var operations = fuse_lowlevel_ops()
        operations.`init` = { _, connection in Session.negotiate(connection) }
        addNames(&operations)
        addAttributes(&operations)
        addFiles(&operations)
        addDirectories(&operations)
        addControl(&operations)
        return operations
    }

    /// Looking up, making, removing and renaming entries.
    private static func addNames(_ operations: inout fuse_lowlevel_ops) {
        operations.lookup = { request, parent, name in
            let fileSystem = FuseRequest.fileSystem(request)
            let directory = fileSystem.table.inode(parent)
            let name = FuseRequest.bytes(name)
            FuseRequest.run(request, fileSystem, directory, name: name) { () throws(VaultError) in
                FuseRequest.reply(request, try fileSystem.lookUp(directory, name), fileSystem)
            }
        }
        operations.forget = { request, node, count in
            let fileSystem = FuseRequest.fileSystem(request)
            fileSystem.forget(fileSystem.table.inode(node), count)
            fuse_reply_none(request)
        }
        operations.forget_multi = { request, count, forgets in
            let fileSystem = FuseRequest.fileSystem(request)
            if let forgets {
                for index in 0..<count {
                    fileSystem.forget(fileSystem.table.inode(forgets[index].ino), forgets[index].nlookup)
                }
            }
            fuse_reply_none(request)
        }
        operations.mknod = { request, parent, name, mode, device in
            let fileSystem = FuseRequest.fileSystem(request)
            let directory = fileSystem.table.inode(parent)
            let name = FuseRequest.bytes(name)
            FuseRequest.run(request, fileSystem, directory, name: name) { () throws(VaultError) in
                let found = try fileSystem.makeNode(
                    directory, name, mode: mode, device: device, FuseRequest.caller(request), Worker.current.scratch)
                FuseRequest.reply(request, found, fileSystem)
            }
        }
        operations.mkdir = { request, parent, name, mode in
            let fileSystem = FuseRequest.fileSystem(request)
            let directory = fileSystem.table.inode(parent)
            let name = FuseRequest.bytes(name)
            FuseRequest.run(request, fileSystem, directory, name: name) { () throws(VaultError) in
                let found = try fileSystem.makeDirectory(directory, name, mode: mode, FuseRequest.caller(request))
                FuseRequest.reply(request, found, fileSystem)
            }
        }
        operations.symlink = { request, target, parent, name in
            let fileSystem = FuseRequest.fileSystem(request)
            let directory = fileSystem.table.inode(parent)
            let name = FuseRequest.bytes(name)
            FuseRequest.run(request, fileSystem, directory, name: name) { () throws(VaultError) in
                let found = try fileSystem.makeLink(
                    directory, name, target: FuseRequest.bytes(target), FuseRequest.caller(request))
                FuseRequest.reply(request, found, fileSystem)
            }
        }
        operations.link = { request, node, parent, name in
            let fileSystem = FuseRequest.fileSystem(request)
            let directory = fileSystem.table.inode(parent)
            FuseRequest.run(request, fileSystem, directory) { () throws(VaultError) in
                let found = try fileSystem.makeHardLink(
                    fileSystem.table.inode(node), directory, FuseRequest.bytes(name))
                FuseRequest.reply(request, found, fileSystem)
            }
        }
        operations.unlink = { request, parent, name in
            let fileSystem = FuseRequest.fileSystem(request)
            let directory = fileSystem.table.inode(parent)
            FuseRequest.run(request, fileSystem, directory) { () throws(VaultError) in
                try fileSystem.removeFile(directory, FuseRequest.bytes(name))
                FuseRequest.reply(request, error: 0)
            }
        }
        operations.rmdir = { request, parent, name in
            let fileSystem = FuseRequest.fileSystem(request)
            let directory = fileSystem.table.inode(parent)
            FuseRequest.run(request, fileSystem, directory) { () throws(VaultError) in
                try fileSystem.removeDirectory(directory, FuseRequest.bytes(name))
                FuseRequest.reply(request, error: 0)
            }
        }
        operations.rename = { request, parent, name, newParent, newName, flags in
            let fileSystem = FuseRequest.fileSystem(request)
            let directory = fileSystem.table.inode(parent)
            guard let mode = Disk.RenameMode(rawValue: flags) else {
                return FuseRequest.reply(request, error: EINVAL)
            }
            FuseRequest.run(request, fileSystem, directory) { () throws(VaultError) in
                try fileSystem.rename(
                    directory, FuseRequest.bytes(name), to: fileSystem.table.inode(newParent),
                    FuseRequest.bytes(newName), mode: mode)
                FuseRequest.reply(request, error: 0)
            }
        }
    }
}
