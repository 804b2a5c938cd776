import Glibc

/// Shared and exclusive locks on ranges of one file's blocks.
///
/// Contract: whoever reads stored blocks holds them shared, whoever writes them holds them exclusively. Whoever changes the file's size, its header or
/// which blocks are holes holds everything from the first block concerned (at the latest the old last block) to the end of time exclusively. So under a
/// lock that covers the last block, or any block before it, what is known of those blocks stays true. A thread holds at most one range of one file, and where it
/// needs two files (copying between them) it holds neither while it waits for the other. Waiters are not queued: ranges that do not meet never wait for each
/// other.
final class RangeLock: @unchecked Sendable {
    /// The end of a range that reaches over all blocks that could ever be.
    static let endless = Int.max

    private struct Held {
        var first: Int
        var last: Int
        var isExclusive: Bool
    }

    // Both are written through pointers because pthread types must not move.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var held: [Held] = []
    private var waiting = 0

    init() {
        condition.initialize(to: pthread_cond_t())
        BriefMutex.initialize(mutex)
        pthread_cond_init(condition, nil)
        held.reserveCapacity(4)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Waits until no lock that excludes this one meets `first ... last`, and takes it.
    func lock(_ first: Int, _ last: Int, exclusive: Bool) {
        pthread_mutex_lock(mutex)
        while isBlocked(first, last, exclusive) {
            waiting += 1
            pthread_cond_wait(condition, mutex)
            waiting -= 1
        }
        held.append(Held(first: first, last: last, isExclusive: exclusive))
        pthread_mutex_unlock(mutex)
    }

    /// Gives back a lock taken with the same arguments.
    func unlock(_ first: Int, _ last: Int, exclusive: Bool) {
        pthread_mutex_lock(mutex)
        for index in held.indices
        where held[index].first == first && held[index].last == last && held[index].isExclusive == exclusive {
            held.swapAt(index, held.count - 1)
            held.removeLast()
            break
        }
        if waiting > 0 { pthread_cond_broadcast(condition) }
        pthread_mutex_unlock(mutex)
    }

    private func isBlocked(_ first: Int, _ last: Int, _ exclusive: Bool) -> Bool {
        for other in held where other.first <= last && first <= other.last && (exclusive || other.isExclusive) {
            return true
        }
        return false
    }
}
