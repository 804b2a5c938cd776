import CFuse
import CofferVault
import Glibc

/// Directories.
extension Operations {
    static func addDirectories(_ operations: inout fuse_lowlevel_ops) {
        operations.opendir = { request, node, info in
            let fileSystem = FuseRequest.fileSystem(request)
            // The kernel does not ask again, for any directory, and keeps what it has of each: nobody else changes it.
            if fileSystem.needsNoOpening.load(ordering: .relaxed) { return FuseRequest.reply(request, error: ENOSYS) }
            let inode = fileSystem.table.inode(node)
            FuseRequest.run(request, fileSystem, inode) { () throws(VaultError) in
                let handle = Unmanaged.passRetained(try fileSystem.openDirectory(inode))
                fileSystem.handles.add(1, ordering: .relaxed)
                info?.pointee.fh = UInt64(UInt(bitPattern: handle.toOpaque()))
                if fuse_reply_open(request, info) != 0 { Operations.close(handle, fileSystem) }
            }
        }
        operations.releasedir = { request, _, info in
            let fileSystem = FuseRequest.fileSystem(request)
            if let handle = FuseRequest.directory(info) { Operations.close(handle, fileSystem) }
            FuseRequest.reply(request, error: 0)
        }
        operations.fsyncdir = { request, node, _, info in
            let fileSystem = FuseRequest.fileSystem(request)
            let inode = fileSystem.table.inode(node)
            FuseRequest.run(request, fileSystem, inode) { () throws(VaultError) in
                Worker.current.expectWait()
                if let opened = FuseRequest.directory(info)?.takeUnretainedValue() {
                    try fileSystem.syncDirectory(opened)
                } else {
                    try fileSystem.syncDirectory(try fileSystem.openDirectory(inode))
                }
                FuseRequest.reply(request, error: 0)
            }
        }
        operations.readdir = { request, node, room, offset, info in
            Operations.list(request, node, room, offset, info, withAttributes: false)
        }
        operations.readdirplus = { request, node, room, offset, info in
            Operations.list(request, node, room, offset, info, withAttributes: true)
        }
    }

    private static func close(_ handle: Unmanaged<DirectoryHandle>, _ fileSystem: FileSystem) {
        handle.release()
        fileSystem.handles.subtract(1, ordering: .relaxed)
    }

    private static func list(
        _ request: fuse_req_t?, _ node: fuse_ino_t, _ room: Int, _ offset: Int,
        _ info: UnsafeMutablePointer<fuse_file_info>?, withAttributes: Bool
    ) {
        let fileSystem = FuseRequest.fileSystem(request)
        let inode = fileSystem.table.inode(node)
        FuseRequest.run(request, fileSystem, inode) { () throws(VaultError) in
            let opened = FuseRequest.directory(info)?.takeUnretainedValue()
            let moment = fileSystem.listings.moment
            let handle: DirectoryHandle
            if let known = opened ?? fileSystem.listings.take(inode, at: offset, moment) {
                handle = known
            } else {
                handle = try fileSystem.openDirectory(inode)
            }
            let reply = Worker.current.reply
            let room = min(room, Worker.replyCount)
            var used = 0
            var reached = offset
            let outcome: Result<Void, VaultError> = Result { () throws(VaultError) in
                try fileSystem.list(handle, from: offset, withAttributes: withAttributes) { entry, found in
                    let left = room - used
                    let target = (reply + used).assumingMemoryBound(to: CChar.self)
                    let needed = Self.withCString(entry.name) { name in
                        if withAttributes {
                            var parameters = FuseRequest.entry(found, fileSystem)
                            if found == nil { parameters.attr = Self.status(of: entry) }
                            return fuse_add_direntry_plus(request, target, left, name, &parameters, entry.nextPosition)
                        }
                        var status = Self.status(of: entry)
                        return fuse_add_direntry(request, target, left, name, &status, entry.nextPosition)
                    }
                    guard needed <= left else { return false }
                    used += needed
                    reached = entry.nextPosition
                    return true
                }
            }
            // What was listed before a failure is counted as the kernel's, so it must get it; whoever asks for the rest meets the failure again.
            if used == 0 { try outcome.get() }
            // Before the answer, after which the rest may be asked for at once. With nothing left there is no rest.
            if opened == nil, used > 0 { fileSystem.listings.put(handle, at: reached, moment) }
            if coffer_reply_bytes(request, reply, used) != 0, withAttributes {
                Self.takeBack(UnsafeRawBufferPointer(start: reply, count: used), fileSystem)
            }
        }
    }

    /// The kernel did not take a listing with attributes: nor the look-ups that are in it.
    private static func takeBack(_ listing: UnsafeRawBufferPointer, _ fileSystem: FileSystem) {
        let head = MemoryLayout<fuse_entry_out>.size
        // fuse_dirent: inode u64, offset u64, length of the name u32, type u32, name
        let fixed = head + 24
        var start = 0
        while start + fixed <= listing.count {
            let node = listing.loadUnaligned(fromByteOffset: start, as: UInt64.self)
            if node != 0 { fileSystem.forget(fileSystem.table.inode(node), 1) }
            let nameCount = Int(listing.loadUnaligned(fromByteOffset: start + head + 16, as: UInt32.self))
            start += (fixed + nameCount + 7) / 8 * 8
        }
    }

    /// Lends a name with its closing NUL.
    private static func withCString(_ name: [UInt8], _ body: (UnsafePointer<CChar>) -> Int) -> Int {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: name.count + 1) { buffer in
            for (index, byte) in name.enumerated() { buffer.initializeElement(at: index, to: CChar(bitPattern: byte)) }
            buffer.initializeElement(at: name.count, to: 0)
            guard let base = buffer.baseAddress else { return 0 }
            return body(UnsafePointer(base))
        }
    }

    /// What a listing without attributes says of an entry: its number and its type.
    private static func status(of entry: ListedEntry) -> stat {
        var status = stat()
        status.st_ino = UInt(entry.inode)
        status.st_mode = mode_t(entry.type) << 12
        return status
    }
}
