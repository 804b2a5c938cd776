import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// The intent log: what is about to be changed in place is written here first, and made durable, so that a power cut tears nothing.
///
/// Two segments take turns. Whoever writes appends a record to the active one (`append`), waits until it is durable (`commit`; many wait for one
/// sync), changes the file, and says so (`end`). When a segment is full, or grows old, the other one becomes active; once everybody who appended to
/// the full one has ended, one sync of the whole file system makes their files durable, and the segment is empty again (``checkpoint()``).
///
/// Locks: `mutex` guards all that changes, and is a leaf but for the system calls on the segments. `places` is held while a file's place is looked up and
/// written, and by whoever changes places; it is taken before `mutex`, and after a file's block ranges.
public final class IntentLog: @unchecked Sendable {
    /// The names of the segments in `coffer.log`.
    public static let segmentNames = [StoredName("0"), StoredName("1")]

    /// Where a record is: what `commit` and `end` are told.
    struct Ticket {
        fileprivate let segment: Int
        fileprivate let end: Int
    }

    private struct Segment {
        let descriptor: Int32
        /// Counts how often any segment was begun; the number of this one's present contents.
        var order: UInt64 = 0
        var generation: [UInt8] = []
        var written = 0
        var durable = 0
        /// Those who appended and have not ended.
        var users = 0
        var files: UInt32 = 0
        var isEmpty = true
        var isSyncing = false
    }

    private let disk: Disk
    private let ring: KeyRing
    private let rootDescriptor: Int32
    private let capacity: Int
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let places = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var segments: [Segment]
    private var active = 0
    private var isCheckpointing = false
    private var lastOrder: UInt64

    /// A log in two files that are open for reading and writing, and empty or fully recovered; they are closed with it. `rootDescriptor` is the vault's root,
    /// the caller's. `capacity` is what each may hold, in bytes. `order` is the highest that a segment ever had.
    public init(
        disk: Disk, ring: KeyRing, rootDescriptor: Int32, descriptors: [Int32], capacity: Int, order: UInt64
    ) throws(VaultError) {
        precondition(descriptors.count == 2)
        self.disk = disk
        self.ring = ring
        self.rootDescriptor = rootDescriptor
        self.capacity = capacity
        lastOrder = order
        segments = descriptors.map { Segment(descriptor: $0) }
        mutex.initialize(to: pthread_mutex_t())
        condition.initialize(to: pthread_cond_t())
        places.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
        pthread_mutex_init(places, nil)
        try begin(0)
    }

    deinit {
        for segment in segments { disk.close(segment.descriptor) }
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(places)
        mutex.deallocate()
        condition.deallocate()
        places.deallocate()
    }

    /// Begins a segment anew, durably. The caller holds the mutex, or nobody else has the log yet.
    private func begin(_ index: Int) throws(VaultError) {
        lastOrder += 1
        let descriptor = segments[index].descriptor
        let header = LogSegment.Header(
            order: lastOrder, generation: Random.bytes(16),
            place: try Self.place(of: descriptor, rootDescriptor, disk))
        try system { () throws(Errno) in
            try disk.write(descriptor, bytes: LogSegment.encode(header, ring: ring))
            try disk.sync(descriptor, dataOnly: true)
        }
        segments[index].order = header.order
        segments[index].generation = header.generation
        segments[index].written = LogSegment.headerCount
        segments[index].durable = LogSegment.headerCount
        segments[index].files = 0
        segments[index].isEmpty = false
    }

    /// What stands for a segment's place.
    static func place(of descriptor: Int32, _ rootDescriptor: Int32, _ disk: Disk) throws(VaultError) -> [UInt8] {
        try system { () throws(Errno) in
            LogSegment.place(
                fileSystem: UInt64(try disk.fileSystemStatus(rootDescriptor).f_fsid),
                root: UInt64(try disk.status(rootDescriptor).st_ino),
                segment: UInt64(try disk.status(descriptor).st_ino))
        }
    }

    // MARK: Writing

    /// Appends what is about to be done to `file`, whose header is `header`. The payload is the last record's. With `growingFrom`, blocks will be added beyond
    /// that ciphertext size without a record of theirs. From here until `end` the segment stays; nobody appends twice without an `end` between.
    func append(
        _ records: [LogRecord], payload: UnsafeRawBufferPointer? = nil, growingFrom: Int? = nil,
        for file: LoggedFile, header: [UInt8]
    ) throws(VaultError) -> Ticket {
        // A file that the segment does not know yet is introduced, and must not move meanwhile.
        lock(mutex)
        if file.number?.order != segments[active].order {
            unlock(mutex)
            lock(places)
            defer { unlock(places) }
            let path = file.place() ?? []
            lock(mutex)
            defer { unlock(mutex) }
            return try appendLocked(records, payload, growingFrom, file, header, path)
        }
        defer { unlock(mutex) }
        return try appendLocked(records, payload, growingFrom, file, header, nil)
    }

    private func appendLocked(
        _ records: [LogRecord], _ payload: UnsafeRawBufferPointer?, _ growingFrom: Int?, _ file: LoggedFile,
        _ header: [UInt8], _ path: [StoredName]?
    ) throws(VaultError) -> Ticket {
        var path = path
        while true {
            let segment = segments[active]
            let isKnown = file.number?.order == segment.order
            if !isKnown && path == nil {
                // Another became active meanwhile; the place is looked up again, in the right order of locks.
                unlock(mutex)
                lock(places)
                path = file.place() ?? []
                lock(mutex)
                unlock(places)
                continue
            }
            let number = isKnown ? file.number?.file ?? 0 : segment.files
            var all = isKnown ? [] : [LogRecord.file(header: header, path: path ?? [])]
            if let growingFrom, file.growsIn.load(ordering: .relaxed) != segment.order {
                all.append(.grow(from: growingFrom))
            }
            all += records
            var bytes: [UInt8] = []
            for (index, record) in all.enumerated() {
                bytes += LogSegment.encode(
                    record.encoded(file: number), payload: index == all.count - 1 ? payload : nil,
                    at: segment.written + bytes.count, generation: segment.generation, ring: ring)
            }
            let total = bytes.count + (payload?.count ?? 0)
            guard total <= capacity - LogSegment.headerCount else { throw .system(.fileTooLarge) }
            if segment.written + total > capacity {
                try makeRoomLocked()
                continue
            }
            try put(bytes, payload, at: segment.written)
            if !isKnown {
                file.number = (segment.order, number)
                segments[active].files += 1
            }
            if growingFrom != nil { file.growsIn.store(segment.order, ordering: .relaxed) }
            segments[active].written += total
            segments[active].users += 1
            return Ticket(segment: active, end: segments[active].written)
        }
    }

    private func put(_ bytes: [UInt8], _ payload: UnsafeRawBufferPointer?, at offset: Int) throws(VaultError) {
        let descriptor = segments[active].descriptor
        var failure: Errno?
        bytes.withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            do throws(Errno) {
                try disk.write(descriptor, base, count: buffer.count, at: offset)
                if let payload, let data = payload.baseAddress {
                    try disk.write(descriptor, data, count: payload.count, at: offset + buffer.count)
                }
            } catch {
                failure = error
            }
        }
        if let failure { throw .system(failure) }
    }

    /// Returns when a record is on the disk. Those who wait at the same time share one sync.
    func commit(_ ticket: Ticket) throws(VaultError) {
        lock(mutex)
        defer { unlock(mutex) }
        while segments[ticket.segment].durable < ticket.end {
            if segments[ticket.segment].isSyncing {
                pthread_cond_wait(condition, mutex)
                continue
            }
            segments[ticket.segment].isSyncing = true
            let target = segments[ticket.segment].written
            let descriptor = segments[ticket.segment].descriptor
            unlock(mutex)
            let outcome: Result<Void, Errno> = Result { () throws(Errno) in
                try disk.sync(descriptor, dataOnly: true)
            }
            lock(mutex)
            segments[ticket.segment].isSyncing = false
            pthread_cond_broadcast(condition)
            if case .failure(let error) = outcome { throw .system(error) }
            segments[ticket.segment].durable = max(segments[ticket.segment].durable, target)
        }
    }

    /// What the record said is done, or given up.
    func end(_ ticket: Ticket) {
        lock(mutex)
        segments[ticket.segment].users -= 1
        pthread_cond_broadcast(condition)
        unlock(mutex)
    }

    /// Says, durably, that a file will be new: before it is made.
    public func announceNew(_ file: LoggedFile, header: [UInt8]) throws(VaultError) {
        let ticket = try append([.new], for: file, header: header)
        defer { end(ticket) }
        file.newIn.store(order(of: ticket), ordering: .relaxed)
        try commit(ticket)
    }

    /// The next record of this file is to come with its header and its place.
    func forget(_ file: LoggedFile) {
        lock(mutex)
        defer { unlock(mutex) }
        file.number = nil
    }

    /// Keeps the active segment from ending, if it is `order`: for changes that a record of it covers. Nil where it is another by now.
    func hold(_ order: UInt64) -> Ticket? {
        if order == 0 { return nil }
        lock(mutex)
        defer { unlock(mutex) }
        guard segments[active].order == order else { return nil }
        segments[active].users += 1
        return Ticket(segment: active, end: 0)
    }

    /// The number of the segment that a ticket is for.
    func order(of ticket: Ticket) -> UInt64 {
        lock(mutex)
        defer { unlock(mutex) }
        return segments[ticket.segment].order
    }

    /// Runs what changes places, while no place is being written.
    public func changingPlaces<Result>(_ body: () throws(VaultError) -> Result) throws(VaultError) -> Result {
        lock(places)
        defer { unlock(places) }
        return try body()
    }

    // MARK: Emptying

    /// Makes everything that the log holds durable in the files, and empties it.
    public func checkpoint() throws(VaultError) {
        lock(mutex)
        defer { unlock(mutex) }
        try switchLocked(waitsForOthers: true)
    }

    /// Makes room for another record.
    private func makeRoomLocked() throws(VaultError) {
        try switchLocked(waitsForOthers: false)
    }

    /// The other segment becomes active and the present one is emptied. Where that is under way already, its end is awaited; with `waitsForOthers` it is done
    /// once more after, for what came meanwhile.
    private func switchLocked(waitsForOthers: Bool) throws(VaultError) {
        if isCheckpointing {
            while isCheckpointing { pthread_cond_wait(condition, mutex) }
            if !waitsForOthers { return }
        }
        isCheckpointing = true
        defer {
            isCheckpointing = false
            pthread_cond_broadcast(condition)
        }
        let old = active
        if segments[old].written == LogSegment.headerCount { return }
        // One that a failed checkpoint left is emptied first.
        if !segments[1 - old].isEmpty { try emptyLocked(1 - old) }
        try begin(1 - old)
        active = 1 - old
        try emptyLocked(old)
    }

    private func emptyLocked(_ index: Int) throws(VaultError) {
        while segments[index].users > 0 || segments[index].isSyncing { pthread_cond_wait(condition, mutex) }
        let descriptor = segments[index].descriptor
        unlock(mutex)
        let outcome: Result<Void, Errno> = Result { () throws(Errno) in
            try disk.syncFileSystem(rootDescriptor)
            try disk.write(descriptor, bytes: [UInt8](repeating: 0, count: LogSegment.headerCount))
            try disk.sync(descriptor, dataOnly: true)
        }
        lock(mutex)
        if case .failure(let error) = outcome { throw .system(error) }
        segments[index].isEmpty = true
    }

    private func lock(_ mutex: UnsafeMutablePointer<pthread_mutex_t>) { pthread_mutex_lock(mutex) }
    private func unlock(_ mutex: UnsafeMutablePointer<pthread_mutex_t>) { pthread_mutex_unlock(mutex) }
}
