import Glibc

/// Mutexes that are held for less time than it takes to put a thread to sleep and to wake it.
enum BriefMutex {
    /// Makes one where `mutex` points: whoever finds it held looks again for a moment before it sleeps.
    static func initialize(_ mutex: UnsafeMutablePointer<pthread_mutex_t>) {
        var attributes = pthread_mutexattr_t()
        pthread_mutexattr_init(&attributes)
        pthread_mutexattr_settype(&attributes, Int32(PTHREAD_MUTEX_ADAPTIVE_NP))
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, &attributes)
        pthread_mutexattr_destroy(&attributes)
    }
}
