import CFuse

/// A request as the kernel sent it: what libfuse does not pass on. Valid as long as the buffer that it is in.
struct RawRequest {
    private let bytes: UnsafeRawPointer
    private let count: Int
    let header: fuse_in_header

    /// Nil where there is not even a header.
    init?(_ bytes: UnsafeRawPointer?, count: Int) {
        guard let bytes, count >= MemoryLayout<fuse_in_header>.size else { return nil }
        self.bytes = bytes
        self.count = count
        header = bytes.loadUnaligned(as: fuse_in_header.self)
    }

    private func body<Body: BitwiseCopyable>(_ code: fuse_opcode, as type: Body.Type) -> Body? {
        let start = MemoryLayout<fuse_in_header>.size
        guard header.opcode == code.rawValue, count >= start + MemoryLayout<Body>.size else { return nil }
        return bytes.loadUnaligned(fromByteOffset: start, as: type)
    }

    /// Where a write begins; nil where this is none.
    var writeOffset: Int? {
        body(FUSE_WRITE, as: fuse_write_in.self).map { Int(truncatingIfNeeded: $0.offset) }
    }

    /// How much there is to do.
    var size: Size {
        switch fuse_opcode(header.opcode) {
        case FUSE_WRITE: Size(byteCount: count)
        case FUSE_READ: Size(byteCount: Int(body(FUSE_READ, as: fuse_read_in.self)?.size ?? 0))
        // They may take as long as a disk likes, which nobody is to wait for in turn.
        case FUSE_COPY_FILE_RANGE, FUSE_FALLOCATE: .medium
        default: .small
        }
    }

    /// How long it takes to answer a request.
    enum Size {
        /// Less than it takes to wake a thread.
        case small
        /// Longer, so that another thread is worth waking where there is more to do.
        case medium
        /// So long that others would notice.
        case large

        init(byteCount: Int) {
            self = byteCount >= 256 << 10 ? .large : byteCount >= 64 << 10 ? .medium : .small
        }
    }

    /// What the kernel can do, where it says so; nil where this is no INIT. Protocols before 7.36 have no second word of flags, so only the first is read.
    var capabilities: UInt32? {
        let start = MemoryLayout<fuse_in_header>.size
        guard header.opcode == FUSE_INIT.rawValue, count >= start + 16 else { return nil }
        return bytes.loadUnaligned(fromByteOffset: start + 12, as: UInt32.self)
    }

    /// The caller may not keep set-id bits on what it changes, and taking them away is left to the driver.
    var takesSetID: Bool {
        switch fuse_opcode(header.opcode) {
        case FUSE_WRITE:
            return body(FUSE_WRITE, as: fuse_write_in.self).map {
                $0.write_flags & UInt32(FUSE_WRITE_KILL_SUIDGID) != 0
            }
                ?? false
        case FUSE_SETATTR:
            return body(FUSE_SETATTR, as: fuse_setattr_in.self).map { $0.valid & UInt32(FATTR_KILL_SUIDGID) != 0 }
                ?? false
        default: return false
        }
    }
}
