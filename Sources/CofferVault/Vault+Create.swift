import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Making and removing entries other than by renaming.
extension Vault {
    /// Makes a regular file and opens it for reading and writing; its ciphertext is still empty. `EEXIST` where the name is taken.
    public func makeFile(
        _ name: [UInt8], in directory: VaultDirectory, mode: mode_t
    ) throws(VaultError) -> (descriptor: Int32, name: EncodedName) {
        let stored = try vacantName(name, in: directory).name
        let descriptor = try withCompanions(of: stored, in: directory) { () throws(Errno) in
            try disk.open(
                at: directory.descriptor, stored.entry.cString, flags: O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW,
                mode: mode)
        }
        return (descriptor, stored)
    }

    /// Makes a fifo, socket, device node or (with a fresh, empty ciphertext to be filled in) any other node.
    public func makeNode(
        _ name: [UInt8], in directory: VaultDirectory, mode: mode_t, device: dev_t
    ) throws(VaultError) -> EncodedName {
        let stored = try vacantName(name, in: directory).name
        try withCompanions(of: stored, in: directory) { () throws(Errno) in
            try disk.makeNode(at: directory.descriptor, stored.entry.cString, mode: mode, device: device)
        }
        return stored
    }

    /// Makes a directory. In a marked parent its derived id may be in use by one that was renamed away, so it gets a pin of its own
    /// before it gets its name.
    public func makeDirectory(
        _ name: [UInt8], in directory: VaultDirectory, mode: mode_t
    ) throws(VaultError) -> (name: EncodedName, identity: DirectoryIdentity) {
        let (stored, id) = try vacantName(name, in: directory)
        let derived = id.child(name)
        guard directory.identity.isMarked else {
            try withCompanions(of: stored, in: directory) { () throws(Errno) in
                try disk.makeDirectory(at: directory.descriptor, stored.entry.cString, mode: mode)
            }
            return (stored, DirectoryIdentity(derived: derived))
        }
        let identity = DirectoryIdentity(derived: derived, pins: [.random()], isClosed: true)
        let making = ReservedName.making(random: DirectoryID.random().bytes)
        // The owner must be able to put the record inside, whatever the mode will be.
        try system { () throws(Errno) in
            try disk.makeDirectory(at: directory.descriptor, making.cString, mode: mode | 0o700)
        }
        var isNamed = false
        do throws(VaultError) {
            let (descriptor, made) = try system { () throws(Errno) in try openLifted(making, in: directory.descriptor) }
            defer { disk.close(descriptor) }
            try writeRecords([identity], in: descriptor)
            let wanted = made & ~(0o700 & ~mode)
            if wanted & 0o700 != 0o700 {
                try system { () throws(Errno) in try disk.setMode(descriptor, wanted) }
            }
            try withCompanions(of: stored, in: directory) { () throws(Errno) in
                try disk.rename(
                    from: directory.descriptor, making.cString, to: directory.descriptor, stored.entry.cString,
                    mode: .noReplace)
            }
            isNamed = true
            // What is made in it may be on the disk and its name not: it would be in a directory that nobody sees.
            try settle(descriptor)
        } catch {
            tidy { () throws(VaultError) in
                try removeMade(isNamed ? stored.entry : making, in: directory.descriptor)
                if isNamed { try removeCompanions(of: stored, in: directory) }
            }
            throw error
        }
        return (stored, identity)
    }

    /// Opens a directory, and lets its owner do everything in it: a umask or a default ACL may have taken that away. Returns the mode it had, too.
    private func openLifted(_ name: StoredName, in directory: Int32) throws(Errno) -> (Int32, mode_t) {
        let object = try disk.open(at: directory, name.cString, flags: Disk.pathOnly | O_DIRECTORY | O_NOFOLLOW)
        defer { disk.close(object) }
        let mode = try disk.status(object).st_mode & 0o7777
        if mode & 0o700 != 0o700 { try disk.setMode(object, mode | 0o700) }
        return (try disk.reopen(object, flags: O_RDONLY | O_DIRECTORY), mode)
    }

    /// Removes a directory that never got its name. What is in it nevertheless would be lost with its record.
    func removeMade(_ name: StoredName, in directory: Int32) throws(VaultError) {
        let (descriptor, mode) = try system { () throws(Errno) in try openLifted(name, in: directory) }
        defer { disk.close(descriptor) }
        var leftovers: [StoredName] = []
        guard try holdsOnlyLeftovers(descriptor, names: &leftovers) else {
            try system { () throws(Errno) in try disk.setMode(descriptor, mode) }
            throw .system(.directoryNotEmpty)
        }
        try system { () throws(Errno) in
            for record in [ReservedName.directory, ReservedName.newDirectory] {
                try ignoringAbsence { () throws(Errno) in try disk.remove(at: descriptor, record.cString) }
            }
            try disk.remove(at: directory, name.cString, directory: true)
        }
    }

    /// Makes another name for a file.
    public func makeHardLink(
        from source: VaultDirectory, _ entry: VaultEntry, to target: VaultDirectory, _ name: [UInt8]
    ) throws(VaultError) -> EncodedName {
        let stored = try vacantName(name, in: target).name
        try carryOverflow(of: entry, from: source, to: target)
        try withCompanions(of: stored, in: target) { () throws(Errno) in
            try disk.hardLink(
                from: source.descriptor, entry.name.entry.cString, to: target.descriptor, stored.entry.cString)
        }
        return stored
    }

    /// Removes an entry that is not a directory.
    public func removeFile(_ entry: VaultEntry, in directory: VaultDirectory) throws(VaultError) {
        let overflow = try overflowFile(of: entry, in: directory)
        try system { () throws(Errno) in try disk.remove(at: directory.descriptor, entry.name.entry.cString) }
        // The entry is gone, whatever becomes of the rest: what is left over means nothing.
        tidy { () throws(VaultError) in try removeCompanions(of: entry.name, in: directory) }
        // Another name of the same link in this directory may still need the file.
        if let overflow, entry.status.st_nlink == 1 {
            tidy { () throws(VaultError) in try removeOverflow(overflow, in: directory) }
        }
    }

    /// Removes a link's overflow file once the link has left the directory. The file may have a name in another directory too, and where a file system keeps no order of entries, whoever
    /// syncs it by that makes durable that it has gone here: so the link must have gone for good.
    func removeOverflow(_ overflow: StoredName, in directory: VaultDirectory) throws(VaultError) {
        try settle(directory.descriptor)
        try removeQuietly(overflow, in: directory)
    }

    /// Removes an empty directory, with what Coffer itself keeps in it. Returns whether `directory` is marked now.
    @discardableResult
    public func removeDirectory(_ entry: VaultEntry, in directory: VaultDirectory) throws(VaultError) -> Bool {
        var isMarked = directory.identity.isMarked
        do throws(Errno) {
            try disk.remove(at: directory.descriptor, entry.name.entry.cString, directory: true)
        } catch {
            guard error == .directoryNotEmpty || error == .fileExists else { throw .system(error) }
            isMarked = try retire(entry, in: directory)
            guard try clearLeftovers(of: entry, in: directory) else { throw .system(error) }
            try system { () throws(Errno) in
                try disk.remove(at: directory.descriptor, entry.name.entry.cString, directory: true)
            }
        }
        tidy { () throws(VaultError) in try removeCompanions(of: entry.name, in: directory) }
        return isMarked
    }

    // MARK: Companions

    /// Makes what an entry needs to be read, the companions of a long name among it, then the entry by `body`; where that fails those made here go again, unless the entry exists. Those that were there
    /// before are an existing entry's, which must not lose its name.
    @discardableResult
    func withCompanions<Result>(
        of name: EncodedName, in directory: VaultDirectory, _ body: () throws(Errno) -> Result
    ) throws(VaultError) -> Result {
        try recordIdentity(of: directory)
        var made: [StoredName] = []
        do throws(Errno) {
            for companion in name.companions {
                if try makeCompanion(companion, in: directory) { made.append(companion) }
            }
            // An entry on the disk without them would be a name that nobody can read; those that were there may never have been synced.
            if !name.companions.isEmpty, !keepsEntryOrder {
                for companion in name.companions { try syncFile(companion, in: directory.descriptor) }
                try syncDirectory(directory.descriptor)
            }
            return try body()
        } catch {
            if error != .fileExists {
                for companion in made { try removeQuietly(companion, in: directory) }
            }
            throw .system(error)
        }
    }

    /// False where it was there already.
    private func makeCompanion(_ name: StoredName, in directory: VaultDirectory) throws(Errno) -> Bool {
        do throws(Errno) {
            disk.close(
                try disk.open(
                    at: directory.descriptor, name.cString, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600
                ))
            return true
        } catch {
            if error == .fileExists { return false }
            throw error
        }
    }

    func removeCompanions(of name: EncodedName, in directory: VaultDirectory) throws(VaultError) {
        for companion in name.companions { try removeQuietly(companion, in: directory) }
    }

    /// Removes a file that may be gone already.
    func removeQuietly(_ name: StoredName, in directory: VaultDirectory) throws(VaultError) {
        try system { () throws(Errno) in
            try ignoringAbsence { () throws(Errno) in try disk.remove(at: directory.descriptor, name.cString) }
        }
    }

    func ignoringAbsence(_ body: () throws(Errno) -> Void) throws(Errno) {
        do throws(Errno) {
            try body()
        } catch {
            if error != .noSuchFileOrDirectory { throw error }
        }
    }
}
