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
    private var threads: [pthread_t] = []
    private let work: @Sendable (Job, Scratch) -> Void

    /// Starts as many threads as there are processors, or as are given.
    init(threadCount: Int, _ work: @escaping @Sendable (Job, Scratch) -> Void) throws(CryptoError) {
        self.work = work
        // Before any thread waits for work that would never come.
        var rooms: [Scratch] = []
        for _ in 0..<threadCount { rooms.append(try Scratch()) }
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
        for scratch in rooms {
            let start = Start(pool: self, scratch: scratch)
            var thread = pthread_t()
            let status = pthread_create(
                &thread, nil,
                { context in
                    guard let context else { return nil }
                    let start = Unmanaged<Start>.fromOpaque(context).takeRetainedValue()
                    start.pool.serve(start.scratch)
                    return nil
                }, Unmanaged.passRetained(start).toOpaque())
            if status == 0 {
                threads.append(thread)
            } else {
                Unmanaged.passUnretained(start).release()
            }
        }
        guard !threads.isEmpty else { throw .outOfMemory }
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    private final class Start {
        let pool: CheckPool
        let scratch: Scratch

        init(pool: CheckPool, scratch: Scratch) {
            self.pool = pool
            self.scratch = scratch
        }
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
        for thread in threads { pthread_join(thread, nil) }
        threads = []
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
