import CFuse
import CofferVault
import Glibc

/// Files: the hot path is `read` and `write`, which neither allocate nor count references.
extension Operations {
    static func addFiles(_ operations: inout fuse_lowlevel_ops) {
        operations.create = { request, parent, name, mode, info in
            let fileSystem = FuseRequest.fileSystem(request)
            let directory = fileSystem.table.inode(parent)
            let name = FuseRequest.bytes(name)
            FuseRequest.run(request, fileSystem, directory, name: name) { () throws(VaultError) in
                let scratch = Worker.current.scratch
                let (found, handle) = try fileSystem.create(
                    directory, name, mode: mode & 0o7777, flags: info?.pointee.flags ?? O_EXCL,
                    FuseRequest.caller(request), scratch)
                Operations.keep(handle, in: info, fileSystem)
                var entry = FuseRequest.entry(found, fileSystem)
                if fuse_reply_create(request, &entry, info) != 0 {
                    Operations.drop(info, fileSystem)
                    fileSystem.forget(fileSystem.table.inode(found.nodeID), 1)
                }
            }
        }
        operations.open = { request, node, info in
            let fileSystem = FuseRequest.fileSystem(request)
            let inode = fileSystem.table.inode(node)
            FuseRequest.run(request, fileSystem, inode) { () throws(VaultError) in
                let flags = info?.pointee.flags ?? 0
                if fileSystem.isSealed {
                    Worker.current.expectWait()
                    try fileSystem.verifyBeforeOpening(inode)
                }
                // Write-back reads what surrounds a write through the same handle, so write-only is not enough.
                let handle = try fileSystem.openFile(
                    inode, forWriting: flags & O_ACCMODE != O_RDONLY, emptying: flags & O_TRUNC != 0,
                    Worker.current.scratch)
                if flags & O_TRUNC != 0, FuseRequest.caller(request).user != 0 {
                    Operations.dropSetID(request, fileSystem, handle)
                }
                Operations.keep(handle, in: info, fileSystem)
                if fuse_reply_open(request, info) != 0 { Operations.drop(info, fileSystem) }
            }
        }
        operations.release = { request, _, info in
            let fileSystem = FuseRequest.fileSystem(request)
            Operations.drop(info, fileSystem)
            FuseRequest.reply(request, error: 0)
        }
        operations.read = { request, _, count, offset, info in
            Operations.onFile(request, info) { fileSystem, handle, contents, worker, scratch throws(VaultError) in
                let got = try contents.read(into: worker.reply, count: min(count, 1 << 20), at: offset, scratch)
                if fileSystem.isSealed { try fileSystem.requireUnchanged(handle) }
                if !fileSystem.leavesFileAccessTimes { contents.noteAccess(scratch) }
                _ = coffer_reply_bytes(request, worker.reply, got)
            }
        }
        operations.write = { request, _, data, count, offset, info in
            guard let data else { return FuseRequest.reply(request, error: EBADF) }
            Operations.onFile(request, info) { fileSystem, handle, contents, worker, scratch throws(VaultError) in
                if offset > contents.size {
                    if count >= FileContents.worthSealingAhead {
                        contents.sealAhead(data, count: count, at: offset, scratch)
                    }
                    fileSystem.writeOrder.waitForEarlier(worker.number) { worker.expectWait() }
                }
                // Before anything is changed, as the kernel does it.
                if worker.takesSetID { Operations.dropSetID(request, fileSystem, handle) }
                do throws(VaultError) {
                    if fileSystem.vault.company == .together, (info?.pointee.flags ?? 0) & O_APPEND != 0 {
                        // Where the kernel takes the end to be, another process may have written by now.
                        try contents.append(data, count: count, scratch)
                    } else {
                        try contents.write(data, count: count, at: offset, scratch)
                    }
                } catch {
                    fileSystem.noteFailedWrite(handle.inode, error)
                    // What was written back: of what a program writes past the cache the kernel tells it at once, and nobody later.
                    if fileSystem.keepsCache, info?.pointee.writepage == 1 { contents.noteFailureIsKernels() }
                    throw error
                }
                fileSystem.writeOrder.leave(worker.number)
                fuse_reply_write(request, count)
            }
        }
        operations.flush = { request, _, info in
            let fileSystem = FuseRequest.fileSystem(request)
            // The kernel writes back by itself before it asks this, and need not ask: what there is to do can be done when it says that the handle is gone, for
            // which no program waits.
            if fileSystem.keepsCache { return FuseRequest.reply(request, error: ENOSYS) }
            guard let handle = FuseRequest.file(info)?.takeUnretainedValue() else {
                return FuseRequest.reply(request, error: EBADF)
            }
            FuseRequest.run(request, fileSystem, handle.inode) { () throws(VaultError) in
                try fileSystem.finishWrites(handle.inode, handle.contents, Worker.current.scratch)
                FuseRequest.reply(request, error: 0)
            }
        }
        operations.fsync = { request, _, dataOnly, info in
            Operations.onFile(request, info) { fileSystem, handle, contents, worker, scratch throws(VaultError) in
                worker.expectWait()
                // The time need not be durable, and is not the last one yet.
                if dataOnly == 0 {
                    do throws(VaultError) {
                        try fileSystem.finishWrites(handle.inode, contents, scratch)
                    } catch {
                        contents.noteFailureTold()
                        throw error
                    }
                }
                try contents.sync(dataOnly: dataOnly != 0, scratch)
                FuseRequest.reply(request, error: 0)
            }
        }
        addRanges(&operations)
    }

    /// Runs a request on an open file, and answers its error. All that it needs is lent to `body`: no reference is counted, for as long as the request is under
    /// way libfuse keeps the handle, the handle the contents, and the thread its worker.
    @inline(__always)
    private static func onFile(
        _ request: fuse_req_t?, _ info: UnsafeMutablePointer<fuse_file_info>?,
        _ body: (FileSystem, FileHandle, FileContents, Worker, Scratch) throws(VaultError) -> Void
    ) {
        FuseRequest.withFileSystem(request) { fileSystem in
            guard let handle = FuseRequest.file(info) else { return FuseRequest.reply(request, error: EBADF) }
            handle._withUnsafeGuaranteedRef { handle in
                do throws(VaultError) {
                    try handle.lentContents.lend { contents throws(VaultError) in
                        try Worker.withCurrent { worker, scratch throws(VaultError) in
                            try body(fileSystem, handle, contents, worker, scratch)
                        }
                    }
                } catch {
                    FuseRequest.reply(request, error: fileSystem.report(error, handle.inode))
                }
            }
        }
    }

    /// Ranges of files: space, holes and copies.
    private static func addRanges(_ operations: inout fuse_lowlevel_ops) {
        operations.fallocate = { request, _, mode, offset, length, info in
            let fileSystem = FuseRequest.fileSystem(request)
            guard let handle = FuseRequest.file(info)?.takeUnretainedValue() else {
                return FuseRequest.reply(request, error: EBADF)
            }
            FuseRequest.run(request, fileSystem, handle.inode) { () throws(VaultError) in
                let contents = handle.contents
                let scratch = Worker.current.scratch
                if FuseRequest.caller(request).user != 0 { Operations.dropSetID(request, fileSystem, handle) }
                // FALLOC_FL_KEEP_SIZE 1, FALLOC_FL_PUNCH_HOLE 2, FALLOC_FL_ZERO_RANGE 16
                switch mode {
                case 0, 1: try contents.reserve(offset: offset, count: length, keepSize: mode == 1, scratch)
                case 3: try contents.punch(offset: offset, count: length, scratch)
                case 16, 17: try contents.zero(offset: offset, count: length, keepSize: mode == 17, scratch)
                default: throw .system(.notSupported)
                }
                FuseRequest.reply(request, error: 0)
            }
        }
        operations.lseek = { request, _, offset, whence, info in
            let fileSystem = FuseRequest.fileSystem(request)
            guard let handle = FuseRequest.file(info)?.takeUnretainedValue() else {
                return FuseRequest.reply(request, error: EBADF)
            }
            if fileSystem.keepsCache, handle.inode.opened.withLock({ $0.writers > 0 }) {
                // The kernel may hold data that the driver has not seen.
                fileSystem.seeker.ask(request, handle, offset, whence)
            } else {
                Seeker.answer(request, fileSystem, handle, offset, whence, Worker.current.scratch)
            }
        }
        operations.copy_file_range = { request, _, from, source, _, to, target, count, _ in
            let fileSystem = FuseRequest.fileSystem(request)
            guard let source = FuseRequest.file(source)?.takeUnretainedValue(),
                let target = FuseRequest.file(target)?.takeUnretainedValue()
            else { return FuseRequest.reply(request, error: EBADF) }
            FuseRequest.run(request, fileSystem, source.inode) { () throws(VaultError) in
                if FuseRequest.caller(request).user != 0 { Operations.dropSetID(request, fileSystem, target) }
                let copied = try fileSystem.copy(
                    from: source, at: from, to: target, at: to, count: count, Worker.current)
                fuse_reply_write(request, copied)
            }
        }
    }

    /// Takes the set-id bits from a file that was changed: the kernel leaves that to the driver. Where it fails the file is changed all the same. The answer
    /// carries no mode, so the kernel is to forget the one it knows; attributes alone are forgotten without waiting for anything.
    private static func dropSetID(_ request: fuse_req_t?, _ fileSystem: FileSystem, _ handle: FileHandle) {
        do throws(VaultError) {
            if try fileSystem.dropSetID(handle.contents.descriptor, { FuseRequest.belongs(request, to: $0) }) {
                fuse_lowlevel_notify_inval_inode(fileSystem.session, handle.inode.nodeID, -1, 0)
            }
        } catch {
            _ = fileSystem.report(error, handle.inode)
        }
    }

    /// Puts a handle where libfuse brings it back from.
    private static func keep(
        _ handle: FileHandle, in info: UnsafeMutablePointer<fuse_file_info>?, _ fileSystem: FileSystem
    ) {
        guard let info else { return }
        info.pointee.fh = UInt64(UInt(bitPattern: Unmanaged.passRetained(handle).toOpaque()))
        if fileSystem.keepsCache { coffer_fi_keep_cache(info) }
        if fileSystem.vault.company == .together, info.pointee.flags & O_APPEND != 0 { coffer_fi_direct_io(info) }
    }

    /// Ends a handle.
    private static func drop(_ info: UnsafeMutablePointer<fuse_file_info>?, _ fileSystem: FileSystem) {
        guard let handle = FuseRequest.file(info) else { return }
        fileSystem.closeFile(handle.takeRetainedValue(), Worker.current.scratch)
    }
}
