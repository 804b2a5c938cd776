import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Where files are, which are new, and what moves.
extension IntentLog {
    /// A directory in which entries are to be made.
    public struct Directory {
        /// The segment that knows so already, of those that ``Making/order`` told; 0 for none.
        let known: UInt64
        /// Stored names from the vault's root; nil where it has no name any more.
        let path: () -> [StoredName]?

        /// A directory in which entries are to be made.
        public init(known: UInt64, path: @escaping () -> [StoredName]?) {
            self.known = known
            self.path = path
        }
    }

    /// The leave to make entries.
    public struct Making: Sendable {
        /// What keeps the segment: to be given back once the entries are made, and files among them have their first bytes.
        public let ticket: Ticket
        /// The segment that knows of the directories.
        public let order: UInt64
        let generation: [UInt8]
    }

    /// Says, durably, that files may come to be in these directories which nothing has been promised of: new ones, or others' new ones that are renamed or
    /// linked. Once for each directory and segment.
    public func making(in directories: [Directory]) throws(VaultError) -> Making {
        lock()
        defer { unlock() }
        while isClosed { wait() }
        if directories.allSatisfy({ $0.known == segments[active].order }), segments[active].failure == nil {
            segments[active].users += 1
            return making(Ticket(segment: active, order: segments[active].order, end: 0))
        }
        unlock()
        lockPlaces()
        defer { unlockPlaces() }
        let paths = directories.map { $0.path() }
        lock()
        let ticket = try appendLocked(nil) { segment in
            // Entries that are new by the older of the segments are meant too.
            let since = segments.filter { !$0.isEmpty }.map(\.begun).min() ?? segment.begun
            return zip(directories, paths).compactMap { directory, path in
                guard directory.known != segment.order, let path else { return nil }
                return (0, .making(since: min(since, Int64(time(nil))) - 1, path: path))
            }
        }
        guard let ticket else { throw .system(.invalidArgument) }
        unlock()
        defer { lock() }
        do throws(VaultError) {
            try commit(ticket)
        } catch {
            end(ticket)
            throw error
        }
        lock()
        defer { unlock() }
        return making(ticket)
    }

    private func making(_ ticket: Ticket) -> Making {
        let segment = segments[ticket.segment]
        return Making(ticket: ticket, order: segment.order, generation: segment.generation)
    }

    /// The header of a file that is made with such a leave.
    func newHeader(_ making: Making, cipher: CipherSuite) -> FileHeader {
        FileHeader(
            cipher: cipher, epoch: ring.newest,
            fileID: LogSegment.newFileID(generation: making.generation, ring: ring))
    }

    /// The file behind a status, in the log's terms. `place` tells where it is from now on.
    func file(_ status: stat, id: [UInt8], place: @escaping @Sendable () -> [StoredName]?) -> LoggedFile {
        let key = LoggedFile.Key(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
        lock()
        defer { unlock() }
        if let known = files[key], known.id == id {
            known.place = place
            return known
        }
        let file = LoggedFile(key: key, id: id, place: place)
        for (index, segment) in segments.enumerated() where !segment.isEmpty {
            let header = LogSegment.Header(
                order: segment.order, generation: segment.generation, place: [UInt8](repeating: 0, count: 16),
                epoch: ring.newest)
            guard LogSegment.isNew(id, header: header, ring: ring) else { continue }
            // It was written without the log, and that may go on only while its segment does.
            if index == active { file.newIn.store(segment.order, ordering: .relaxed) }
            file.hasUnloggedChanges.store(true, ordering: .relaxed)
            file.hasUnsyncedCuts.store(true, ordering: .relaxed)
        }
        return file
    }

    /// Whether the log speaks of an object, so that its moves must be announced.
    public func follows(_ status: stat) -> Bool {
        lock()
        defer { unlock() }
        guard let file = files[LoggedFile.Key(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))] else {
            return false
        }
        guard file.isVoid else { return true }
        // The next record of it is to come with its new place.
        file.number = nil
        return false
    }

    /// The next record of this file is to come with its header, and where it is.
    func introduceAnew(_ file: LoggedFile) {
        lock()
        file.number = nil
        unlock()
    }

    /// What the log knows an object as, if it does.
    public func known(_ status: stat) -> LoggedFile? {
        lock()
        defer { unlock() }
        return files[LoggedFile.Key(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))]
    }

    /// The log has nothing more to do with a file: it is gone. Another that has got its number by now is not meant.
    public func forget(_ file: LoggedFile?) {
        guard let file else { return }
        lock()
        defer { unlock() }
        if files[file.key] === file { files[file.key] = nil }
        file.lastOrder = 0
    }

    /// Runs what changes places, while no place is being written.
    public func changingPlaces<Result>(_ body: () throws(VaultError) -> Result) throws(VaultError) -> Result {
        lockPlaces()
        defer { unlockPlaces() }
        return try body()
    }

    /// Says that what is at the one path will be, or also be, at the other. Only within ``changingPlaces(_:)``, before it happens. What comes after in the log knows
    /// that the object may still be where it was; with `isDurable`, which matters where the log speaks of it already, so does recovery from now on.
    public func announceMove(from: [StoredName], to: [StoredName], isDurable: Bool) throws(VaultError) {
        lock()
        defer { unlock() }
        let isSilent = segments.allSatisfy { $0.isEmpty || $0.written == LogSegment.headerCount }
        guard let ticket = try appendLocked(nil, { _ in [(0, .moved(from: from, to: to))] }) else { return }
        unlock()
        defer { lock() }
        defer { end(ticket) }
        if isDurable && !isSilent { try commit(ticket) }
    }

    /// Where a file is from now on.
    func follow(_ file: LoggedFile, _ place: @escaping @Sendable () -> [StoredName]?) {
        lock()
        file.place = place
        unlock()
    }
}
