import CFuse
import Glibc
import Synchronization

/// What libfuse 3.14 does not tell the kernel when a connection begins, added to its answer.
///
/// HANDLE_KILLPRIV_V2: the driver takes set-id bits away from what is changed. Else the kernel asks for the attribute `security.capability` before each
/// write, for it must not believe that a file that has none will have none the next time: a round trip each.
final class Handshake: Sendable {
    /// What is to be added to the answer to INIT; 0 before that was asked, and after it was answered.
    private let missing = Atomic<UInt32>(0)

    /// A request was read.
    func see(_ request: RawRequest) {
        guard let capabilities = request.capabilities else { return }
        missing.store(capabilities & UInt32(FUSE_HANDLE_KILLPRIV_V2), ordering: .relaxed)
    }

    /// An answer is about to be written.
    @inline(__always)
    func complete(_ parts: UnsafeMutablePointer<iovec>?, _ count: Int32) {
        if missing.load(ordering: .relaxed) != 0 { add(parts, count) }
    }

    private func add(_ parts: UnsafeMutablePointer<iovec>?, _ count: Int32) {
        // The kernel asks nothing else before this is answered; an answer that is an error has no second part.
        let bits = missing.exchange(0, ordering: .relaxed)
        guard let parts, count >= 2, let body = parts[1].iov_base,
            parts[1].iov_len >= MemoryLayout<fuse_init_out>.offset(of: \.max_background) ?? Int.max
        else { return }
        body.assumingMemoryBound(to: fuse_init_out.self).pointee.flags |= bits
    }

    /// How libfuse is to reach the kernel, so that its answers come by here. Its user data is the ``FileSystem``.
    static var channel: fuse_custom_io {
        var channel = fuse_custom_io()
        channel.read = { descriptor, buffer, count, _ in Glibc.read(descriptor, buffer, count) }
        channel.writev = { descriptor, parts, count, userData in
            Worker.endWait()
            if let userData {
                Unmanaged<FileSystem>.fromOpaque(userData)._withUnsafeGuaranteedRef {
                    $0.handshake.complete(parts, count)
                }
            }
            return Glibc.writev(descriptor, parts, count)
        }
        return channel
    }
}
