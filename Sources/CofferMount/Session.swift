import CFuse
import CLinux
import CofferCrypto
import CofferSeal
import CofferVault
import Glibc
import Logging
import Synchronization

/// A libfuse session over a vault, with its own threads.
public final class Session: @unchecked Sendable {
    private let fileSystem: FileSystem
    private let options: MountOptions
    private let log: MountLog
    private let intents: LogDirectory?
    private let leadership: Leadership
    private let maintenance: Maintenance
    private let companion: Companion?
    private let session: OpaquePointer
    private let operations: UnsafeMutablePointer<fuse_lowlevel_ops>
    /// Told once, when the kernel has agreed on the connection.
    private let onReady = Mutex<(@Sendable () -> Void)?>(nil)
    private let isEnding = Atomic<Bool>(false)

    // The session whose INIT is being answered: libfuse gives that callback nothing but the user data, and one process mounts once.
    private static let starting = Mutex<Session?>(nil)

    /// Mounts. From here on the mount exists, and answers once `run` is called. libfuse says on standard error why the kernel refuses. `intents` is where the vault's
    /// log is; it is removed at the end. With `sealed`, only what was sealed can be read.
    public init(
        vault: Vault, intents: LogDirectory?, options: MountOptions, sealed: SealGuard? = nil, logger: Logger,
        descriptorLimit: Int
    ) throws(MountError) {
        self.intents = intents
        log = MountLog(logger)
        self.options = options
        do throws(VaultError) {
            fileSystem = try FileSystem(
                vault: vault, options: options, sealed: sealed, log: log, descriptorLimit: descriptorLimit)
        } catch {
            throw .vault("\(error)")
        }
        leadership = try Leadership(
            threadCount: options.threadCount, processorCount: Self.processorCount,
            looksForRequests: !options.sparesProcessors)
        companion = !options.sparesProcessors && Companion.isOfUse ? try Companion() : nil
        maintenance = Maintenance(fileSystem: fileSystem, idleSeconds: options.idleSeconds) {
            _ = Unmounting.detach(options.mountpoint, lazily: false)
        }
        operations = .allocate(capacity: 1)
        operations.initialize(to: Operations.table())
        let words: [String] = ["coffer", "-o", options.fuseText]
        var arguments = words.map { strdup($0) }
        defer { for argument in arguments { free(argument) } }
        let userData = Unmanaged.passUnretained(fileSystem).toOpaque()
        let table = operations
        let made = arguments.withUnsafeMutableBufferPointer { buffer in
            var list = fuse_args(argc: Int32(buffer.count), argv: buffer.baseAddress, allocated: 0)
            let session = fuse_session_new(&list, table, MemoryLayout<fuse_lowlevel_ops>.size, userData)
            fuse_opt_free_args(&list)
            return session
        }
        guard let made else {
            operations.deallocate()
            throw .options
        }
        session = made
        fileSystem.session = made
        guard fuse_session_mount(session, options.mountpoint) == 0 else { throw .refused }
        let device = fuse_session_fd(session)
        var channel = Handshake.channel
        guard coffer_fcntl_int(device, F_SETFL, O_RDWR | O_NONBLOCK) == 0,
            fuse_session_custom_io(session, &channel, device) == 0
        else {
            fuse_session_unmount(session)
            throw .resources
        }
        leadership.attend(to: device) { [maintenance] in maintenance.wake() }
    }

    /// On how many processors the mount may run, which may be fewer than there are.
    private static var processorCount: Int {
        let allowed = Int(coffer_processor_count())
        return allowed > 0 ? allowed : sysconf(Int32(_SC_NPROCESSORS_ONLN))
    }

    deinit {
        fuse_session_destroy(session)
        operations.deallocate()
    }

    /// Serves requests until the mount is gone. `ready` is called once the mount answers. SIGTERM, SIGINT and SIGHUP unmount.
    ///
    /// To be called once, by the process's only thread: the signals are blocked in all threads, and one waits for them.
    public func run(ready: @escaping @Sendable () -> Void) throws(MountError) {
        onReady.withLock { $0 = ready }
        Self.starting.withLock { $0 = self }
        var signals = sigset_t()
        sigemptyset(&signals)
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGUSR1] { sigaddset(&signals, signal) }
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        signal(SIGPIPE, SIG_IGN)

        var threads: [ServiceThread] = []
        for number in 0..<options.threadCount {
            threads.append(try ServiceThread { [self] in serve(number) })
        }
        if let companion { _ = try ServiceThread { companion.run() } }
        let keeper = try ServiceThread { [maintenance] in maintenance.run() }
        let seekerThread = try ServiceThread { [self] in fileSystem.seeker.run(fileSystem) }
        let logKeeper = try intents.map { intents throws(MountError) in
            try ServiceThread { [self] in
                intents.log.keep { trouble in
                    if let trouble {
                        log.warning(
                            "the intent log cannot be emptied (\(trouble)): what it holds stays in it, and this is tried again"
                        )
                    } else {
                        log.notice("the intent log could be emptied again")
                    }
                }
            }
        }
        let awaited = signals
        let signalThread = try ServiceThread { [self] in waitForSignals(awaited) }
        for thread in threads { thread.join() }
        isEnding.store(true, ordering: .releasing)
        companion?.stop()
        fileSystem.seeker.stop()
        seekerThread.join()
        maintenance.stop()
        keeper.join()
        intents?.log.stop()
        logKeeper?.join()
        pthread_kill(signalThread.id, SIGUSR1)
        signalThread.join()
        finish()
    }

    /// What the kernel may no longer ask for.
    private func finish() {
        do throws(CryptoError) {
            let scratch = try Scratch()
            fileSystem.finishAll(scratch)
            fileSystem.settleAll(scratch)
            fileSystem.retryUndone()
        } catch {
            log.warning("no memory to finish; the next mount will")
        }
        do throws(VaultError) {
            try intents?.close()
        } catch {
            log.warning("the intent log could not be emptied (\(error)): the next mount will recover from it")
        }
        fuse_session_unmount(session)
    }

    private func serve(_ number: Int) {
        let worker: Worker
        do throws(CryptoError) {
            worker = try Worker(number: number, leadership: leadership)
        } catch {
            log.warning("no memory for a thread")
            return
        }
        worker.adopt()
        defer { withExtendedLifetime(worker) {} }
        var buffer = fuse_buf()
        var isWrite = false
        // Loaded once, so that no request counts references to them.
        let (session, fileSystem) = (session, fileSystem)
        let (handshake, writeOrder, companion) = (fileSystem.handshake, fileSystem.writeOrder, companion)
        leadership.serve(
            number,
            receive: {
                while fuse_session_exited(session) == 0 {
                    let got = fuse_session_receive_buf(session, &buffer)
                    if got == -EAGAIN { return .nothing }
                    if got == -EINTR { continue }
                    guard got > 0 else { break }
                    guard let request = RawRequest(buffer.mem, count: Int(got)) else { continue }
                    handshake.see(request)
                    companion?.see(request)
                    worker.takesSetID = request.takesSetID
                    isWrite = writeOrder.arrive(number, request)
                    return .request(request.size)
                }
                return .ended
            },
            process: {
                fileSystem.underWay.add(1, ordering: .relaxed)
                fuse_session_process_buf(session, &buffer)
                fileSystem.underWay.subtract(1, ordering: .relaxed)
                if isWrite { writeOrder.leave(number) }
            })
        free(buffer.mem)
        // One thread saw the end of the connection; the others hear of it.
        fuse_session_exit(session)
    }

    private func waitForSignals(_ signals: sigset_t) {
        var signals = signals
        while true {
            var signal: Int32 = 0
            guard sigwait(&signals, &signal) == 0 else { return }
            if isEnding.load(ordering: .acquiring) { return }
            // Only the end of the session sends this one.
            if signal == SIGUSR1 { continue }
            log.notice("signal \(signal): unmounting \(options.mountpoint)")
            if !Unmounting.detach(options.mountpoint, lazily: false) {
                // Programs still have files open: everything they wrote goes to the vault now, and the mount ends with the last of them.
                Unmounting.flush(options.mountpoint)
                log.warning("\(options.mountpoint) is busy: detached, ends when the last program closes its files")
                _ = Unmounting.detach(options.mountpoint, lazily: true)
            }
        }
    }

    /// Settles with the kernel what both can do.
    static func negotiate(_ connection: UnsafeMutablePointer<fuse_conn_info>?) {
        guard let connection, let session = starting.withLock({ $0 }) else { return }
        let wanted: [Int32] = [
            FUSE_CAP_WRITEBACK_CACHE, FUSE_CAP_POSIX_ACL, FUSE_CAP_DONT_MASK, FUSE_CAP_PARALLEL_DIROPS,
            FUSE_CAP_CACHE_SYMLINKS, FUSE_CAP_ATOMIC_O_TRUNC,
        ]
        let trusting: Set<Int32> = [FUSE_CAP_WRITEBACK_CACHE, FUSE_CAP_CACHE_SYMLINKS]
        for capability in wanted where session.fileSystem.keepsCache || !trusting.contains(capability) {
            if connection.pointee.capable & UInt32(capability) != 0 { connection.pointee.want |= UInt32(capability) }
        }
        if session.fileSystem.keepsCache {
            // Nobody else writes, so what the kernel holds stays true.
            connection.pointee.want &= ~UInt32(FUSE_CAP_AUTO_INVAL_DATA)
            let needsNoOpening = connection.pointee.capable & UInt32(FUSE_CAP_NO_OPENDIR_SUPPORT) != 0
            session.fileSystem.needsNoOpening.store(needsNoOpening, ordering: .relaxed)
        }
        // The kernel does not drop pages that a read brought in while an asynchronous direct write was under way, so direct writes are synchronous: a
        // buffered read after one must never return what was there before.
        connection.pointee.want &= ~UInt32(FUSE_CAP_ASYNC_DIO)
        // Set-id bits and capabilities are taken away by the kernel, which knows who writes.
        connection.pointee.want &= ~UInt32(FUSE_CAP_HANDLE_KILLPRIV)
        connection.pointee.time_gran = 1
        connection.pointee.max_background = 10
        connection.pointee.congestion_threshold = 8
        let ready = session.onReady.withLock { ready in
            defer { ready = nil }
            return ready
        }
        starting.withLock { $0 = nil }
        ready?()
    }
}
