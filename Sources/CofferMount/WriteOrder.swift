import Glibc

/// The order in which the kernel hands over what is written.
///
/// With write-back, it sends one file's data in order and as several requests at once, and the threads that read them overtake each other. A write that
/// overtook its predecessor at the file's end would leave a hole before it, which the predecessor then has to fill: slowly, and where there is an intent log, by
/// way of that. So whoever is about to leave a hole waits for those who were read before, and nobody else.
///
/// A thread may have read a request and not yet said so. The kernel numbers requests as it hands them out, so that a number that is missing tells of that; it
/// is waited for only shortly, for there are numbers that never arrive (requests that were taken back). Who does not wait long enough leaves a hole, which is slow and no mistake.
final class WriteOrder: @unchecked Sendable {
    /// A write that was read and is not done. A node of 0 is none.
    struct Arrival {
        var node: UInt64 = 0
        var offset = 0
        /// The kernel's number for it: these go up in the order in which requests are read.
        var number: UInt64 = 0
        var isWaiting = false
    }

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    /// One for each thread, so that nobody wakes who must wait on.
    private let conditions: UnsafeMutablePointer<pthread_cond_t>
    // Guarded by `mutex`: an entry for each thread.
    private var arrivals: [Arrival]
    /// The requests that were read last, by their numbers.
    private var read: [UInt64]

    private static let remembered = 256
    /// By how much the kernel's numbers go up.
    private static let step: UInt64 = 2
    /// How often, and for how many microseconds, a number that is missing is waited for.
    private let patience: Int
    private static let pause: UInt32 = 20

    /// For threads 0 to `threadCount` - 1.
    init(threadCount: Int, patience: Int = 10) {
        self.patience = patience
        arrivals = Array(repeating: Arrival(), count: threadCount)
        read = Array(repeating: 0, count: Self.remembered)
        conditions = .allocate(capacity: threadCount)
        conditions.initialize(repeating: pthread_cond_t(), count: threadCount)
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        for thread in 0..<threadCount { pthread_cond_init(conditions + thread, nil) }
    }

    deinit {
        for thread in arrivals.indices { pthread_cond_destroy(conditions + thread) }
        pthread_mutex_destroy(mutex)
        conditions.deallocate()
        mutex.deallocate()
    }

    /// To be called with a request as it came, and before anything else is done with it. Whether it is a write.
    func arrive(_ thread: Int, _ request: RawRequest) -> Bool {
        let offset = request.writeOffset
        arrive(
            thread, number: request.header.unique, writingTo: offset == nil ? 0 : request.header.nodeid,
            at: offset ?? 0)
        return offset != nil
    }

    /// As above, of a request with the kernel's `number`, where it is a write to `node` at `offset`; 0 for none.
    func arrive(_ thread: Int, number: UInt64, writingTo node: UInt64 = 0, at offset: Int = 0) {
        pthread_mutex_lock(mutex)
        read[Self.slot(number)] = number
        if node != 0 { arrivals[thread] = Arrival(node: node, offset: offset, number: number) }
        pthread_mutex_unlock(mutex)
    }

    private static func slot(_ number: UInt64) -> Int { Int(truncatingIfNeeded: number / step % UInt64(remembered)) }

    /// Returns once no write to the same file that was read before this thread's, and begins before it, is under way.
    /// `beforeWaiting` is called where it waits at all.
    func waitForEarlier(_ thread: Int, beforeWaiting: () -> Void = {}) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        let own = arrivals[thread]
        var attempts = 0
        while attempts < patience, isMissing(before: own.number) {
            attempts += 1
            pthread_mutex_unlock(mutex)
            usleep(Self.pause)
            pthread_mutex_lock(mutex)
        }
        if !isPreceded(own) { return }
        beforeWaiting()
        arrivals[thread].isWaiting = true
        while isPreceded(own) { pthread_cond_wait(conditions + thread, mutex) }
        arrivals[thread].isWaiting = false
    }

    /// Whether a request before `number` may have been read that has not arrived: each thread has one at most.
    private func isMissing(before number: UInt64) -> Bool {
        for distance in 1...UInt64(arrivals.count) where number > distance * Self.step {
            let earlier = number - distance * Self.step
            if read[Self.slot(earlier)] < earlier { return true }
        }
        return false
    }

    /// This thread's write is done, or will not be. May be called more than once.
    func leave(_ thread: Int) {
        pthread_mutex_lock(mutex)
        arrivals[thread].node = 0
        for other in arrivals.indices where arrivals[other].isWaiting && !isPreceded(arrivals[other]) {
            pthread_cond_signal(conditions + other)
        }
        pthread_mutex_unlock(mutex)
    }

    /// Numbers only go up, so the waiting never form a circle.
    private func isPreceded(_ own: Arrival) -> Bool {
        guard own.node != 0 else { return false }
        for other in arrivals
        where other.node == own.node && other.number < own.number && other.offset < own.offset {
            return true
        }
        return false
    }
}
