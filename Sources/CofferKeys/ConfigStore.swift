import CofferCrypto
public import CofferDisk
public import CofferFormat
import Glibc
import SystemPackage

/// coffer.json in a vault's root: reading it, making it, and replacing it so that a power cut leaves the old or the
/// new.
public struct ConfigStore {
    /// The version before the current one.
    public static let previousName = "coffer.json.previous"
    /// A version that is being written.
    public static let newName = "coffer.json.new"
    // For this user only: whoever can read the file can guess passphrases at leisure.
    private static let newFileMode: mode_t = 0o600

    let disk: Disk
    let directory: Int32

    /// The configuration in a directory.
    ///
    /// `directory` is a descriptor open for reading, which the caller keeps open and closes.
    public init(disk: Disk, directory: Int32) {
        self.disk = disk
        self.directory = directory
    }

    // MARK: - Reading

    /// Reads coffer.json: bounds and shape only, nothing is verified.
    public func load() throws(KeysError) -> ConfigFile {
        let bytes = try loadBytes()
        do {
            return try ConfigFile(parsing: bytes)
        } catch {
            throw .config(error)
        }
    }

    /// Reads coffer.json.previous, likewise.
    public func loadPrevious() throws(KeysError) -> ConfigFile {
        guard let bytes = try contents(of: Self.previousName) else { throw .notAVault }
        do {
            return try ConfigFile(parsing: bytes)
        } catch {
            throw .config(error)
        }
    }

    /// Puts the version before the last change in coffer.json's place. What that was, if there is one, gets another name in `lostAndFound` before.
    public func restorePrevious(keepingDamagedIn lostAndFound: String) throws(KeysError) {
        let previous = try loadPrevious()
        do throws(Errno) {
            let old = try disk.open(
                at: directory, Self.previousName, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            defer { disk.close(old) }
            try write(previous.bytes, like: old)
            if try disk.isThere(ConfigFile.name, at: directory) {
                do throws(Errno) {
                    try disk.makeDirectory(at: directory, lostAndFound, mode: 0o700)
                } catch {
                    if error != .fileExists { throw error }
                }
                let name = "\(lostAndFound)/\(ConfigFile.name).\(Hex.encode(Random.bytes(8)))"
                do throws(Errno) {
                    try disk.hardLink(from: directory, ConfigFile.name, to: directory, name)
                } catch {
                    // A file system without links: should it end here, the version before is there still, and this is done again.
                    try disk.rename(from: directory, ConfigFile.name, to: directory, name)
                }
                let kept = try disk.open(at: directory, lostAndFound, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
                defer { disk.close(kept) }
                try disk.syncEntries(kept)
            }
            try renameNew(to: ConfigFile.name, mode: .replace)
            try syncDirectory()
        } catch {
            throw .system("write \(ConfigFile.name)", error)
        }
    }

    private func loadBytes() throws(KeysError) -> [UInt8] {
        guard let bytes = try contents(of: ConfigFile.name) else {
            for name in [Self.previousName, Self.newName] where try exists(name) { throw .onlyOtherConfig(name) }
            throw .notAVault
        }
        return bytes
    }

    /// The file's bytes, at most one more than a configuration may have; nil where there is no such file.
    private func contents(of name: String) throws(KeysError) -> [UInt8]? {
        let deed = "read \(name)"
        let descriptor: Int32
        do {
            // O_NONBLOCK: a fifo of this name must not hang the program.
            descriptor = try disk.open(at: directory, name, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
        } catch {
            if error == .noSuchFileOrDirectory { return nil }
            throw .system(deed, error)
        }
        defer { disk.close(descriptor) }
        do throws(Errno) {
            guard try disk.status(descriptor).st_mode & S_IFMT == S_IFREG else {
                throw Errno.invalidArgument
            }
            var buffer = [UInt8](repeating: 0, count: ConfigFile.byteLimit + 1)
            let count = try read(descriptor, into: &buffer)
            return Array(buffer[..<count])
        } catch {
            throw .system(deed, error)
        }
    }

    private func read(_ descriptor: Int32, into buffer: inout [UInt8]) throws(Errno) -> Int {
        let count = buffer.count
        let disk = disk
        return try buffer.withUnsafeMutableBufferPointer { target throws(Errno) in
            guard let base = target.baseAddress else { return 0 }
            return try disk.read(descriptor, into: base, count: count, at: 0)
        }
    }

    private func exists(_ name: String) throws(KeysError) -> Bool {
        do {
            _ = try disk.status(at: directory, name)
            return true
        } catch {
            if error == .noSuchFileOrDirectory { return false }
            throw .system("look for \(name)", error)
        }
    }

    // MARK: - Writing

    /// Throws `alreadyAVault` or `notEmpty` unless a vault may be made in the directory.
    public func requireNothing() throws(KeysError) {
        if try exists(ConfigFile.name) { throw .alreadyAVault }
        // lost+found is in every new ext4, and an interrupted attempt may have left the other.
        for name in try entries() where name != "lost+found" && name != Self.newName { throw .notEmpty(name) }
    }

    /// Makes a new vault's coffer.json in a directory that holds nothing.
    public func create(_ file: ConfigFile) throws(KeysError) {
        try requireNothing()
        do throws(Errno) {
            try write(file.bytes)
            try renameNew(to: ConfigFile.name, mode: .noReplace)
            try syncDirectory()
        } catch {
            if error == .fileExists { throw .alreadyAVault }
            throw .system("write \(ConfigFile.name)", error)
        }
    }

    /// Replaces `old`, which was loaded before, by `new`.
    ///
    /// The old version stays as coffer.json.previous, so that damage to one file does not lock the vault. Where it must
    /// not stay, because a slot was removed from it, `keepingOld` is false and the new version stands in both places, in that of the old one first.
    public func replace(_ old: ConfigFile, with new: ConfigFile, keepingOld: Bool = true) throws(KeysError) {
        let present = try lockPresent()
        defer { disk.close(present) }
        guard try loadBytes() == old.bytes else { throw .changedMeanwhile }
        do throws(Errno) {
            // Whatever fails before the last renaming leaves the file as it was; what was removed goes from the version before first.
            try write(keepingOld ? old.bytes : new.bytes, like: present)
            try renameNew(to: Self.previousName, mode: .replace)
            try syncDirectory()
            try write(new.bytes, like: present)
            try renameNew(to: ConfigFile.name, mode: .replace)
        } catch {
            throw .system("write \(ConfigFile.name)", error)
        }
        do throws(Errno) {
            try syncDirectory()
        } catch {
            throw .system("make sure that the change, which was made, stays after a power cut", error)
        }
    }

    /// coffer.json as it is, locked: two programs that change it at once would each lose what the other did.
    private func lockPresent() throws(KeysError) -> Int32 {
        do throws(Errno) {
            let descriptor = try disk.open(
                at: directory, ConfigFile.name, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            do throws(Errno) {
                // Without locks on a file system the comparison is all that there is.
                _ = try disk.waitForLock(descriptor, exclusive: true)
                return descriptor
            } catch {
                disk.close(descriptor)
                throw error
            }
        } catch {
            throw .system("lock \(ConfigFile.name)", error)
        }
    }

    /// Writes and syncs coffer.json.new, which is removed again if that fails.
    private func write(_ bytes: [UInt8], like present: Int32? = nil) throws(Errno) {
        do throws(Errno) {
            try disk.remove(at: directory, Self.newName)
        } catch {
            // Only what an interrupted change left; most often there is nothing.
            if error != .noSuchFileOrDirectory { throw error }
        }
        let descriptor = try disk.open(
            at: directory, Self.newName, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: Self.newFileMode)
        defer { disk.close(descriptor) }
        do throws(Errno) {
            let disk = disk
            try bytes.withUnsafeBufferPointer { source throws(Errno) in
                guard let base = source.baseAddress else { return }
                try disk.write(descriptor, base, count: source.count, at: 0)
            }
            if let present { try giveAccess(of: present, to: descriptor) }
            try disk.sync(descriptor)
        } catch {
            discardNew()
            throw error
        }
    }

    /// Who could read the file before can still do so: owner, mode and access list.
    private func giveAccess(of present: Int32, to descriptor: Int32) throws(Errno) {
        let (before, now) = (try disk.status(present), try disk.status(descriptor))
        if before.st_uid != now.st_uid || before.st_gid != now.st_gid {
            try disk.setOwner(descriptor, user: before.st_uid, group: before.st_gid)
        }
        try disk.setMode(descriptor, before.st_mode & 0o777)
        do throws(Errno) {
            let list = try disk.attributeBytes(present, "system.posix_acl_access", limit: 4096)
            try disk.setAttribute(descriptor, "system.posix_acl_access", bytes: list, flags: 0)
        } catch {
            // There is none, or the file system knows none.
            if error != .noData && error != .notSupported { throw error }
        }
    }

    private func renameNew(to name: String, mode: Disk.RenameMode) throws(Errno) {
        do throws(Errno) {
            try disk.rename(from: directory, Self.newName, to: directory, name, mode: mode)
        } catch {
            // Some file systems know no flags. Nothing is there to be replaced: that was looked for just before.
            if mode == .noReplace, error == .invalidArgument {
                try disk.rename(from: directory, Self.newName, to: directory, name)
                return
            }
            discardNew()
            throw error
        }
    }

    // After a failure that is reported itself: what this could fail with would only hide it, and the next change
    // removes the file.
    private func discardNew() {
        do throws(Errno) {
            try disk.remove(at: directory, Self.newName)
        } catch {
            return
        }
    }

    private func syncDirectory() throws(Errno) {
        do throws(Errno) {
            try disk.syncEntries(directory)
        } catch {
            // File systems that cannot sync a directory say so with EINVAL, and there is nothing more to be done on
            // them.
            if error != .invalidArgument { throw error }
        }
    }
}
