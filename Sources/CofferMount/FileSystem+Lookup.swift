import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// Looking up and attributes.
extension FileSystem {
    /// What the kernel gets to know of an entry.
    struct Found {
        let nodeID: UInt64
        let status: stat
    }

    /// The entry of a name, with one look-up counted; nil where there is none.
    func lookUp(_ parent: Inode, _ name: [UInt8]) throws(VaultError) -> Found? {
        try names.read { () throws(VaultError) in
            try withDirectory(parent, forReading: true) { directory throws(VaultError) in
                guard let entry = try vault.lookUp(name, in: directory) else {
                    if try isPlaceholder(name, directory) { throw .system(.ioError) }
                    try requireUnsealed(name, parent, directory)
                    return nil
                }
                try requireSealed(entry.status, parent, entry.name.entry)
                return try reference(entry.status, parent, directory.descriptor, entry.name.entry, entry.id, name)
            }
        }
    }

    /// Whether a name is listed for an entry whose own name does not verify.
    private func isPlaceholder(_ name: [UInt8], _ directory: VaultDirectory) throws(VaultError) -> Bool {
        guard name.starts(with: DirectoryStream.placeholderPrefix) else { return false }
        let descriptor: Int32
        do throws(Errno) {
            descriptor = try disk.open(at: directory.descriptor, ".", flags: O_RDONLY | O_DIRECTORY)
        } catch {
            throw .system(error)
        }
        let stream = DirectoryStream(vault: vault, descriptor: descriptor)
        while let entry = try stream.next(directory.identity) {
            if entry.isPlaceholder && entry.name == name { return true }
        }
        return false
    }

    /// Counts a look-up of an entry that exists.
    func reference(
        _ status: stat, _ parent: Inode, _ parentDescriptor: Int32, _ stored: StoredName, _ id: DirectoryID,
        _ name: [UInt8]
    ) throws(VaultError) -> Found {
        var shown = try vault.presented(status, at: parentDescriptor, stored)
        let derived = status.st_mode & S_IFMT == S_IFDIR ? id.child(name) : nil
        let inode = table.reference(
            status, link: Link(parent: parent, stored: stored, name: name, derived: derived))
        if let directory = inode.directory {
            directory.derived.withLock { known in
                // Moved behind our back: what was known of it was said of another place.
                if keepsCache, let known, known != derived { directory.identity.withLock { $0 = nil } }
                known = derived
            }
        } else if let size = openSize(of: inode) {
            shown.st_size = size
        }
        return Found(nodeID: inode.nodeID, status: shown)
    }

    /// Takes look-ups back.
    func forget(_ inode: Inode, _ count: UInt64) {
        if table.forget(inode, count) {
            if inode.isDirectory {
                listings.forget(inode)
                descriptors.forget(inode)
            }
            Unmanaged.passUnretained(inode).release()
        }
    }

    /// An inode's attributes.
    func attributes(of inode: Inode) throws(VaultError) -> stat {
        try names.read { () throws(VaultError) in try attributesLocked(inode) }
    }

    private func attributesLocked(_ inode: Inode) throws(VaultError) -> stat {
        if inode === table.root || table.orphan(of: inode) >= 0 || openContents(of: inode) != nil {
            return try withObject(inode) { descriptor throws(VaultError) in
                var status: stat
                do throws(Errno) {
                    status = try disk.status(descriptor)
                } catch {
                    throw .system(error)
                }
                if let size = openSize(of: inode) {
                    status.st_size = size
                    status.st_blksize = BlockGeometry.plainCount
                    return status
                }
                // The log's directory is none of a program's.
                if inode === table.root, vault.log != nil, status.st_nlink > 2 { status.st_nlink -= 1 }
                return try vault.presented(status, at: descriptor, StoredName(""))
            }
        }
        let shown = try withName(inode) { parent, stored, status throws(VaultError) in
            try vault.presented(status, at: parent, stored)
        }
        guard let shown else { throw .system(.staleNFSFileHandle) }
        return shown
    }

    /// What a program wants changed; nil where it is to stay.
    struct Change {
        var mode: mode_t?
        var user: uid_t?
        var group: gid_t?
        var size: Int?
        var access: timespec?
        var modification: timespec?
        /// The times are those that the kernel has kept for a program's writes.
        var isKernels = false
        /// Set-id bits are to go, as they do where contents change.
        var takesSetID = false
    }

    /// Changes attributes and tells all of them.
    func change(
        _ inode: Inode, _ change: Change, _ scratch: Scratch, belongs: (gid_t) -> Bool
    ) throws(VaultError) -> stat {
        try names.read { () throws(VaultError) in
            guard let size = change.size else { return try changeOther(inode, change, scratch, belongs) }
            var status = try attributesLocked(inode)
            if change.takesSetID {
                // Before anything is changed, as the kernel does it.
                try withObject(inode) { descriptor throws(VaultError) in _ = try dropSetID(descriptor, belongs) }
            }
            let contents = try openContents(inode, forWriting: true, emptying: size == 0, scratch)
            defer { closeContents(inode, scratch) }
            try contents.resize(to: size, scratch)
            do throws(VaultError) {
                return try changeOther(inode, change, scratch, belongs)
            } catch {
                // The file has its new size: if the kernel were told of an error it would go on with the old one, and show zeros up to that.
                _ = report(error, inode)
                status.st_size = size
                return status
            }
        }
    }

    /// Changes what is not the size. The caller holds `names`.
    private func changeOther(
        _ inode: Inode, _ change: Change, _ scratch: Scratch, _ belongs: (gid_t) -> Bool
    ) throws(VaultError) -> stat {
        if let mode = change.mode, mode & 0o6000 != 0, let contents = openContents(of: inode) {
            // What is stored later takes set-id bits from the file where the driver may not keep them.
            try contents.settle(scratch)
            try contents.drain()
        }
        try withObject(inode) { descriptor throws(VaultError) in
            // Whose group it was counts.
            if inode.kind == S_IFREG, change.user != nil || change.group != nil {
                try dropGroupBit(descriptor, belongs)
            }
            do throws(Errno) {
                if change.user != nil || change.group != nil {
                    try disk.setOwner(
                        descriptor, user: change.user ?? uid_t.max, group: change.group ?? gid_t.max)
                }
                if let mode = change.mode { try disk.setMode(descriptor, mode & 0o7777) }
            } catch {
                throw .system(error)
            }
            if inode.kind == S_IFREG {
                // A mode that the kernel sends along may have the bit still.
                if change.size != nil || change.mode != nil { try dropGroupBit(descriptor, belongs) }
                if change.takesSetID { _ = try dropSetID(descriptor, belongs) }
            }
            if let modification = change.modification {
                // Under the lock, so that nobody sets the time before it after it.
                let contents = openContents(of: inode)
                if change.isKernels, let contents, contents.isWritable {
                    // More may be written within the same tick of the kernel's clock, and copy tools go by size and time: while the file is open it has the time of
                    // the last change on the disk, and this one when it is closed or synced.
                    inode.believed.withLock { $0 = modification }
                    contents.touch()
                    return
                }
                // What was written before is as it will stay, or the time would be that of two contents.
                if let contents, contents.isWritable { settle(inode, contents, scratch) }
                try inode.believed.withLock { believed throws(VaultError) in
                    try setTimes(
                        inode, descriptor, change.access ?? Disk.unchangedTime, modification)
                    believed = modification.tv_nsec == Disk.presentTime.tv_nsec ? try time(descriptor) : modification
                }
            } else if let access = change.access {
                try setTimes(inode, descriptor, access, Disk.unchangedTime)
            }
        }
        return try attributesLocked(inode)
    }

    private func time(_ descriptor: Int32) throws(VaultError) -> timespec {
        do throws(Errno) {
            return try disk.status(descriptor).st_mtim
        } catch {
            throw .system(error)
        }
    }

    private func setTimes(
        _ inode: Inode, _ descriptor: Int32, _ access: timespec, _ modification: timespec
    ) throws(VaultError) {
        if let contents = openContents(of: inode) {
            return try contents.setTimes(access: access, modification: modification)
        }
        do throws(Errno) {
            try disk.setTimes(descriptor, access: access, modification: modification)
        } catch {
            throw .system(error)
        }
    }

    /// The target of a symbolic link.
    func readLink(_ inode: Inode) throws(VaultError) -> [UInt8] {
        try names.read { () throws(VaultError) in
            let orphan = table.orphan(of: inode)
            if orphan >= 0 { return try vault.readLink(StoredName(""), in: orphan) }
            let target = try withName(inode) { parent, stored, _ throws(VaultError) in
                if let sealed {
                    let text = try system { () throws(Errno) in try disk.linkBytes(at: parent, stored.cString) }
                    for place in try places(of: inode) { try sealed.verify(link: text, at: place) }
                }
                return try vault.readLink(stored, in: parent)
            }
            guard let target else { throw .system(.staleNFSFileHandle) }
            return target
        }
    }
}
