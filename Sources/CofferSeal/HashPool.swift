import CofferDisk
import CofferFormat
import CofferVault
import Glibc

/// A file that several threads read.
final class LargeFile: @unchecked Sendable {
    let descriptor: Int32
    let before: stat
    private let disk: Disk

    init(disk: Disk, descriptor: Int32, before: stat) {
        self.disk = disk
        self.descriptor = descriptor
        self.before = before
    }

    deinit { disk.close(descriptor) }
}

/// Something that a thread of a pool does.
final class HashJob: @unchecked Sendable {
    /// A file among several.
    struct File: Sendable {
        let name: [UInt8]
        let isContent: Bool
        /// What was sealed of it, where that is compared.
        let sealed: SealRecord?
    }

    enum Task: Sendable {
        /// Several small ones in a directory.
        case files(SharedDirectory, [File])
        /// A file as a whole, opened and closed by whoever does it.
        case file(SharedDirectory, [UInt8], isContent: Bool)
        /// Some parts of a large one.
        case parts(LargeFile, Range<Int>)
        /// Whether a large one verifies.
        case check(LargeFile)
    }

    enum Outcome: Sendable {
        case file(FileHashing.Result)
        /// Those of several that are not exactly as sealed, by their numbers, in order.
        case files([(number: Int, result: Result<FileHashing.Result, VaultError>)])
        /// Nil where it was shorter by then.
        case parts([UInt8]?)
        case checked(Bool)
        case failed(VaultError)
    }

    let task: Task
    // Guarded by the pool's mutex.
    fileprivate var outcome: Outcome?

    init(_ task: Task) { self.task = task }
}

/// Threads that hash files.
final class HashPool: @unchecked Sendable {
    private let disk: Disk
    private let comparison: SealComparison
    // At addresses that stay.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    // Guarded by `mutex`.
    private var waiting: [HashJob] = []
    private var next = 0
    private var isEnding = false
    private var threads: WorkerThreads?

    /// Starts a thread for each of `hashings`; throws where not one can be started.
    init(disk: Disk, comparing comparison: SealComparison, _ hashings: [FileHashing]) throws(VaultError) {
        self.disk = disk
        self.comparison = comparison
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
        threads = WorkerThreads(hashings.map { hashing in { [unowned self] in serve(hashing) } })
        guard threads != nil else { throw .system(.resourceTemporarilyUnavailable) }
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// Hands a job over.
    func add(_ job: HashJob) {
        pthread_mutex_lock(mutex)
        waiting.append(job)
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
    }

    /// What came of a job; nil while it is under way, unless `waits`.
    func outcome(of job: HashJob, waits: Bool) -> HashJob.Outcome? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while waits && job.outcome == nil { pthread_cond_wait(changed, mutex) }
        return job.outcome
    }

    /// Waits for the threads, which do what they have and no more.
    func finish() {
        pthread_mutex_lock(mutex)
        isEnding = true
        waiting = []
        next = 0
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
        threads?.join()
    }

    private func serve(_ hashing: FileHashing) {
        pthread_mutex_lock(mutex)
        while true {
            while next >= waiting.count && !isEnding { pthread_cond_wait(changed, mutex) }
            if isEnding { break }
            let job = waiting[next]
            next += 1
            if next == waiting.count {
                waiting.removeAll(keepingCapacity: true)
                next = 0
            } else if next >= 4096 {
                waiting.removeFirst(next)
                next = 0
            }
            pthread_mutex_unlock(mutex)
            let outcome = run(job.task, hashing)
            hashing.tell()
            pthread_mutex_lock(mutex)
            job.outcome = outcome
            pthread_cond_broadcast(changed)
        }
        pthread_mutex_unlock(mutex)
    }

    private func hash(
        _ name: [UInt8], in directory: SharedDirectory, isContent: Bool, limit: Int = .max, _ hashing: FileHashing
    ) throws(VaultError) -> FileHashing.Result {
        let descriptor = try FileHashing.open(disk: disk, name, in: directory.descriptor)
        defer { disk.close(descriptor) }
        return try hashing.hash(descriptor, isContent: isContent, limit: limit)
    }

    private func run(_ task: HashJob.Task, _ hashing: FileHashing) -> HashJob.Outcome {
        do throws(VaultError) {
            switch task {
            case .file(let directory, let name, let isContent):
                return .file(try hash(name, in: directory, isContent: isContent, hashing))
            case .files(let directory, let files):
                var others: [(number: Int, result: Result<FileHashing.Result, VaultError>)] = []
                for (number, file) in files.enumerated() {
                    let result: Result<FileHashing.Result, VaultError> = Result { () throws(VaultError) in
                        try hash(
                            file.name, in: directory, isContent: file.isContent,
                            limit: file.sealed == nil ? .max : comparison.sizeLimit, hashing)
                    }
                    if let sealed = file.sealed, case .success(let found) = result, comparison.holds(sealed, found) {
                        continue
                    }
                    others.append((number, result))
                }
                return .files(others)
            case .parts(let file, let range):
                return .parts(try hashing.parts(file.descriptor, range, size: file.before.st_size))
            case .check(let file):
                return .checked(try hashing.verifies(file.descriptor, file.before))
            }
        } catch {
            return .failed(error)
        }
    }
}
