import CofferCrypto
import CofferVault
import Glibc

/// What must happen though no request asks for it: permissions taken back within a second, and the end of a mount that nobody uses.
///
/// It looks twice a second while there are requests, and sleeps while there are none: a vault that is only mounted does not wake the processor.
final class Maintenance: @unchecked Sendable {
    /// Milliseconds between two looks.
    private static let tick = 500
    /// Looks without a request after which it sleeps, and for how many milliseconds, if nobody wakes it.
    private static let quietTicks = 2
    private static let longSleep = 30_000

    private let fileSystem: FileSystem
    private let idleSeconds: Int?
    private let onIdle: @Sendable () -> Void
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    // Guarded by the mutex.
    private var isStopped = false
    /// There were requests after a pause, since the last look began.
    private var isWoken = false

    init(fileSystem: FileSystem, idleSeconds: Int?, onIdle: @escaping @Sendable () -> Void) {
        self.fileSystem = fileSystem
        self.idleSeconds = idleSeconds
        self.onIdle = onIdle
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        TimedCondition.initialize(condition)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Runs until `stop`.
    func run() {
        let scratch: Scratch
        do throws(CryptoError) {
            scratch = try Scratch()
        } catch {
            fileSystem.log.warning("no memory for upkeep")
            return
        }
        var seen = fileSystem.requests.load(ordering: .relaxed)
        var quiet = 0
        var unused = 0
        while sleep(quiet >= Self.quietTicks && idleSeconds == nil) {
            let isSettled = fileSystem.settleAll(scratch)
            let isDone = fileSystem.retryUndone()
            let now = fileSystem.requests.load(ordering: .relaxed)
            // What is under way may leave something to do, and so may the log's keeper.
            let isQuiet =
                now == seen && isSettled && isDone && fileSystem.underWay.load(ordering: .relaxed) == 0
                && fileSystem.vault.log?.isEmpty ?? true
            quiet = isQuiet ? quiet + 1 : 0
            unused = now == seen && fileSystem.handles.load(ordering: .relaxed) == 0 ? unused + 1 : 0
            seen = now
            if let idleSeconds, unused * Self.tick >= idleSeconds * 1000 {
                unused = 0
                onIdle()
            }
        }
    }

    /// False once it is stopped.
    private func sleep(_ isLong: Bool) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        // Woken since the last look began, it looks again soon, for what woke it may not be counted yet.
        let isLong = isLong && !isWoken
        isWoken = false
        var until = TimedCondition.time(afterMilliseconds: isLong ? Self.longSleep : Self.tick)
        while !isStopped, !(isLong && isWoken) {
            if pthread_cond_timedwait(condition, mutex, &until) != 0 { break }
        }
        return !isStopped
    }

    /// There are requests again.
    func wake() {
        pthread_mutex_lock(mutex)
        isWoken = true
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Ends `run`.
    func stop() {
        pthread_mutex_lock(mutex)
        isStopped = true
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }
}
