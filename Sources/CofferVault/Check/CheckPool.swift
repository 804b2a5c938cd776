import CofferCrypto
import Glibc

/// Threads that look at files while one walks through the tree: the walk waits when they are far behind, so that no more descriptors are open than there is room for.
final class CheckPool: @unchecked Sendable {
    /// One file; its descriptor is whoever's takes the job.
    struct Job: Sendable {
        let descriptor: Int32
        let place: TreePlace
    }

    private static let waitingLimit = 64

    // At addresses that stay, as the system wants them.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    // Guarded by `mutex`.
    private var jobs: [Job] = []
    private var isEnding = false
    private var threads: WorkerThreads?
    private let work: @Sendable (Job, Scratch) -> Void

    /// Starts as many threads as there are processors, or as are given.
    init(threadCount: Int, _ work: @escaping @Sendable (Job, Scratch) -> Void) throws(CryptoError) {
        self.work = work
        // Before any thread waits for work that would never come.
        var rooms: [Scratch] = []
        for _ in 0..<threadCount { rooms.append(try Scratch()) }
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
        threads = WorkerThreads(rooms.map { scratch in { [unowned self] in serve(scratch) } })
        guard threads != nil else { throw .outOfMemory }
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// Hands a job over, once there is room.
    func add(_ job: Job) {
        pthread_mutex_lock(mutex)
        while jobs.count >= Self.waitingLimit { pthread_cond_wait(changed, mutex) }
        jobs.append(job)
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
    }

    /// Waits until everything is done. Nothing may be added after.
    func finish() {
        pthread_mutex_lock(mutex)
        isEnding = true
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
        threads?.join()
    }

    private func serve(_ scratch: Scratch) {
        while true {
            pthread_mutex_lock(mutex)
            while jobs.isEmpty && !isEnding { pthread_cond_wait(changed, mutex) }
            guard !jobs.isEmpty else {
                pthread_mutex_unlock(mutex)
                return
            }
            let job = jobs.removeFirst()
            pthread_cond_broadcast(changed)
            pthread_mutex_unlock(mutex)
            work(job, scratch)
        }
    }
}
