import CLinux
import Glibc
import Synchronization

/// Which of the serving threads reads the next request.
///
/// Where many wait for requests, the kernel wakes one for each, and waking a thread takes longer than most requests do. So one thread, the leader, reads and
/// answers one request after the other, and looks for the next one for a moment before it sleeps. All others are parked, but for
/// - the watcher, which takes the lead where a request comes while the leader waits for something. The leader says so where it knows before
///   (``expectWait(_:)``), or the last requests showed it; else the watcher finds out within two milliseconds.
/// - helpers, which read too while there are more requests than one thread can answer, as long as there are processors,
/// - threads that answer large requests. Who reads one gives the lead away first, so that small requests do not wait for it; and no more of these are answered at a
///   time than there are processors, in the order in which they were read.
///
/// (The pattern is known as leader/followers: Schmidt et al., Pattern-Oriented Software Architecture 2, 2000.)
final class Leadership: @unchecked Sendable {
    /// What came of trying to read a request, which never waits.
    enum Received {
        case request(RawRequest.Size)
        case nothing
        /// There will be no more.
        case ended
    }

    enum Role { case leader, watcher, helper, none }

    /// Nanoseconds that a leader looks for the next request before it sleeps: at most, and where it has stopped and begins again.
    private static let longestSpin = 50_000
    private static let shortestSpin = 10_000
    /// So many requests that were there when one was done are a crowd.
    private static let crowd = 4
    /// One request of so many is looked at for whether it waits.
    private static let sample = 16
    /// Milliseconds after which a request is one that waits.
    static let tick: Int32 = 1

    // Set once, before anybody serves.
    private(set) var descriptor: Int32 = -1
    private(set) var onReturn: @Sendable () -> Void = {}
    private let helperLimit: Int
    let largeLimit: Int
    private let spinLimit: Int
    let tick: Int32
    let poll: Int32
    let alarm: Int32

    /// What the leader does: a number that goes up with each change, the leader, and in the lowest bit whether it is answering a request.
    let word = Atomic<UInt64>(0)
    let isEnded = Atomic<Bool>(false)
    let watcherSleeps = Atomic<Bool>(false)
    private let helpers = Atomic<Int>(0)
    /// Each thread's own: whether the watcher was told that its request waits.
    private let isArmed: UnsafeMutablePointer<Bool>
    private let threadCount: Int

    let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    let conditions: UnsafeMutablePointer<pthread_cond_t>
    // Guarded by `mutex`.
    private var hasLeader = false
    var hasWatcher = false
    var parked: [Int] = []
    var roles: [Role]
    /// How many large requests are being answered, and who waits for it to be fewer, in their order.
    var largeCount = 0
    var largeQueue: [Int] = []
    /// Of so many of the next large ones it is thought that somebody waits for short ones meanwhile.
    var politeCount = 0

    /// For threads 0 to `threadCount` - 1. Without `looksForRequests` the leader sleeps where there is none. A negative `tick` is none.
    init(
        threadCount: Int, processorCount: Int, looksForRequests: Bool = true, tick: Int32 = Leadership.tick
    ) throws(MountError) {
        precondition(threadCount > 0 && threadCount < 128)
        self.threadCount = threadCount
        self.tick = tick
        // A leader that looks for requests on the only processor keeps programs from making them.
        spinLimit = looksForRequests && processorCount > 1 ? Self.longestSpin : 0
        helperLimit = min(processorCount, threadCount) - 1
        largeLimit = max(1, processorCount)
        largeQueue.reserveCapacity(threadCount)
        roles = Array(repeating: .none, count: threadCount)
        parked.reserveCapacity(threadCount)
        isArmed = .allocate(capacity: threadCount)
        isArmed.initialize(repeating: false, count: threadCount)
        conditions = .allocate(capacity: threadCount)
        conditions.initialize(repeating: pthread_cond_t(), count: threadCount)
        for thread in 0..<threadCount { pthread_cond_init(conditions + thread, nil) }
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        poll = epoll_create1(Int32(EPOLL_CLOEXEC))
        alarm = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        var wake = epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t(fd: alarm))
        guard poll >= 0, alarm >= 0, epoll_ctl(poll, EPOLL_CTL_ADD, alarm, &wake) == 0 else { throw .resources }
    }

    /// Where requests come from: a descriptor that does not block. Before anybody serves. `onReturn` is called when there are requests again after there were
    /// none for a while, tenths of a second.
    func attend(to descriptor: Int32, onReturn: @escaping @Sendable () -> Void = {}) {
        self.descriptor = descriptor
        self.onReturn = onReturn
    }

    deinit {
        for thread in 0..<threadCount { pthread_cond_destroy(conditions + thread) }
        pthread_mutex_destroy(mutex)
        conditions.deallocate()
        mutex.deallocate()
        isArmed.deallocate()
        close(poll)
        close(alarm)
    }

    /// Serves, in turns with the other threads, until there are no more requests. `receive` reads one, where there is one; `process` answers it.
    func serve(_ thread: Int, receive: () -> Received, process: () -> Void) {
        while true {
            switch nextRole(thread) {
            case .leader: lead(thread, receive, process)
            case .watcher: watch(thread)
            case .helper: help(receive, process)
            case .none: return
            }
        }
    }

    /// The calling thread's request is about to wait for something: another thread is to answer those that come meanwhile.
    func expectWait(_ thread: Int) {
        if isArmed[thread] || Self.leader(word.load(ordering: .relaxed)) != thread { return }
        isArmed[thread] = true
        arm()
    }

    /// The calling thread is about to answer its request, after which whoever asked may ask again at once.
    func endWait(_ thread: Int) {
        guard isArmed[thread] else { return }
        isArmed[thread] = false
        if Self.leader(word.load(ordering: .relaxed)) == thread { disarm() }
    }

    // MARK: Roles

    /// Returns once there is something to do for a thread; `none` at the end.
    private func nextRole(_ thread: Int) -> Role {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        if isEnded.load(ordering: .acquiring) { return .none }
        if roles[thread] == .leader {
            roles[thread] = .none
            return .leader
        }
        if !hasLeader {
            hasLeader = true
            word.store(Self.word(leader: thread, after: word.load(ordering: .relaxed)), ordering: .releasing)
            return .leader
        }
        if !hasWatcher {
            hasWatcher = true
            return .watcher
        }
        parked.append(thread)
        while roles[thread] == .none, !isEnded.load(ordering: .acquiring) {
            pthread_cond_wait(conditions + thread, mutex)
        }
        defer { roles[thread] = .none }
        return isEnded.load(ordering: .acquiring) ? .none : roles[thread]
    }

    /// Gives the thread that was parked last, whose memory is the warmest, something to do. The caller holds the mutex.
    func call(_ role: Role) -> Bool {
        guard let thread = parked.popLast() else { return false }
        roles[thread] = role
        pthread_cond_signal(conditions + thread)
        return true
    }

    private func inviteHelper() {
        if helpers.load(ordering: .relaxed) >= helperLimit { return }
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        if helpers.load(ordering: .relaxed) < helperLimit, call(.helper) { helpers.add(1, ordering: .relaxed) }
    }

    private func end() {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        isEnded.store(true, ordering: .releasing)
        for thread in 0..<threadCount { pthread_cond_signal(conditions + thread) }
        ring()
    }

    // MARK: The leader

    /// What the leader goes by. Each lead begins anew.
    private struct Course {
        /// Nanoseconds to look for a request.
        var spin: Int
        /// Since when there is none; nil where there was one.
        var quietSince: Int?
        /// How many requests were there at once, without any pause.
        var immediate = 0
        var served = 0
        /// The last request that was looked at waited for something.
        var waits = false
    }

    private func lead(_ thread: Int, _ receive: () -> Received, _ process: () -> Void) {
        var course = Course(spin: spinLimit)
        while true {
            switch receive() {
            case .ended: return end()
            case .nothing: pause(&course)
            case .request(let size):
                if size == .large, giveLead(thread, beside: course.served) { return answerLarge(thread, process) }
                course.immediate = course.quietSince == nil ? course.immediate + 1 : 0
                course.quietSince = nil
                if size != .small || course.immediate >= Self.crowd { inviteHelper() }
                if !answer(thread, process, &course) { return }
            }
        }
    }

    /// There is no request: a moment to look again after, or, where that was long enough, sleep until there is one.
    private func pause(_ course: inout Course) {
        let now = Self.now()
        let since = course.quietSince ?? now
        course.quietSince = since
        if now - since < course.spin { return coffer_pause() }
        var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        _ = Glibc.poll(&request, 1, -1)
        // As long as looking for a little longer would have saved the sleep, it is worth while.
        if spinLimit > 0 {
            course.spin =
                Self.now() - now < spinLimit
                ? min(spinLimit, max(Self.shortestSpin, course.spin * 2)) : course.spin / 2
        }
    }

    /// Answers a request. False where another thread has taken the lead meanwhile.
    private func answer(_ thread: Int, _ process: () -> Void, _ course: inout Course) -> Bool {
        let before = word.load(ordering: .relaxed)
        let busy = (before & ~1) &+ Self.step | 1
        word.store(busy, ordering: .sequentiallyConsistent)
        if watcherSleeps.load(ordering: .sequentiallyConsistent) { ring() }
        if course.waits { expectWait(thread) }
        course.served += 1
        if course.served % Self.sample == 0 {
            let switches = Self.waitCount()
            process()
            course.waits = Self.waitCount() != switches
        } else {
            process()
        }
        endWait(thread)
        return word.compareExchange(
            expected: busy, desired: (busy & ~1) &+ Self.step, ordering: .acquiringAndReleasing
        ).exchanged
    }

    // MARK: Helpers

    private func help(_ receive: () -> Received, _ process: () -> Void) {
        defer { helpers.subtract(1, ordering: .relaxed) }
        while true {
            switch receive() {
            case .ended: return end()
            case .nothing: return
            case .request: process()
            }
        }
    }

    // MARK: Words and clocks

    private static let step: UInt64 = 1 << 8

    static func leader(_ word: UInt64) -> Int { Int(word >> 1 & 127) }

    /// Another leader's word, which never was before.
    static func word(leader: Int, after word: UInt64) -> UInt64 {
        (word >> 8 &+ 1) << 8 | UInt64(leader) << 1
    }

    private static func now() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }

    /// How often the calling thread has waited for something.
    private static func waitCount() -> Int {
        var usage = rusage()
        getrusage(COFFER_RUSAGE_THREAD, &usage)
        return usage.ru_nvcsw
    }
}
