import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// The intent log: what is about to be changed in place is written here first, and made durable, so that a power cut tears nothing.
///
/// Two segments take turns. Whoever writes appends a record to the active one (`append`), waits until it is durable (`commit`; many wait for one
/// sync), changes the file, and says so (`end`). When a segment is full, or grows old, the other one becomes active; once everybody who appended to
/// the full one has ended, one sync of the whole file system makes their files durable, and the segment is empty again.
///
/// Locks: `mutex` guards all that changes, and is a leaf but for the system calls on the segments. `places` is held while a file's place is looked up and
/// written, and by whoever changes places; it is taken before `mutex`, and after a file's block ranges. Who holds a ticket does not append before it has
/// ended, for appending may wait for every ticket of the other segment.
public final class IntentLog: @unchecked Sendable {
    /// Where a record is: what keeps its segment until ``end(_:)``.
    public struct Ticket: Sendable {
        let segment: Int
        /// Which contents of the segment: its order.
        let order: UInt64
        let end: Int
    }

    struct Segment {
        let descriptor: Int32
        /// Counts how often any segment was begun; the number of this one's present contents.
        var order: UInt64 = 0
        var generation: [UInt8] = [] {
            didSet { generationBytes = SIMD16(generation) }
        }
        /// The same, as what is copied without counting references.
        private(set) var generationBytes = SIMD16<UInt8>()
        /// When it was begun, in seconds since 1970.
        var begun: Int64 = 0
        /// What the file has room for without growing.
        var allocated = 0
        var written = 0
        var durable = 0
        /// Those who appended and have not ended.
        var users = 0
        var files: UInt32 = 0
        var isEmpty = true
        var isSyncing = false
        /// A sync failed, after which another one proves nothing. No more is appended.
        var failure: Errno?
    }

    /// What a segment has room for at least, so that every request fits into an empty one whatever the disk has left.
    static let leastCapacity = 5 << 18
    /// By how much segments grow, where the disk has many times as much left.
    static let step = 1 << 20

    let disk: Disk
    let ring: KeyRing
    /// What records are authenticated with.
    let recordKey: SecretKey
    let rootDescriptor: Int32
    private let capacity: Int
    /// The segments' files.
    let descriptors: [Int32]
    /// What is kept in memory of what is pending.
    let kept = KeptImages()
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    /// What the keeper waits for.
    private let keeperCondition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let places = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

    // Guarded by `mutex`.

    /// Where records are put together.
    let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 48 << 10, alignment: 16)
    var segments: [Segment]
    var active = 0
    var lastOrder: UInt64
    var isEmptying = false
    /// Nobody gets a ticket: what the log says is being stored once more.
    var isClosed = false
    /// A sync failed, so what the files hold may be in memory only.
    var mustRewrite = false
    /// How many wait, without the keeper.
    private var waiting = 0
    /// A thread sees to emptying.
    var hasKeeper = false
    var isStopping = false
    /// Files that a segment speaks of.
    var files: [LoggedFile.Key: LoggedFile] = [:]
    /// Files that do not hold yet what the log has for them.
    var pendingFiles: [LoggedFile.Key: LoggedFile] = [:]
    /// Bytes that were added to those since they were looked after last.
    var pendingBytes = 0

    /// A log in two files that are open for reading and writing, and hold nothing; they are closed with it, also where this
    /// throws. `rootDescriptor` is the vault's root, the caller's. `capacity` is what each may hold, in bytes. `order` is the highest that a segment ever had.
    public init(
        disk: Disk, ring: KeyRing, rootDescriptor: Int32, descriptors: [Int32], capacity: Int, order: UInt64
    ) throws(VaultError) {
        precondition(descriptors.count == 2)
        self.disk = disk
        self.ring = ring
        recordKey = ring.newestSubkey(.log)
        self.rootDescriptor = rootDescriptor
        self.capacity = capacity
        self.descriptors = descriptors
        lastOrder = order
        segments = descriptors.map { Segment(descriptor: $0) }
        condition.initialize(to: pthread_cond_t())
        places.initialize(to: pthread_mutex_t())
        BriefMutex.initialize(mutex)
        pthread_cond_init(condition, nil)
        TimedCondition.initialize(keeperCondition)
        var attributes = pthread_mutexattr_t()
        pthread_mutexattr_init(&attributes)
        pthread_mutexattr_settype(&attributes, Int32(PTHREAD_MUTEX_RECURSIVE))
        pthread_mutex_init(places, &attributes)
        pthread_mutexattr_destroy(&attributes)
        for index in 0..<2 { try prepare(index) }
        try begin(0)
    }

    deinit {
        for segment in segments { disk.close(segment.descriptor) }
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(condition)
        pthread_cond_destroy(keeperCondition)
        pthread_mutex_destroy(places)
        mutex.deallocate()
        condition.deallocate()
        keeperCondition.deallocate()
        places.deallocate()
        room.deallocate()
    }

    // MARK: Segments. The caller holds the mutex, or nobody else has the log yet.

    /// Gives a segment its least room, durably.
    private func prepare(_ index: Int) throws(VaultError) {
        let descriptor = segments[index].descriptor
        let wanted = min(capacity, Self.leastCapacity)
        segments[index].allocated = try system { () throws(Errno) in
            let size = Int(try disk.status(descriptor).st_size)
            if size < wanted { try fill(descriptor, from: size, to: wanted) }
            try disk.sync(descriptor)
            return min(max(size, wanted), capacity)
        }
    }

    /// Written zeros, and not room that is merely set aside: then a sync of what is written there later changes no metadata.
    private func fill(_ descriptor: Int32, from start: Int, to end: Int) throws(Errno) {
        let zeros = [UInt8](repeating: 0, count: min(Self.step, end - start))
        for offset in stride(from: start, to: end, by: zeros.count) {
            try disk.write(descriptor, bytes: Array(zeros[..<min(zeros.count, end - offset)]), at: offset)
        }
    }

    /// Begins a segment anew, durably.
    func begin(_ index: Int) throws(VaultError) {
        lastOrder += 1
        let descriptor = segments[index].descriptor
        let header = LogSegment.Header(
            order: lastOrder, generation: Random.bytes(16),
            place: try Self.place(of: descriptor, rootDescriptor, disk), epoch: ring.newest)
        try system { () throws(Errno) in
            try disk.write(descriptor, bytes: LogSegment.encode(header, ring: ring))
            try disk.sync(descriptor, dataOnly: true)
        }
        segments[index].order = header.order
        segments[index].generation = header.generation
        segments[index].begun = Int64(time(nil))
        segments[index].written = LogSegment.headerCount
        segments[index].durable = LogSegment.headerCount
        segments[index].files = 0
        segments[index].isEmpty = false
        segments[index].failure = nil
    }

    /// What stands for a segment's place.
    static func place(of descriptor: Int32, _ rootDescriptor: Int32, _ disk: Disk) throws(VaultError) -> [UInt8] {
        try system { () throws(Errno) in
            let made = try disk.birthTime(at: descriptor, "")
            let hasNumbers = disk.keepsInodeNumbers(descriptor)
            return LogSegment.place(
                root: hasNumbers ? UInt64(try disk.status(rootDescriptor).st_ino) : 0,
                segment: hasNumbers ? UInt64(try disk.status(descriptor).st_ino) : 0,
                made: made.isExact ? (UInt64(max(0, made.time.tv_sec)), UInt64(made.time.tv_nsec)) : (0, 0))
        }
    }

    /// Makes room for `count` more bytes in the active segment; false where it is full, or the disk is.
    func extend(by count: Int) -> Bool {
        let needed = segments[active].written + count
        if needed <= segments[active].allocated { return true }
        guard needed <= capacity else { return false }
        let target = min(capacity, (needed + Self.step - 1) / Self.step * Self.step)
        do throws(Errno) {
            // The last room is not for the log: without more it only changes segments more often.
            let status = try disk.fileSystemStatus(rootDescriptor)
            guard status.f_bavail * status.f_frsize >= Self.step * 32 else { return false }
            try fill(segments[active].descriptor, from: segments[active].allocated, to: target)
            segments[active].allocated = target
            return true
        } catch {
            // What it has is used up to its end, and then the other one's.
            return false
        }
    }

    // MARK: Locks

    func lock() { pthread_mutex_lock(mutex) }
    func unlock() { pthread_mutex_unlock(mutex) }
    func lockPlaces() { pthread_mutex_lock(places) }
    func unlockPlaces() { pthread_mutex_unlock(places) }
    /// Something changed that others may wait for, the keeper among them.
    func signal() {
        signalWaiting()
        pthread_cond_signal(keeperCondition)
    }
    /// As above, but nothing that the keeper sees to: it would only get in the way.
    func signalWaiting() {
        if waiting > 0 { pthread_cond_broadcast(condition) }
    }
    /// Until something changes.
    func wait() {
        waiting += 1
        pthread_cond_wait(condition, mutex)
        waiting -= 1
    }

    /// The keeper: until there is something for it, or for a while, if one is given.
    func wait(milliseconds: Int?) {
        guard let milliseconds else {
            pthread_cond_wait(keeperCondition, mutex)
            return
        }
        var until = TimedCondition.time(afterMilliseconds: milliseconds)
        pthread_cond_timedwait(keeperCondition, mutex, &until)
    }

    /// The active segment has its first record, which the keeper is to see to in time.
    func noteBegun() {
        segments[active].begun = Int64(time(nil))
        pthread_cond_signal(keeperCondition)
    }
}
