import CLinux
import Glibc
import Synchronization

/// Large requests.
extension Leadership {
    /// For how many large requests after a short one the processor is left to short ones.
    private static let politeness = 8
    /// Nanoseconds.
    private static let longSlice: UInt64 = 20_000_000

    /// Makes another thread the leader, and has the calling one, which is, wait in the queue for large requests. False where there is no other. `shortCount` is how many
    /// others it has answered since it led.
    func giveLead(_ thread: Int, beside shortCount: Int) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        guard let next = parked.last, call(.leader) else { return false }
        politeCount = shortCount > 0 ? Self.politeness : max(0, politeCount - 1)
        // In the order in which requests are read: an earlier one never waits for its turn while a later one waits for it.
        if largeCount < largeLimit { largeCount += 1 } else { largeQueue.append(thread) }
        word.store(
            Self.word(leader: next, after: word.load(ordering: .relaxed)), ordering: .sequentiallyConsistent)
        return true
    }

    /// Answers a large request when it is its turn.
    func answerLarge(_ thread: Int, _ process: () -> Void) {
        pthread_mutex_lock(mutex)
        while largeQueue.contains(thread) { pthread_cond_wait(conditions + thread, mutex) }
        let isBesideShort = politeCount > 0
        pthread_mutex_unlock(mutex)
        // Who asks for a longer time at once waits longer for it, and makes room for whoever wakes up: short requests do not wait for long ones, and it costs these next to nothing.
        let isPolite = isBesideShort && coffer_set_slice(Self.longSlice) == 0
        process()
        if isPolite { _ = coffer_set_slice(0) }
        pthread_mutex_lock(mutex)
        if largeQueue.isEmpty {
            largeCount -= 1
        } else {
            pthread_cond_signal(conditions + largeQueue.removeFirst())
        }
        pthread_mutex_unlock(mutex)
    }
}
