import CofferDisk
import CofferFormat
import CofferSeal
import CofferVault
import Glibc
import Synchronization
import SystemPackage

/// An open file. Many handles share one inode's contents.
final class FileHandle {
    let inode: Inode
    let contents: FileContents
    /// The same, to be lent without counting references.
    let lentContents: Unmanaged<FileContents>
    let isWriter: Bool
    /// What the file was when it was found to be as sealed; nil where that is nobody's to say.
    let sealedStamp: SealGuard.Stamp?

    init(inode: Inode, contents: FileContents, isWriter: Bool, sealedStamp: SealGuard.Stamp? = nil) {
        self.sealedStamp = sealedStamp
        self.inode = inode
        self.contents = contents
        lentContents = Unmanaged.passUnretained(contents)
        self.isWriter = isWriter
    }
}

/// Opening and closing files.
extension FileSystem {
    /// A handle on an inode's contents. `emptying` cuts the file to nothing, whatever state it is in.
    func openFile(
        _ inode: Inode, forWriting: Bool, emptying: Bool, _ scratch: Scratch
    ) throws(VaultError) -> FileHandle {
        try names.read { () throws(VaultError) in
            let contents = try openContents(inode, forWriting: forWriting, emptying: emptying, scratch)
            if emptying {
                do throws(VaultError) {
                    try contents.resize(to: 0, scratch)
                } catch {
                    closeContents(inode, scratch)
                    throw error
                }
            }
            let stamp: SealGuard.Stamp?
            do throws(VaultError) {
                stamp = try sealedStamp(inode, contents)
            } catch {
                closeContents(inode, scratch)
                throw error
            }
            handles.add(1, ordering: .relaxed)
            if forWriting { inode.opened.withLock { $0.writers += 1 } }
            return FileHandle(inode: inode, contents: contents, isWriter: forWriting, sealedStamp: stamp)
        }
    }

    /// Gives a handle back.
    func closeFile(_ handle: FileHandle, _ scratch: Scratch) {
        if handle.isWriter {
            finishUnasked(handle.inode, handle.contents, scratch)
            handle.inode.opened.withLock { $0.writers -= 1 }
        }
        closeContents(handle.inode, scratch)
        handles.subtract(1, ordering: .relaxed)
    }

    /// An inode's contents, opened if they are not; one more user of them. The caller holds `names`.
    func openContents(
        _ inode: Inode, forWriting: Bool, emptying: Bool, _ scratch: Scratch
    ) throws(VaultError) -> FileContents {
        guard inode.kind == S_IFREG else { throw .system(inode.isDirectory ? .isDirectory : .invalidArgument) }
        return try inode.opened.withLock { opened throws(VaultError) in
            if let contents = opened.contents {
                if (forWriting || emptying) && !contents.isWritable {
                    try contents.makeWritable(try openBacking(inode, flags: O_RDWR))
                }
                opened.users += 1
                return contents
            }
            try checkOpenLimit()
            let contents = try contents(of: inode, isWritable: forWriting || emptying, emptying: emptying, scratch)
            opened.contents = contents
            opened.users = 1
            openInodes.withLock { $0[ObjectIdentifier(inode)] = inode }
            return contents
        }
    }

    /// `EMFILE` where programs hold as many files open as the driver has descriptors for.
    func checkOpenLimit() throws(VaultError) {
        if openInodes.withLock({ $0.count }) >= openLimit { throw .system(.tooManyOpenFiles) }
    }

    /// Contents from the backing file. One that another process is just making or replacing is waited for.
    private func contents(
        of inode: Inode, isWritable: Bool, emptying: Bool, _ scratch: Scratch
    ) throws(VaultError) -> FileContents {
        var attempt = 0
        while true {
            let descriptor = try openBacking(inode, flags: isWritable ? O_RDWR : O_RDONLY)
            let changed = keepsCache ? 0 : changeTime(descriptor)
            do throws(VaultError) {
                return try vault.contents(
                    of: descriptor, isWritable: isWritable, emptying: emptying, place: { self.place(of: inode) },
                    scratch)
            } catch {
                guard case .damaged = error, sealed == nil, attempt < 150, time(nil) - changed < 3 else { throw error }
            }
            attempt += 1
            usleep(20_000)
        }
    }

    private func changeTime(_ descriptor: Int32) -> Int {
        do throws(Errno) {
            return try disk.status(descriptor).st_ctim.tv_sec
        } catch {
            return 0
        }
    }

    /// One user less; the last one takes back what permissions are left over.
    func closeContents(_ inode: Inode, _ scratch: Scratch) {
        let contents = openContents(of: inode)
        if let contents {
            settle(inode, contents, scratch)
            drain(inode, contents)
        }
        let isPinned = inode.opened.withLock { opened -> Bool in
            opened.users -= 1
            guard opened.users == 0 else { return false }
            if let contents = opened.contents, contents.isWritable, contents.needsSettling {
                // What could not be settled is tried again by ``settleAll(_:)``.
                if !opened.isKept { opened.isKept = table.pin(inode) }
                if opened.isKept { return false }
            }
            opened.contents = nil
            openInodes.withLock { $0[ObjectIdentifier(inode)] = nil }
            defer { opened.isKept = false }
            return opened.isKept
        }
        if isPinned { forget(inode, 1) }
    }

    /// What closing and syncing a file ask for, once the kernel has handed over everything: permissions are taken back, and the time of modification is
    /// the one that the kernel shows.
    func finishWrites(_ inode: Inode, _ contents: FileContents, _ scratch: Scratch) throws(VaultError) {
        try contents.settle(scratch)
        guard keepsCache else { return }
        // Both under the lock, so that a time that is being set meanwhile is not overtaken by the one before it.
        try inode.believed.withLock { believed throws(VaultError) in
            guard contents.takeTouched() else { return }
            do throws(VaultError) {
                try contents.setTimes(access: Disk.unchangedTime, modification: believed)
            } catch {
                contents.touch()
                throw error
            }
        }
    }

    /// As above, for every file that is open, whatever came of it before.
    func finishAll(_ scratch: Scratch) {
        for inode in openInodes.withLock({ Array($0.values) }) {
            if let contents = openContents(of: inode), contents.isWritable { finishUnasked(inode, contents, scratch) }
        }
    }

    /// As above, where no program hears of a failure.
    private func finishUnasked(_ inode: Inode, _ contents: FileContents, _ scratch: Scratch) {
        do throws(VaultError) {
            try finishWrites(inode, contents, scratch)
        } catch {
            _ = report(error, inode)
            if case .system = error { log.warning("'\(paths(of: inode).plain)' may show a wrong time: \(error)") }
        }
    }

    /// Takes permissions back; where that fails, a later write or check will.
    func settle(_ inode: Inode, _ contents: FileContents, _ scratch: Scratch) {
        do throws(VaultError) {
            try contents.settle(scratch)
        } catch {
            _ = report(error, inode)
        }
    }

    /// What the intent log has for a file goes into it; where that fails, the log keeps it.
    private func drain(_ inode: Inode, _ contents: FileContents) {
        do throws(VaultError) {
            try contents.drain()
        } catch {
            _ = report(error, inode)
        }
    }

    /// Does what the kernel's write-back leaves to the driver, for every open file. Whether nothing is left.
    @discardableResult
    func settleAll(_ scratch: Scratch) -> Bool {
        var isDone = true
        for inode in openInodes.withLock({ Array($0.values) }) {
            // As a user of the contents, so that they stay the file's only ones meanwhile, whatever the kernel forgets.
            let used = inode.opened.withLock { opened -> FileContents? in
                // Also those that were kept, and need it no longer by what somebody else did: nobody else lets go of them.
                guard let contents = opened.contents, contents.isWritable, contents.needsSettling || opened.isKept,
                    table.pin(inode)
                else { return nil }
                opened.users += 1
                return contents
            }
            guard let used else { continue }
            closeContents(inode, scratch)
            if used.needsSettling { isDone = false }
            forget(inode, 1)
        }
        return isDone
    }

    /// A descriptor of the ciphertext file. The kernel has checked the caller's permission; where the file's own mode keeps its owner (the driver) out, the
    /// mode is lifted for the moment of opening.
    func openBacking(_ inode: Inode, flags: Int32) throws(VaultError) -> Int32 {
        let orphan = table.orphan(of: inode)
        if orphan >= 0 { return try reopen(orphan, flags: flags) }
        let descriptor = try withName(inode) { parent, stored, status throws(VaultError) in
            do throws(Errno) {
                let descriptor = try disk.open(
                    at: parent, stored.cString, flags: flags | O_NOFOLLOW | O_NONBLOCK, withoutAccessTime: true)
                do throws(Errno) {
                    let opened = try disk.status(descriptor)
                    if opened.st_ino == inode.number && opened.st_dev == inode.device { return descriptor }
                } catch {
                    disk.close(descriptor)
                    throw error
                }
                // Another object took the name this very moment.
                disk.close(descriptor)
                throw .staleNFSFileHandle
            } catch {
                guard error == .permissionDenied, status.st_uid == geteuid() else { throw .system(error) }
            }
            let object: Int32
            do throws(Errno) {
                object = try disk.open(
                    at: parent, stored.cString, flags: DirectoryDescriptors.pathOnly | O_NOFOLLOW)
            } catch {
                throw .system(error)
            }
            defer { disk.close(object) }
            return try reopen(object, flags: flags)
        }
        guard let descriptor else { throw .system(.noSuchFileOrDirectory) }
        return descriptor
    }

    /// Opens what a descriptor names, where need be by lifting the mode as above.
    func reopen(_ object: Int32, flags: Int32) throws(VaultError) -> Int32 {
        do throws(Errno) {
            do throws(Errno) {
                return try disk.reopen(object, flags: flags)
            } catch {
                guard error == .permissionDenied else { throw error }
            }
            // Only its owner may lift it; and a set-group-id bit might not come back.
            let status = try disk.status(object)
            let mode = status.st_mode & 0o7777
            guard status.st_uid == geteuid(), mode & S_ISGID == 0 else { throw .permissionDenied }
            try disk.setMode(object, mode | 0o600)
            let result: Result<Int32, Errno> = Result { () throws(Errno) in try disk.reopen(object, flags: flags) }
            do throws(Errno) {
                try disk.setMode(object, mode)
            } catch {
                if case .success(let descriptor) = result { disk.close(descriptor) }
                throw error
            }
            return try result.get()
        } catch {
            throw .system(error)
        }
    }

    /// Copies a range from one open file to another through plaintext; the bytes copied, fewer at the source's end.
    func copy(
        from source: FileHandle, at sourceOffset: Int, to target: FileHandle, at targetOffset: Int, count: Int,
        _ worker: Worker
    ) throws(VaultError) -> Int {
        let chunk = 1 << 20
        var done = 0
        // The kernel asks again for the rest; one request must not keep a thread for minutes.
        while done < min(count, 64 << 20) {
            do throws(VaultError) {
                let got = try source.contents.read(
                    into: worker.reply, count: min(chunk, count - done), at: sourceOffset + done, worker.scratch)
                if got == 0 { break }
                try target.contents.write(worker.reply, count: got, at: targetOffset + done, worker.scratch)
                done += got
            } catch {
                // What was copied counts; whoever asks for the rest meets the error again.
                if done > 0 { break }
                throw error
            }
        }
        return done
    }
}
