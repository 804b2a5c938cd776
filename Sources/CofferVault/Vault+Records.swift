import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// `coffer.dir`: what a renamed directory answers to.
extension Vault {
    /// What the directory behind `descriptor` answers to at the place that derives `derived`. Records that cannot be read for lack of
    /// permission, or that mean nothing, leave the derived id: the entries then tell by not verifying.
    public func identity(of descriptor: Int32, derived: DirectoryID) throws(VaultError) -> DirectoryIdentity {
        do throws(VaultError) {
            return try recordedIdentity(of: descriptor, derived: derived)
        } catch {
            return try identity(error, derived: derived)
        }
    }

    /// What is gone by where the records cannot be read.
    private func identity(_ error: VaultError, derived: DirectoryID) throws(VaultError) -> DirectoryIdentity {
        switch error {
        case .damaged(Damage(.directory)), .system(.permissionDenied), .system(.staleNFSFileHandle):
            return DirectoryIdentity(derived: derived)
        default: throw error
        }
    }

    /// As ``identity(of:derived:)``, of a directory in one that is marked, or not. In a marked one every new directory has a record; where an empty one has none, it lost it when it was to be
    /// removed, or replaced, and that was cut short or failed. Another that was renamed away may have the id that this place derives, so it gets one of its own, which is recorded before an entry
    /// is made. Not where several drivers write at a time: each would draw another.
    public func identity(
        of descriptor: Int32, derived: DirectoryID, inMarked isInMarked: Bool
    ) throws(VaultError) -> DirectoryIdentity {
        guard isInMarked else { return try identity(of: descriptor, derived: derived) }
        let found: DirectoryIdentity
        do throws(VaultError) {
            found = try recordedIdentity(of: descriptor, derived: derived)
        } catch {
            // A record that cannot be read is one, and not for this to replace.
            return try identity(error, derived: derived)
        }
        guard found == DirectoryIdentity(derived: derived), try isEmpty(descriptor) else { return found }
        return DirectoryIdentity(derived: derived, pins: [.random()], isClosed: true, isUnrecorded: true)
    }

    /// Whether a directory, whatever kind of descriptor it has, is empty for a person. Somebody else's that cannot be looked into counts as one that is not: what is in it can be reached by
    /// name.
    private func isEmpty(_ descriptor: Int32) throws(VaultError) -> Bool {
        let listing: Int32
        do throws(Errno) {
            listing = try openListing(descriptor)
        } catch {
            if error == .permissionDenied { return false }
            throw .system(error)
        }
        defer { disk.close(listing) }
        var leftovers: [StoredName] = []
        return try holdsOnlyLeftovers(listing, names: &leftovers)
    }

    /// Opens a directory for listing. Where its own mode keeps its owner out, the mode is lifted for as long as the opening takes.
    func openListing(_ descriptor: Int32) throws(Errno) -> Int32 {
        do throws(Errno) {
            return try disk.open(at: descriptor, ".", flags: O_RDONLY | O_DIRECTORY)
        } catch {
            guard error == .permissionDenied, try disk.status(descriptor).st_uid == geteuid() else { throw error }
        }
        let mode = try disk.status(descriptor).st_mode & 0o7777
        try disk.setMode(descriptor, mode | 0o500)
        let opened: Result<Int32, Errno> = Result { () throws(Errno) in
            try disk.reopen(descriptor, flags: O_RDONLY | O_DIRECTORY)
        }
        try disk.setMode(descriptor, mode)
        return try opened.get()
    }

    /// Puts down what a directory answers to, before an entry is made that is bound to it.
    func recordIdentity(of directory: VaultDirectory) throws(VaultError) {
        guard directory.identity.isUnrecorded else { return }
        let wanted = directory.identity.recorded
        let present = try recordedIdentity(of: directory.descriptor, derived: wanted.derived)
        if present == wanted { return }
        // Never another's: what is bound to that could not be read any more.
        guard present == DirectoryIdentity(derived: wanted.derived) else { throw .system(.staleNFSFileHandle) }
        try settle(directory.descriptor)
        try writeRecords([wanted], in: directory.descriptor)
    }

    /// What has been removed from a directory is gone for good after this, and the directory is for good where it is: before it stops answering to an id that an entry may be bound to, or
    /// to what it answered to elsewhere. Where entries come to the disk in order that is so anyway.
    func settle(_ descriptor: Int32) throws(VaultError) {
        guard !keepsEntryOrder else { return }
        try system { () throws(Errno) in try syncEntries(descriptor) }
    }

    /// What others have left in a vault, killed or copying it, is on the disk after this: what is written next relies on what its records say. Where entries come to the disk in order that is so
    /// anyway.
    public static func settleAll(disk: Disk, rootDescriptor: Int32) throws(Errno) {
        guard !disk.keepsEntryOrder(rootDescriptor) else { return }
        try disk.syncFileSystem(rootDescriptor)
    }

    /// As ``identity(of:derived:)``, with damage for records that mean nothing: before something is written in their place.
    package func recordedIdentity(of descriptor: Int32, derived: DirectoryID) throws(VaultError) -> DirectoryIdentity {
        guard let bytes = try recordBytes(of: descriptor) else { return DirectoryIdentity(derived: derived) }
        do throws(FormatError) {
            return try records.decode(bytes, derived: derived)
        } catch {
            throw .damaged(Damage(.directory))
        }
    }

    /// What is in `coffer.dir`; nil where there is none, damage where that is no file.
    func recordBytes(of descriptor: Int32) throws(VaultError) -> [UInt8]? {
        let file: Int32
        do throws(Errno) {
            // Without O_NONBLOCK a fifo of this name would be waited for.
            file = try disk.open(
                at: descriptor, ReservedName.directory.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
        } catch {
            switch error {
            case .noSuchFileOrDirectory: return nil
            case .tooManySymbolicLinkLevels: throw .damaged(Damage(.directory))
            default: throw .system(error)
            }
        }
        defer { disk.close(file) }
        let status = try system { () throws(Errno) in try disk.status(file) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .damaged(Damage(.directory)) }
        return try system { () throws(Errno) in
            try disk.readBytes(file, limit: DirectoryRecords.maximumByteCount + 1)
        }
    }

    /// Writes `coffer.dir` anew and makes it durable before it takes effect. Without records to write, the file goes.
    func writeRecords(_ identities: [DirectoryIdentity], in descriptor: Int32) throws(VaultError) {
        let needed = identities.filter(\.needsRecord)
        if needed.isEmpty { return try removeRecords(descriptor) }
        let bytes: [UInt8]
        do throws(FormatError) {
            bytes = try records.encode(needed)
        } catch {
            throw .system(.noSpace)
        }
        let previous = try recordBytes(of: descriptor)
        do throws(VaultError) {
            try replaceRecords(with: bytes, in: descriptor)
        } catch {
            // What is there is taken for what is on the disk, and entries are bound to what it says.
            tidy { () throws(VaultError) in
                guard try recordBytes(of: descriptor) != previous else { return }
                if let previous {
                    try replaceRecords(with: previous, in: descriptor)
                } else {
                    try removeRecords(descriptor)
                }
            }
            throw error
        }
    }

    private func removeRecords(_ descriptor: Int32) throws(VaultError) {
        try system { () throws(Errno) in
            try ignoringAbsence { () throws(Errno) in
                try disk.remove(at: descriptor, ReservedName.directory.cString)
            }
        }
    }

    private func replaceRecords(with bytes: [UInt8], in descriptor: Int32) throws(VaultError) {
        try system { () throws(Errno) in
            // Whatever has this name is of no use; a fifo would be waited for.
            try ignoringAbsence { () throws(Errno) in
                try disk.remove(at: descriptor, ReservedName.newDirectory.cString)
            }
            let before = try disk.status(descriptor)
            let file = try disk.open(
                at: descriptor, ReservedName.newDirectory.cString,
                flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK, mode: 0o600)
            defer { disk.close(file) }
            try disk.write(file, bytes: bytes)
            // Whoever may read the directory may read its record; it says nothing without the key.
            try disk.setMode(file, 0o644)
            try disk.sync(file)
            try disk.rename(
                from: descriptor, ReservedName.newDirectory.cString, to: descriptor, ReservedName.directory.cString)
            if !keepsEntryOrder { try disk.sync(file) }
            // A rename leaves the time of the directory that moves as it was. Only its owner may say so.
            do throws(Errno) {
                try disk.setTimes(descriptor, access: before.st_atim, modification: before.st_mtim)
            } catch {
                if error != .notPermitted { throw error }
            }
            try syncDirectory(descriptor)
        }
    }

    /// fsync(2) of a directory, whatever kind of descriptor it has. On Btrfs it may do nothing (``CofferDisk/Disk/syncEntries(_:)``): what must be there before something else is
    /// takes a sync of the file, too, which makes the file's names durable there. Others wait meanwhile, so that this does not.
    func syncDirectory(_ descriptor: Int32) throws(Errno) {
        try withListing(descriptor) { directory throws(Errno) in try disk.sync(directory) }
    }

    /// fsync(2) of a file by its name, for the sake of the name. Somebody else's that we may not open, or what is no file, is as good as it gets.
    func syncFile(_ name: StoredName, in directory: Int32) throws(Errno) {
        do throws(Errno) {
            let file = try disk.open(at: directory, name.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            defer { disk.close(file) }
            try disk.sync(file)
        } catch {
            guard [.permissionDenied, .tooManySymbolicLinkLevels, .noSuchAddressOrDevice].contains(error) else {
                throw error
            }
        }
    }

    /// Makes a directory's entries, and where it is itself, durable.
    public func syncEntries(_ descriptor: Int32) throws(Errno) {
        try withListing(descriptor) { directory throws(Errno) in try disk.syncEntries(directory) }
    }

    /// A directory opened so that it can be synced. One that may be changed and not be listed is synced with all else.
    private func withListing(_ descriptor: Int32, _ sync: (Int32) throws(Errno) -> Void) throws(Errno) {
        let directory: Int32
        do throws(Errno) {
            directory = try disk.open(at: descriptor, ".", flags: O_RDONLY | O_DIRECTORY)
        } catch {
            guard error == .permissionDenied else { throw error }
            return try disk.syncFileSystem(rootDescriptor)
        }
        defer { disk.close(directory) }
        try sync(directory)
    }

    /// Whether the entries of a directory hold nothing of a person's: only what Coffer keeps for itself. `names` gets those.
    func holdsOnlyLeftovers(_ descriptor: Int32, names leftovers: inout [StoredName]) throws(VaultError) -> Bool {
        let raw = RawDirectory(disk: disk, descriptor: descriptor)
        var isEmpty = true
        try raw.forEach { bytes, _ in
            switch NameCodec.kind(of: bytes) {
            case .dots: return true
            case .companion, .reserved:
                leftovers.append(StoredName(bytes))
                return true
            case .short, .long, .foreign:
                isEmpty = false
                return false
            }
        }
        return isEmpty
    }

    /// Removes what Coffer keeps in a directory that is empty for a person; false, with nothing removed, where it is not.
    func clearLeftovers(of entry: VaultEntry, in directory: VaultDirectory) throws(VaultError) -> Bool {
        do throws(VaultError) {
            return try withLifted(entry, in: directory) { descriptor throws(VaultError) in
                try clearLeftovers(in: descriptor)
            }
        } catch {
            // Somebody else's, who does not let us look.
            if error == .system(.permissionDenied) { return false }
            throw error
        }
    }

    private func clearLeftovers(in descriptor: Int32) throws(VaultError) -> Bool {
        var leftovers: [StoredName] = []
        guard try holdsOnlyLeftovers(descriptor, names: &leftovers), !leftovers.isEmpty else { return false }
        // With its name Btrfs forgets where the directory has moved, and an entry that is only in Btrfs' log goes with the next sync of anything: it may come back where it was before, with
        // what had been removed from it, and without its record.
        try settle(descriptor)
        for name in leftovers {
            do throws(Errno) {
                try disk.remove(at: descriptor, name.cString)
            } catch {
                guard error == .isDirectory || error == .notPermitted else { throw .system(error) }
                // A directory that was being made when the machine stopped; any other is not for this to remove.
                guard ReservedName.isMaking(name) else { return false }
                try removeMade(name, in: descriptor)
            }
        }
        return true
    }
}
