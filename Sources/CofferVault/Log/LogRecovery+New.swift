import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Files that were made since the log began, and that no record speaks of: nothing of them has been promised.
extension LogRecovery {
    /// What was found so far.
    struct NewFiles {
        /// Ids of files that have plans of their own.
        let known: Set<[UInt8]>
        /// Directories that were looked through.
        var seen: Set<LoggedFile.Key> = []
    }

    /// Brings what is new at a place to rights: a file, or those of a directory and of what was made below it.
    mutating func settleNew(_ place: LogPlan.Making, _ found: inout NewFiles) throws(VaultError) {
        if place.path.isEmpty {
            return try settleNew(in: rootDescriptor, place.path, place.since, &found)
        }
        let directory: Int32?? = try withParent(of: place.path) { parent, name throws(Errno) -> Int32? in
            try isDirectory(name, parent)
                ? try disk.open(at: parent, name.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW) : nil
        }
        switch directory {
        case nil: return
        case .some(.some(let descriptor)):
            defer { disk.close(descriptor) }
            try settleNew(in: descriptor, place.path, place.since, &found)
        case .some(.none):
            guard let descriptor = try openFile(place.path) else { return }
            try settleNewFile(descriptor, place.path, found)
        }
    }

    private func isDirectory(_ name: StoredName, _ parent: Int32) throws(Errno) -> Bool {
        try disk.status(at: parent, name.cString).st_mode & S_IFMT == S_IFDIR
    }

    private mutating func settleNew(
        in directory: Int32, _ path: [StoredName], _ since: Int64, _ found: inout NewFiles
    ) throws(VaultError) {
        let status = try system { () throws(Errno) in try disk.status(directory) }
        let key = LoggedFile.Key(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
        guard found.seen.insert(key).inserted else { return }
        // A descriptor of its own, which is read from the beginning.
        let listing = try system { () throws(Errno) in try disk.open(at: directory, ".", flags: O_RDONLY | O_DIRECTORY)
        }
        defer { disk.close(listing) }
        var entries: [StoredName] = []
        try RawDirectory(disk: disk, descriptor: listing).forEach { bytes, _ in
            switch NameCodec.kind(of: bytes) {
            case .short, .long: entries.append(StoredName(bytes))
            default: break
            }
            return true
        }
        for name in entries {
            do throws(VaultError) {
                try settleNewEntry(name, in: directory, path, since, &found)
            } catch {
                report.failed.append(Report.Failure(path: path + [name], error: error))
            }
        }
    }

    private mutating func settleNewEntry(
        _ name: StoredName, in directory: Int32, _ path: [StoredName], _ since: Int64, _ found: inout NewFiles
    ) throws(VaultError) {
        let kind = try system { () throws(Errno) -> mode_t? in
            let kind = try disk.status(at: directory, name.cString).st_mode & S_IFMT
            guard kind == S_IFREG || kind == S_IFDIR else { return nil }
            return try disk.birthTime(at: directory, name.cString).time.tv_sec >= Int(since) ? kind : nil
        }
        guard let kind else { return }
        if kind == S_IFREG {
            let descriptor = try system { () throws(Errno) in try openFile(name, in: directory) }
            return try settleNewFile(descriptor, path + [name], found)
        }
        let descriptor = try system { () throws(Errno) in
            try disk.open(at: directory, name.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        }
        defer { disk.close(descriptor) }
        try settleNew(in: descriptor, path + [name], since, &found)
    }

    /// The file behind the descriptor, which is closed, where it is new by its own id, or has nothing that would say what it is.
    private mutating func settleNewFile(
        _ descriptor: Int32, _ path: [StoredName], _ found: NewFiles
    ) throws(VaultError) {
        let raw: [UInt8]
        do throws(Errno) {
            raw = try disk.readBytes(descriptor, limit: FileHeader.byteCount)
        } catch {
            disk.close(descriptor)
            throw .system(error)
        }
        let isNothing = raw.allSatisfy { $0 == 0 }
        guard let header = isNothing ? newHeader() : parse(raw),
            isNothing || isNewHere(header), !found.known.contains(header.fileID)
        else { return disk.close(descriptor) }
        let plan = RecoveryPlan(header: header.bytes, path: path, isNew: true, trust: .own)
        try carryOut(plan, descriptor, header)
    }

    /// A header that says itself that the file is new: recovery may be cut short too.
    private func newHeader() -> FileHeader? {
        guard let newest = sources.last(where: { $0.trust == .own }) else { return nil }
        return FileHeader(
            cipher: cipher, epoch: ring.newest,
            fileID: LogSegment.newFileID(generation: newest.contents.header.generation, ring: ring))
    }

    private func isNewHere(_ header: FileHeader) -> Bool {
        sources.contains {
            $0.trust == .own && LogSegment.isNew(header.fileID, header: $0.contents.header, ring: ring)
        }
    }
}
