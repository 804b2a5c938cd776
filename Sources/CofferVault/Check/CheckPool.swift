import CofferCrypto
import CofferFormat
import Glibc

/// Threads that look at files while one walks through the tree: the walk waits when they are far behind, so that no more directories are open than there is room for.
final class CheckPool: @unchecked Sendable {
    /// One file.
    struct Job: Sendable {
        let directory: SharedDirectory
        let name: StoredName
        let place: TreePlace
    }

    /// What a thread does with a job; it calls what it is given before anything that takes long, so that others do what it has taken besides.
    typealias Work = @Sendable (Job, Scratch, _ handBack: () -> Void) -> Void

    private static let waitingLimit = 256
    /// Jobs that are handed over at once: waking a thread costs as much as looking at several small files.
    private static let batchCount = 16

    // At addresses that stay, as the system wants them.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    // Guarded by `mutex`.
    private var batches: [[Job]] = []
    private var isEnding = false
    private var threads: WorkerThreads?
    // The walk's own.
    private var batch: [Job] = []
    private let work: Work

    /// Starts as many threads as there are processors, or as are given.
    init(threadCount: Int, _ work: @escaping Work) throws(CryptoError) {
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
        batch.append(job)
        if batch.count >= Self.batchCount { flush() }
    }

    private func flush() {
        if batch.isEmpty { return }
        pthread_mutex_lock(mutex)
        while batches.count >= Self.waitingLimit / Self.batchCount { pthread_cond_wait(changed, mutex) }
        batches.append(batch)
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
        batch.removeAll(keepingCapacity: true)
    }

    /// Waits until everything is done. Nothing may be added after.
    func finish() {
        flush()
        pthread_mutex_lock(mutex)
        isEnding = true
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
        threads?.join()
    }

    private func serve(_ scratch: Scratch) {
        while true {
            pthread_mutex_lock(mutex)
            while batches.isEmpty && !isEnding { pthread_cond_wait(changed, mutex) }
            guard !batches.isEmpty else {
                pthread_mutex_unlock(mutex)
                return
            }
            let jobs = batches.removeFirst()
            pthread_cond_broadcast(changed)
            pthread_mutex_unlock(mutex)
            var next = 0
            while next < jobs.count {
                next += 1
                work(jobs[next - 1], scratch) {
                    guard next < jobs.count else { return }
                    let rest = Array(jobs[next...])
                    next = jobs.count
                    pthread_mutex_lock(mutex)
                    batches.insert(rest, at: 0)
                    pthread_cond_broadcast(changed)
                    pthread_mutex_unlock(mutex)
                }
            }
        }
    }
}
