import CLinux
import CofferCrypto
import CofferVault
import Glibc

/// What one serving thread owns: room for block work and for replies. Reached from the C callbacks by the thread itself.
final class Worker {
    /// Bytes that the largest reply may have: a 1 MiB read, or a directory listing.
    static let replyCount = 1 << 20 + 1 << 16

    let scratch: Scratch
    private let lentScratch: Unmanaged<Scratch>
    let reply: UnsafeMutableRawPointer
    /// The thread's number among those that serve.
    let number: Int
    /// Whoever sent the present request may not keep set-id bits on what it changes.
    var takesSetID = false

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        pthread_key_create(&key, nil)
        return key
    }()

    private let leadership: Leadership

    init(number: Int, leadership: Leadership) throws(CryptoError) {
        self.number = number
        self.leadership = leadership
        scratch = try Scratch()
        lentScratch = Unmanaged.passUnretained(scratch)
        reply = .allocate(byteCount: Self.replyCount, alignment: 4096)
    }

    deinit {
        wipe(reply, count: Self.replyCount)
        reply.deallocate()
    }

    /// Makes this the calling thread's worker, for as long as the caller keeps it. The thread gets its own umask, so that files are made with
    /// their caller's.
    func adopt() {
        pthread_setspecific(Self.key, Unmanaged.passUnretained(self).toOpaque())
        _ = coffer_unshare_fs()
    }

    /// The present request is about to wait for a disk, or for others.
    func expectWait() { leadership.expectWait(number) }

    /// The calling thread is about to answer a request, if it is one that does.
    @inline(__always)
    static func endWait() {
        guard let pointer = pthread_getspecific(key) else { return }
        Unmanaged<Worker>.fromOpaque(pointer)._withUnsafeGuaranteedRef { $0.leadership.endWait($0.number) }
    }

    /// Lends the calling thread's worker and its room, without counting references.
    @inline(__always)
    static func withCurrent(_ body: (Worker, Scratch) throws(VaultError) -> Void) throws(VaultError) {
        guard let pointer = pthread_getspecific(key) else { preconditionFailure("a request on a foreign thread") }
        try Unmanaged<Worker>.fromOpaque(pointer).lend { worker throws(VaultError) in
            try worker.lentScratch.lend { scratch throws(VaultError) in
                try body(worker, scratch)
            }
        }
    }

    /// The calling thread's worker.
    @inline(__always)
    static var current: Worker {
        guard let pointer = pthread_getspecific(key) else { preconditionFailure("a request on a foreign thread") }
        return Unmanaged<Worker>.fromOpaque(pointer).takeUnretainedValue()
    }
}
