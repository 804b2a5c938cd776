import Glibc

/// Shared and exclusive locks on ranges of one file's blocks.
///
/// Contract: whoever reads stored blocks holds them shared, whoever writes them holds them exclusively. Whoever changes the file's size, its header or
/// which blocks are holes holds everything from the first block concerned (at the latest the old last block) to the end of time exclusively. So under a
/// lock that covers the last block, or any block before it, what is known of those blocks stays true. A thread holds at most one range of one file, and where it
/// needs two files (copying between them) it holds neither while it waits for the other. Waiters are not queued: ranges that do not meet never wait for each
/// other.
struct RangeLock: ~Copyable, @unchecked Sendable {
    /// The end of a range that reaches over all blocks that could ever be.
    static let endless = Int.max

    private struct Held {
        var first: Int
        var last: Int
        var isExclusive: Bool
    }

    /// Who has what, in memory of its own: no reference is counted for it.
    private struct State {
        var held: UnsafeMutablePointer<Held>
        var count = 0
        var capacity = 4
        var waiting = 0
    }

    // All are written through pointers: pthread types must not move.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let state = UnsafeMutablePointer<State>.allocate(capacity: 1)

    init() {
        condition.initialize(to: pthread_cond_t())
        BriefMutex.initialize(mutex)
        pthread_cond_init(condition, nil)
        state.initialize(to: State(held: .allocate(capacity: 4)))
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
        state.pointee.held.deallocate()
        state.deallocate()
    }

    /// Waits until no lock that excludes this one meets `first ... last`, and takes it.
    func lock(_ first: Int, _ last: Int, exclusive: Bool) {
        pthread_mutex_lock(mutex)
        while isBlocked(first, last, exclusive) {
            state.pointee.waiting += 1
            pthread_cond_wait(condition, mutex)
            state.pointee.waiting -= 1
        }
        if state.pointee.count == state.pointee.capacity { grow() }
        (state.pointee.held + state.pointee.count).initialize(
            to: Held(first: first, last: last, isExclusive: exclusive))
        state.pointee.count += 1
        pthread_mutex_unlock(mutex)
    }

    /// Gives back a lock taken with the same arguments.
    func unlock(_ first: Int, _ last: Int, exclusive: Bool) {
        pthread_mutex_lock(mutex)
        let held = state.pointee.held
        for index in 0..<state.pointee.count
        where held[index].first == first && held[index].last == last && held[index].isExclusive == exclusive {
            state.pointee.count -= 1
            held[index] = held[state.pointee.count]
            break
        }
        if state.pointee.waiting > 0 { pthread_cond_broadcast(condition) }
        pthread_mutex_unlock(mutex)
    }

    private func isBlocked(_ first: Int, _ last: Int, _ exclusive: Bool) -> Bool {
        for index in 0..<state.pointee.count {
            let other = state.pointee.held[index]
            if other.first <= last && first <= other.last && (exclusive || other.isExclusive) { return true }
        }
        return false
    }

    private func grow() {
        let (old, count) = (state.pointee.held, state.pointee.count)
        state.pointee.held = .allocate(capacity: 2 * count)
        state.pointee.held.moveInitialize(from: old, count: count)
        state.pointee.capacity = 2 * count
        old.deallocate()
    }
}
