import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import Synchronization
import SystemPackage

/// Making and removing entries.
extension FileSystem {
    /// Who asks, and with which umask.
    struct Caller {
        let user: uid_t
        let group: gid_t
        let mask: mode_t
    }

    /// Makes a regular file and opens it. Where another process has made the name since the kernel looked and `flags` (those of open(2)) do not say that it
    /// must be new, the kernel is told to look once more: only it can tell whether the caller may open what is there.
    func create(
        _ parent: Inode, _ name: [UInt8], mode: mode_t, flags: Int32, _ caller: Caller, _ scratch: Scratch
    ) throws(VaultError) -> (Found, FileHandle) {
        do throws(VaultError) {
            return try create(parent, name, mode: mode, caller, scratch)
        } catch {
            guard !keepsCache, flags & O_EXCL == 0, case .system(.fileExists) = error else { throw error }
            throw .system(.staleNFSFileHandle)
        }
    }

    /// Makes a regular file and opens it.
    func create(
        _ parent: Inode, _ name: [UInt8], mode: mode_t, _ caller: Caller, _ scratch: Scratch
    ) throws(VaultError) -> (Found, FileHandle) {
        try changingNames { () throws(VaultError) in
            try checkOpenLimit()
            return try withDirectory(parent) { directory throws(VaultError) in
                let (contents, found) = try making(in: [parent]) { making throws(VaultError) in
                    try create(name, directory, parent, mode, caller, making, scratch)
                }
                let inode = table.inode(found.nodeID)
                contents.follow { self.place(of: inode) }
                inode.opened.withLock { opened in
                    opened.contents = contents
                    opened.users += 1
                    opened.writers += 1
                    openInodes.withLock { $0[ObjectIdentifier(inode)] = inode }
                }
                handles.add(1, ordering: .relaxed)
                return (found, FileHandle(inode: inode, contents: contents, isWriter: true))
            }
        }
    }

    private func create(
        _ name: [UInt8], _ directory: VaultDirectory, _ parent: Inode, _ mode: mode_t, _ caller: Caller,
        _ making: IntentLog.Making?, _ scratch: Scratch
    ) throws(VaultError) -> (FileContents, Found) {
        let (descriptor, stored) = try masked(caller) { () throws(VaultError) in
            try vault.makeFile(name, in: directory, mode: mode)
        }
        do throws(VaultError) {
            let contents = try vault.newContents(of: descriptor, making: making, scratch)
            try giveAway(descriptor, directory.descriptor, mode, caller)
            return (contents, try self.found(stored, parent, directory, name))
        } catch {
            // A file without its first bytes would be damage; on a full disk it goes again.
            undoMake(name, directory, parent)
            throw error
        }
    }

    /// Makes a fifo, socket, device node or an empty regular file.
    func makeNode(
        _ parent: Inode, _ name: [UInt8], mode: mode_t, device: dev_t, _ caller: Caller, _ scratch: Scratch
    ) throws(VaultError) -> Found {
        if mode & S_IFMT == S_IFREG || mode & S_IFMT == 0 {
            let (found, handle) = try create(parent, name, mode: mode & 0o7777, caller, scratch)
            closeFile(handle, scratch)
            return found
        }
        return try make(parent, name, mode, caller) { directory throws(VaultError) in
            try vault.makeNode(name, in: directory, mode: mode, device: device)
        }
    }

    /// Makes a directory.
    func makeDirectory(
        _ parent: Inode, _ name: [UInt8], mode: mode_t, _ caller: Caller
    ) throws(VaultError) -> Found {
        let makingIn = parent.directory?.makingIn.load(ordering: .relaxed) ?? 0
        let found = try make(parent, name, mode, caller) { directory throws(VaultError) in
            try vault.makeDirectory(name, in: directory, mode: mode).name
        }
        // What the intent log knows of a directory goes for those that are made in it.
        table.inode(found.nodeID).directory?.makingIn.store(makingIn, ordering: .relaxed)
        return found
    }

    /// Makes a symbolic link.
    func makeLink(
        _ parent: Inode, _ name: [UInt8], target: [UInt8], _ caller: Caller
    ) throws(VaultError) -> Found {
        try make(parent, name, 0o777, caller) { directory throws(VaultError) in
            try vault.makeLink(name, in: directory, target: target)
        }
    }

    /// Makes another name for a file.
    func makeHardLink(_ inode: Inode, _ parent: Inode, _ name: [UInt8]) throws(VaultError) -> Found {
        try changingNames { () throws(VaultError) in
            // Which of its names serves does not matter; its parent is needed open with its ids for what a link's target may carry along.
            for link in table.links(of: inode) {
                // One whose parent was forgotten and moved since leads nowhere; the next may.
                guard try descriptors.acquireIfThere(link.parent) != nil else { continue }
                defer { descriptors.release(link.parent) }
                let found = try withDirectory(link.parent) { source throws(VaultError) -> Found? in
                    guard let entry = try vault.lookUp(link.name, in: source), entry.status.st_ino == inode.number
                    else { return nil }
                    return try withDirectory(parent) { target throws(VaultError) in
                        let newName = try vault.newName(name, in: target).name.entry
                        return try linking(entry, link.parent, to: newName, parent) { () throws(VaultError) in
                            let stored = try vault.makeHardLink(from: source, entry, to: target, name)
                            return try self.found(stored, parent, target, name)
                        }
                    }
                }
                if let found { return found }
            }
            throw .system(.noSuchFileOrDirectory)
        }
    }

    /// Removes an entry that is not a directory.
    func removeFile(_ parent: Inode, _ name: [UInt8]) throws(VaultError) {
        try changingNames { () throws(VaultError) in
            try withDirectory(parent) { directory throws(VaultError) in
                let entry = try vault.find(name, in: directory)
                guard !entry.isDirectory else { throw .system(.isDirectory) }
                try removeFile(entry, parent, directory)
            }
        }
    }

    /// Removes one that was found. The caller is changing names.
    func removeFile(_ entry: VaultEntry, _ parent: Inode, _ directory: VaultDirectory) throws(VaultError) {
        try unlinking(entry, parent) { () throws(VaultError) in
            let orphan = try orphanDescriptor(entry, directory)
            do throws(VaultError) {
                try vault.removeFile(entry, in: directory)
            } catch {
                if orphan >= 0 { disk.close(orphan) }
                throw error
            }
            noteRemoved(entry, parent, orphan)
        }
    }

    /// Removes an empty directory.
    func removeDirectory(_ parent: Inode, _ name: [UInt8]) throws(VaultError) {
        try changingNames { () throws(VaultError) in
            try withDirectory(parent) { directory throws(VaultError) in
                let entry = try vault.find(name, in: directory)
                guard entry.isDirectory else { throw .system(.notDirectory) }
                let orphan = try orphanDescriptor(entry, directory)
                do throws(VaultError) {
                    if try vault.removeDirectory(entry, in: directory) { mark(parent) }
                } catch {
                    forgetIdentities(parent, parent, entry, nil)
                    if orphan >= 0 { disk.close(orphan) }
                    throw error
                }
                noteRemoved(entry, parent, orphan)
            }
        }
    }

    /// A descriptor that keeps an object reachable that is about to lose its last name, or the last that is known here, or -1 where none is needed. The kernel goes on to tell of its times.
    func orphanDescriptor(_ entry: VaultEntry, _ directory: VaultDirectory) throws(VaultError) -> Int32 {
        guard let inode = table.known(entry.status),
            entry.isDirectory || entry.status.st_nlink == 1 || table.links(of: inode).count <= 1
        else { return -1 }
        do throws(Errno) {
            return try disk.open(
                at: directory.descriptor, entry.name.entry.cString, flags: DirectoryDescriptors.pathOnly | O_NOFOLLOW)
        } catch {
            throw .system(error)
        }
    }

    /// Puts a removal into the table.
    func noteRemoved(_ entry: VaultEntry, _ parent: Inode, _ orphan: Int32) {
        guard let inode = table.known(entry.status) else {
            if orphan >= 0 { disk.close(orphan) }
            return
        }
        if entry.isDirectory || entry.status.st_nlink == 1 {
            table.unlink(inode, orphan: orphan)
        } else {
            table.remove(entry.name.entry, in: parent, from: inode, orphan: orphan)
        }
    }

    // MARK: What all makers share

    private func make(
        _ parent: Inode, _ name: [UInt8], _ mode: mode_t, _ caller: Caller,
        _ body: (VaultDirectory) throws(VaultError) -> EncodedName
    ) throws(VaultError) -> Found {
        try changingNames { () throws(VaultError) in
            try withDirectory(parent) { directory throws(VaultError) in
                let stored = try masked(caller) { () throws(VaultError) in try body(directory) }
                do throws(VaultError) {
                    if givesAway { try giveAway(stored, directory, mode, caller) }
                    return try found(stored, parent, directory, name)
                } catch {
                    // All or nothing: what the caller is told it does not have must not be there.
                    undoMake(name, directory, parent)
                    throw error
                }
            }
        }
    }

    private func giveAway(
        _ stored: EncodedName, _ directory: VaultDirectory, _ mode: mode_t, _ caller: Caller
    ) throws(VaultError) {
        let object: Int32
        do throws(Errno) {
            object = try disk.open(
                at: directory.descriptor, stored.entry.cString, flags: DirectoryDescriptors.pathOnly | O_NOFOLLOW)
        } catch {
            throw .system(error)
        }
        defer { disk.close(object) }
        try giveAway(object, directory.descriptor, mode, caller)
    }

    private func found(
        _ stored: EncodedName, _ parent: Inode, _ directory: VaultDirectory, _ name: [UInt8]
    ) throws(VaultError) -> Found {
        let status: stat
        do throws(Errno) {
            status = try disk.status(at: directory.descriptor, stored.entry.cString)
        } catch {
            throw .system(error)
        }
        return try reference(
            status, parent, directory.descriptor, stored.entry, directory.identity.creating, name)
    }

    /// Runs `body` under the caller's umask, so that the backing file system combines it with default ACLs as it does for its own programs. The
    /// thread's umask is its own.
    private func masked<Result>(
        _ caller: Caller, _ body: () throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        umask(caller.mask)
        defer { umask(0) }
        return try body()
    }

    /// Gives what a privileged driver made to whoever asked for it. A set-group-id directory has given its group already.
    private func giveAway(
        _ descriptor: Int32, _ parent: Int32, _ mode: mode_t, _ caller: Caller
    ) throws(VaultError) {
        guard givesAway, caller.user != 0 || caller.group != 0 else { return }
        do throws(Errno) {
            let keepsGroup = try disk.status(parent).st_mode & S_ISGID != 0
            let made = try disk.status(descriptor).st_mode
            try disk.setOwner(descriptor, user: caller.user, group: keepsGroup ? gid_t.max : caller.group)
            // chown(2) takes these from all but directories; the caller asked for them.
            if made & S_IFMT != S_IFDIR && made & (S_ISUID | S_ISGID) != 0 {
                try disk.setMode(descriptor, made & 0o7777)
            }
        } catch {
            throw .system(error)
        }
    }
}
