import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// `coffer.rotation` in a vault's root: what has to be finished before the vault is written to.
///
///     coffer.rotation/file      a file of several names, written anew
///     coffer.rotation/pending   see RotationRecord
public struct RotationDirectory {
    static let file = StoredName("file")
    private static let record = StoredName("pending")
    private static let newRecord = StoredName("pending.new")

    private let disk: Disk
    private let root: Int32
    private let ring: KeyRing

    /// The one below `root`, whose descriptor stays the caller's.
    public init(disk: Disk, root: Int32, ring: KeyRing) {
        self.disk = disk
        self.root = root
        self.ring = ring
    }

    /// Whether something was left to be done.
    public func isPending() throws(VaultError) -> Bool {
        guard let directory = try open() else { return false }
        defer { disk.close(directory) }
        do throws(Errno) {
            _ = try disk.status(at: directory, Self.record.cString)
            return true
        } catch {
            if error == .noSuchFileOrDirectory { return false }
            throw .system(error)
        }
    }

    /// Does what was left to be done. Nobody else may have the vault open for writing.
    public func settle() throws(VaultError) {
        guard let directory = try open() else { return }
        defer { disk.close(directory) }
        switch try read(in: directory) {
        case nil: break
        case .names(let header, let paths):
            try put(paths, from: directory) { (name, parent, twin) throws(VaultError) in
                try isOld(name, in: parent, twin, header)
            }
        case .links(let inode, let paths):
            try put(paths, from: directory) { (name, parent, twin) throws(VaultError) in
                let status = try system { () throws(Errno) in try disk.status(at: parent, name.cString) }
                return status.st_mode & S_IFMT == S_IFLNK && status.st_ino == inode && isSameTime(status, twin)
            }
        case .mode(let mode, let path): try restore(mode, path)
        }
        // The record first: without it the file means nothing.
        for name in [Self.record, Self.newRecord, Self.file] {
            try system { () throws(Errno) in
                try removeIfThere(name, in: directory)
                if name == Self.record { try disk.syncEntries(directory) }
            }
        }
    }

    private func removeIfThere(_ name: StoredName, in directory: Int32) throws(Errno) {
        do throws(Errno) {
            try disk.remove(at: directory, name.cString)
        } catch {
            if error != .noSuchFileOrDirectory { throw error }
        }
    }

    /// Writes down what has to be done, so that it stays.
    func write(_ record: RotationRecord) throws(VaultError) {
        try withDirectory { directory throws(VaultError) in
            try system { () throws(Errno) in
                // What has the name, whoever made it, is not what is written to.
                try removeIfThere(Self.newRecord, in: directory)
                let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW
                let descriptor = try disk.open(at: directory, Self.newRecord.cString, flags: flags, mode: 0o600)
                defer { disk.close(descriptor) }
                let bytes = record.sealed(under: ring)
                // What would not be read must not be relied on.
                guard bytes.count <= RotationRecord.byteLimit else { throw .fileTooLarge }
                try disk.write(descriptor, bytes: bytes)
                try disk.sync(descriptor)
                try disk.rename(from: directory, Self.newRecord.cString, to: directory, Self.record.cString)
                try disk.syncEntries(directory)
                try disk.syncEntries(root)
            }
        }
    }

    /// Lends the directory, which is made where it is not there.
    func withDirectory(_ body: (Int32) throws(VaultError) -> Void) throws(VaultError) {
        do throws(Errno) {
            try disk.makeDirectory(at: root, ReservedName.rotation.cString, mode: 0o700)
        } catch {
            if error != .fileExists { throw .system(error) }
        }
        guard let directory = try open() else { throw .system(.noSuchFileOrDirectory) }
        defer { disk.close(directory) }
        try body(directory)
    }

    /// Removes the directory, with nothing left to be done in it.
    func remove() throws(VaultError) {
        try settle()
        try system { () throws(Errno) in
            do throws(Errno) {
                try disk.remove(at: root, ReservedName.rotation.cString, directory: true)
            } catch {
                // What somebody else put into it is theirs to remove.
                if error != .noSuchFileOrDirectory && error != .directoryNotEmpty && error != .fileExists {
                    throw error
                }
            }
        }
    }

    private func open() throws(VaultError) -> Int32? {
        do throws(Errno) {
            return try disk.open(
                at: root, ReservedName.rotation.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        } catch {
            if error == .noSuchFileOrDirectory { return nil }
            throw .system(error)
        }
    }

    private func read(in directory: Int32) throws(VaultError) -> RotationRecord? {
        let bytes: [UInt8]
        do throws(Errno) {
            let descriptor = try disk.open(
                at: directory, Self.record.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            defer { disk.close(descriptor) }
            let size = Int(try disk.status(descriptor).st_size)
            bytes = try disk.readBytes(descriptor, limit: min(size, RotationRecord.byteLimit))
        } catch {
            if error == .noSuchFileOrDirectory { return nil }
            throw .system(error)
        }
        do throws(FormatError) {
            return try RotationRecord(opening: bytes, under: ring)
        } catch {
            throw .damaged(Damage(.rotation))
        }
    }

    // MARK: What is done

    /// Gives the twin the places of what it was made from, where that is still there and still the same.
    private func put(
        _ paths: [[StoredName]], from rotation: Int32,
        where isOld: (StoredName, Int32, stat) throws(VaultError) -> Bool
    ) throws(VaultError) {
        let twin: stat
        do throws(Errno) {
            twin = try disk.status(at: rotation, Self.file.cString)
        } catch {
            // Half of a copy: the names that are left lead to the file of before, which the next run finds.
            if error == .noSuchFileOrDirectory { return }
            throw .system(error)
        }
        for path in paths {
            do throws(VaultError) {
                try withParent(of: path) { (parent, name) throws(VaultError) in
                    if try isOld(name, parent, twin) { try put(name, in: parent, from: rotation) }
                }
            } catch {
                // Somebody removed or renamed it meanwhile, or put something else in the place of a directory on the way.
                switch error {
                case .system(.noSuchFileOrDirectory), .system(.notDirectory), .system(.tooManySymbolicLinkLevels):
                    break
                default: throw error
                }
            }
        }
        try system { () throws(Errno) in try disk.syncFileSystem(root) }
    }

    private func put(_ name: StoredName, in parent: Int32, from rotation: Int32) throws(VaultError) {
        try system { () throws(Errno) in
            let before = try disk.status(parent)
            let making = ReservedName.making(random: DirectoryID.random().bytes)
            try disk.hardLink(from: rotation, Self.file.cString, to: parent, making.cString)
            do throws(Errno) {
                try disk.rename(from: parent, making.cString, to: parent, name.cString)
            } catch {
                // Where it cannot be removed either, the next run does.
                _ = Result { () throws(Errno) in try disk.remove(at: parent, making.cString) }
                throw error
            }
            try disk.setTimes(parent, access: before.st_atim, modification: before.st_mtim)
        }
    }

    private func isOld(
        _ name: StoredName, in parent: Int32, _ twin: stat, _ header: [UInt8]
    ) throws(VaultError) -> Bool {
        try system { () throws(Errno) in
            let status = try disk.status(at: parent, name.cString)
            guard status.st_mode & S_IFMT == S_IFREG, status.st_ino != twin.st_ino, status.st_size == twin.st_size,
                isSameTime(status, twin)
            else { return false }
            let object = try disk.open(at: parent, name.cString, flags: Disk.pathOnly | O_NOFOLLOW)
            defer { disk.close(object) }
            let descriptor = try disk.withMode(0o400, of: object) { () throws(Errno) in
                try disk.reopen(object, flags: O_RDONLY | O_NONBLOCK)
            }
            defer { disk.close(descriptor) }
            return try disk.readBytes(descriptor, limit: FileHeader.byteCount) == header
        }
    }

    private func isSameTime(_ one: stat, _ other: stat) -> Bool {
        one.st_mtim.tv_sec == other.st_mtim.tv_sec && one.st_mtim.tv_nsec == other.st_mtim.tv_nsec
    }

    /// Takes back from a directory's owner what they had for as long as it took. Whoever can write such a record gives nobody anything by it.
    private func restore(_ mode: UInt32, _ path: [StoredName]) throws(VaultError) {
        do throws(VaultError) {
            if path.isEmpty { return try system { () throws(Errno) in try takeBack(mode, from: root) } }
            try withParent(of: path) { (parent, name) throws(VaultError) in
                try system { () throws(Errno) in
                    let object = try disk.open(
                        at: parent, name.cString, flags: Disk.pathOnly | O_DIRECTORY | O_NOFOLLOW)
                    defer { disk.close(object) }
                    try takeBack(mode, from: object)
                }
            }
        } catch {
            switch error {
            case .system(.noSuchFileOrDirectory), .system(.notDirectory), .system(.tooManySymbolicLinkLevels): break
            default: throw error
            }
        }
    }

    private func takeBack(_ mode: UInt32, from directory: Int32) throws(Errno) {
        let now = try disk.status(directory).st_mode & 0o7777
        let wanted = now & (~0o700 | mode_t(mode))
        if wanted != now { try disk.setMode(directory, wanted) }
    }

    /// Lends the directory that a path's last name is in, with its owner let in where a mode keeps them out.
    func withParent<Result>(
        of path: [StoredName], _ body: (Int32, StoredName) throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        try disk.withParent(of: path, below: root, body)
    }
}
