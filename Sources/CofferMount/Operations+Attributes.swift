import CFuse
import CofferVault
import Glibc

/// Attributes, links' targets and extended attributes.
extension Operations {
    static func addAttributes(_ operations: inout fuse_lowlevel_ops) {
        operations.getattr = { request, node, info in
            let fileSystem = FuseRequest.fileSystem(request)
            let inode = fileSystem.table.inode(node)
            FuseRequest.run(request, fileSystem, inode) { () throws(VaultError) in
                var status = try fileSystem.attributes(of: inode)
                if inode.lacksRoom.load(ordering: .relaxed) != 0 {
                    let handle = FuseRequest.file(info)?.takeUnretainedValue()
                    try fileSystem.checkRoom(inode, isForWriting: handle?.isWriter ?? false)
                }
                fuse_reply_attr(request, &status, fileSystem.timeout)
                // Until there is room the kernel is to ask before each write.
                if inode.lacksRoom.load(ordering: .relaxed) != 0 { fileSystem.makeKernelAsk(inode) }
            }
        }
        operations.setattr = { request, node, wanted, which, info in
            let fileSystem = FuseRequest.fileSystem(request)
            let inode = fileSystem.table.inode(node)
            FuseRequest.run(request, fileSystem, inode) { () throws(VaultError) in
                var change = Operations.change(wanted, which)
                // chown(2) takes them too where it changes neither owner, and nothing but that changes the time of change alone.
                change.takesSetID = Worker.current.takesSetID || which == FUSE_SET_ATTR_CTIME
                // Its own it sends with a handle, a program's without.
                change.isKernels = fileSystem.keepsCache && info != nil && change.size == nil
                var status = try fileSystem.change(inode, change, Worker.current.scratch) { group in
                    FuseRequest.belongs(request, to: group)
                }
                fuse_reply_attr(request, &status, fileSystem.timeout)
            }
        }
        operations.readlink = { request, node in
            let fileSystem = FuseRequest.fileSystem(request)
            let inode = fileSystem.table.inode(node)
            FuseRequest.run(request, fileSystem, inode) { () throws(VaultError) in
                let target = try fileSystem.readLink(inode).map { CChar(bitPattern: $0) } + [0]
                fuse_reply_readlink(request, target)
            }
        }
        operations.statfs = { request, _ in
            let fileSystem = FuseRequest.fileSystem(request)
            FuseRequest.run(request, fileSystem, fileSystem.table.root) { () throws(VaultError) in
                var status = try fileSystem.vault.fileSystemStatus()
                fuse_reply_statfs(request, &status)
            }
        }
        operations.getxattr = { request, node, name, room in
            let fileSystem = FuseRequest.fileSystem(request)
            let inode = fileSystem.table.inode(node)
            FuseRequest.run(request, fileSystem, inode) { () throws(VaultError) in
                Operations.answer(request, try fileSystem.attribute(inode, FuseRequest.bytes(name)), room)
            }
        }
        operations.listxattr = { request, node, room in
            let fileSystem = FuseRequest.fileSystem(request)
            let inode = fileSystem.table.inode(node)
            FuseRequest.run(request, fileSystem, inode) { () throws(VaultError) in
                var list: [UInt8] = []
                let isPrivileged = FuseRequest.caller(request).user == 0
                for name in try fileSystem.attributeNames(inode) {
                    // As for the kernel's own file systems, these are none of an ordinary user's business.
                    if !isPrivileged && name.starts(with: "trusted.".utf8) { continue }
                    list += name
                    list.append(0)
                }
                Operations.answer(request, list, room)
            }
        }
        operations.setxattr = { request, node, name, value, count, flags in
            let fileSystem = FuseRequest.fileSystem(request)
            let inode = fileSystem.table.inode(node)
            FuseRequest.run(request, fileSystem, inode) { () throws(VaultError) in
                let value = Array(UnsafeRawBufferPointer(start: value, count: count))
                try fileSystem.setAttribute(inode, FuseRequest.bytes(name), value, flags: flags) { group in
                    FuseRequest.belongs(request, to: group)
                }
                FuseRequest.reply(request, error: 0)
            }
        }
        operations.removexattr = { request, node, name in
            let fileSystem = FuseRequest.fileSystem(request)
            let inode = fileSystem.table.inode(node)
            FuseRequest.run(request, fileSystem, inode) { () throws(VaultError) in
                try fileSystem.removeAttribute(inode, FuseRequest.bytes(name))
                FuseRequest.reply(request, error: 0)
            }
        }
    }

    /// A value for a caller that has `room` bytes, or asks with 0 how many it needs.
    private static func answer(_ request: fuse_req_t?, _ bytes: [UInt8], _ room: Int) {
        if room == 0 {
            fuse_reply_xattr(request, bytes.count)
        } else if bytes.count > room {
            FuseRequest.reply(request, error: ERANGE)
        } else {
            FuseRequest.reply(request, bytes)
        }
    }

    /// What a SETATTR asks for.
    private static func change(_ wanted: UnsafeMutablePointer<stat>?, _ which: Int32) -> FileSystem.Change {
        var change = FileSystem.Change()
        guard let wanted = wanted?.pointee else { return change }
        let now = timespec(tv_sec: 0, tv_nsec: 1_073_741_823)
        if which & FUSE_SET_ATTR_MODE != 0 { change.mode = wanted.st_mode }
        if which & FUSE_SET_ATTR_UID != 0 { change.user = wanted.st_uid }
        if which & FUSE_SET_ATTR_GID != 0 { change.group = wanted.st_gid }
        if which & FUSE_SET_ATTR_SIZE != 0 { change.size = wanted.st_size }
        if which & FUSE_SET_ATTR_ATIME != 0 { change.access = wanted.st_atim }
        if which & FUSE_SET_ATTR_ATIME_NOW != 0 { change.access = now }
        if which & FUSE_SET_ATTR_MTIME != 0 { change.modification = wanted.st_mtim }
        if which & FUSE_SET_ATTR_MTIME_NOW != 0 { change.modification = now }
        return change
    }
}
