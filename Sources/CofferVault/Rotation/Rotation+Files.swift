import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Regular files: written anew beside themselves.
extension Rotation {
    func turnFile(
        _ name: StoredName, _ place: TreePlace, in directory: TurnedDirectory
    ) throws(VaultError) {
        let source = try open(name, in: directory.descriptor)
        defer { disk.close(source) }
        let status = try system { () throws(Errno) in try disk.status(source) }
        defer { tell { $0.bytes &+= Int(status.st_size) } }
        let header = try self.header(of: source)
        if header.epoch == vault.ring.newest {
            let isOld = try vault.hasOldAttributes(source, mode: status.st_mode) { () throws(VaultError) in
                header.fileID
            }
            if !isOld { return }
        }
        if isLooking { throw .damaged(Damage(.header)) }
        if status.st_nlink > 1 {
            groups[NodeNumber(status), default: []].append(place)
            return
        }
        let making = ReservedName.making(random: DirectoryID.random().bytes)
        directory.isTouched = true
        let (descriptor, newHeader) = try withRoom { () throws(VaultError) in
            try makeTwin(of: source, status, header, making, in: directory.descriptor)
        }
        try enqueue(
            Replacement(
                directory: directory, descriptor: descriptor, header: newHeader, source: status, temporary: making,
                name: name, place: place))
    }

    /// Runs `body` once more where a disk was full while there are files that wait: those that they replace go.
    private func withRoom<Result>(_ body: () throws(VaultError) -> Result) throws(VaultError) -> Result {
        do throws(VaultError) {
            return try body()
        } catch {
            guard error == .system(.noSpace) || error == .system(.diskQuotaExceeded), isHoldingRoom else { throw error }
        }
        try flush()
        return try body()
    }

    /// Opens a file for reading. Where its mode keeps its owner out, that is lifted for as long as the opening takes.
    func open(_ name: StoredName, in directory: Int32) throws(VaultError) -> Int32 {
        try system { () throws(Errno) in
            do throws(Errno) {
                return try disk.open(at: directory, name.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            } catch {
                if error != .permissionDenied { throw error }
            }
            let object = try disk.open(at: directory, name.cString, flags: Disk.pathOnly | O_NOFOLLOW)
            defer { disk.close(object) }
            return try disk.withMode(0o400, of: object) { () throws(Errno) in
                try disk.reopen(object, flags: O_RDONLY | O_NONBLOCK)
            }
        }
    }

    func header(of file: Int32) throws(VaultError) -> FileHeader {
        let raw = try system { () throws(Errno) in try disk.readBytes(file, limit: FileHeader.byteCount) }
        do throws(FormatError) {
            return try FileHeader(parsing: raw)
        } catch {
            throw .damaged(Damage(.header))
        }
    }

    /// Makes a file that says the same under the newest key, with the same id, owner, mode, attributes and times. The descriptor, which can be read and written through, is the
    /// caller's. Where this throws, nothing is left.
    func makeTwin(
        of source: Int32, _ status: stat, _ header: FileHeader, _ name: StoredName, in directory: Int32
    ) throws(VaultError) -> (descriptor: Int32, header: FileHeader) {
        let descriptor = try system { () throws(Errno) in
            try disk.open(
                at: directory, name.cString, flags: O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
        }
        do throws(VaultError) {
            let new = FileHeader(cipher: vault.cipher, epoch: vault.ring.newest, fileID: header.fileID)
            let resealing = BlockResealing(disk: disk, scratch: scratch)
            var done = 0
            try resealing.reseal(
                source, storedSize: Int(status.st_size), header, to: descriptor, new, vault.ring
            ) { count in
                done += count
                // Of a long file there is something to be seen before it is done.
                tellWithin(done)
            }
            // The order matters: a new owner takes set-id bits away, a mode goes by what an access list says, and each of these changes a time.
            try giveOwner(of: status, to: descriptor)
            try vault.copyAttributes(from: source, to: descriptor, mode: status.st_mode, owner: header.fileID)
            try system { () throws(Errno) in
                try disk.setMode(descriptor, status.st_mode & 0o7777)
                try disk.setTimes(descriptor, access: status.st_atim, modification: status.st_mtim)
            }
            return (descriptor, new)
        } catch {
            disk.close(descriptor)
            discard(name, in: directory)
            throw error
        }
    }

    // MARK: Files of several names

    /// Each is made once, and then given all its names one after the other. Which they are is written down before, so that a mount that comes in between can finish that
    /// before anybody writes to one of them and not to the others.
    func turnGroups() throws(VaultError) {
        for places in groups.values {
            guard let first = places.first else { continue }
            try attempt(first) { () throws(VaultError) in try turnGroup(places) }
        }
    }

    private func turnGroup(_ places: [TreePlace]) throws(VaultError) {
        guard let first = places.first else { return }
        // What an attempt that failed has left.
        try pending.settle()
        let paths = places.map { $0.storedNames }
        let record = try pending.withParent(of: first.storedNames) {
            (parent, name) throws(VaultError) -> RotationRecord? in
            let status = try system { () throws(Errno) in try disk.status(at: parent, name.cString) }
            // Names that were not found are outside the vault, or are among what could not be looked at: then those here wait for them.
            guard places.count >= Int(status.st_nlink) || totals.problems == 0 else { return nil }
            if status.st_mode & S_IFMT == S_IFLNK {
                try makeTwin(ofLinkIn: parent, name, status)
                return RotationRecord.links(inode: UInt64(status.st_ino), paths: paths)
            }
            return .names(header: try makeTwin(ofFileIn: parent, name), paths: paths)
        }
        guard let record else { return }
        try pending.write(record)
        try pending.settle()
        tell { $0.files += 1 }
    }

    private func makeTwin(ofLinkIn parent: Int32, _ name: StoredName, _ status: stat) throws(VaultError) {
        let object = try system { () throws(Errno) in
            try disk.open(at: parent, name.cString, flags: Disk.pathOnly | O_NOFOLLOW)
        }
        defer { disk.close(object) }
        try pending.withDirectory { directory throws(VaultError) in
            try makeTwin(ofLink: object, name, status, in: parent, RotationDirectory.file, in: directory)
        }
    }

    /// Returns the file's header.
    private func makeTwin(ofFileIn parent: Int32, _ name: StoredName) throws(VaultError) -> [UInt8] {
        let source = try open(name, in: parent)
        defer { disk.close(source) }
        let status = try system { () throws(Errno) in try disk.status(source) }
        let header = try self.header(of: source)
        try pending.withDirectory { directory throws(VaultError) in
            let (descriptor, newHeader) = try makeTwin(
                of: source, status, header, RotationDirectory.file, in: directory)
            defer { disk.close(descriptor) }
            try system { () throws(Errno) in try disk.sync(descriptor) }
            try verify(descriptor, storedSize: Int(status.st_size), newHeader)
        }
        return header.bytes
    }
}
