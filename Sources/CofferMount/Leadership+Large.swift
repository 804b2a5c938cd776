import Glibc
import Synchronization

/// Large requests.
extension Leadership {
    /// Makes another thread the leader, and has the calling one, which is, wait in the queue for large requests. False where there is no other.
    func giveLead(_ thread: Int) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        guard let next = parked.last, call(.leader) else { return false }
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
        pthread_mutex_unlock(mutex)
        process()
        pthread_mutex_lock(mutex)
        if largeQueue.isEmpty {
            largeCount -= 1
        } else {
            pthread_cond_signal(conditions + largeQueue.removeFirst())
        }
        pthread_mutex_unlock(mutex)
    }
}
