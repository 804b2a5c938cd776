import CofferDisk
import Glibc
import SystemPackage

/// A disk on which one change fails, or on which no file can grow from a given moment on. One thread's.
final class FailingDisk: Disk, @unchecked Sendable {
    /// What fails.
    enum Fault: CustomStringConvertible {
        /// Change number `call` fails after `bytes` of it are done; what comes after it succeeds.
        case once(call: Int, bytes: Int)
        /// From change number `call` on the disk is full: what is stored can be rewritten, what would be new is not, and of a write that
        /// is both, the part that fits is done.
        case full(call: Int)
        /// From change number `call` on a disk that never writes in place is full: every write fails, with nothing done.
        case fullCopyOnWrite(call: Int)
        /// From change number `call` on nothing can be changed; of a write that is it, so many bytes are done.
        case dead(call: Int, bytes: Int = 0)

        var description: String {
            switch self {
            case .once(let call, let bytes): "change \(call) fails after \(bytes) bytes"
            case .full(let call): "disk full from change \(call)"
            case .fullCopyOnWrite(let call): "no write from change \(call)"
            case .dead(let call, let bytes): "no change from change \(call), which does \(bytes) bytes"
            }
        }
    }

    /// Nil where all is well. Calls are counted from where it is set.
    var fault: Fault? {
        didSet { calls = 0 }
    }
    private var calls = 0

    override func write(
        _ descriptor: Int32, _ buffer: UnsafeRawPointer, count: Int, at offset: Int
    ) throws(Errno) {
        calls += 1
        switch fault {
        case .once(let call, let bytes) where call == calls:
            try super.write(descriptor, buffer, count: min(bytes, count), at: offset)
            throw .noSpace
        case .full(let call) where calls >= call:
            let room = max(0, Int(try status(descriptor).st_size) - offset)
            if room >= count { return try super.write(descriptor, buffer, count: count, at: offset) }
            try super.write(descriptor, buffer, count: room, at: offset)
            throw .noSpace
        case .fullCopyOnWrite(let call) where calls >= call: throw .noSpace
        case .dead(let call, let bytes) where calls >= call:
            if calls == call, bytes > 0 {
                try super.write(descriptor, buffer, count: min(bytes, count), at: offset)
            }
            throw .ioError
        default: try super.write(descriptor, buffer, count: count, at: offset)
        }
    }

    override func truncate(_ descriptor: Int32, to size: Int) throws(Errno) {
        calls += 1
        switch fault {
        case .once(let call, _) where call == calls: throw .ioError
        case .dead(let call, _) where calls >= call: throw .ioError
        default: try super.truncate(descriptor, to: size)
        }
    }

    override func allocate(_ descriptor: Int32, mode: Int32, offset: Int, length: Int) throws(Errno) {
        calls += 1
        if case .once(let call, _) = fault, call == calls { throw .noSpace }
        // Giving space back needs none.
        switch fault {
        case .full(let call), .fullCopyOnWrite(let call): if calls >= call, mode & 2 == 0 { throw .noSpace }
        case .dead(let call, _): if calls >= call { throw .ioError }
        default: break
        }
        try super.allocate(descriptor, mode: mode, offset: offset, length: length)
    }
}
