import Glibc
import Randomness
import SystemPackage
import Testing

@testable import CofferMount

/// Through a whole mount, any call to the system fails, once or for a while: each result that a program sees is true, nothing that was there before is damaged,
/// and all is well when the fault is gone.
///
/// `COFFER_MOUNT_FAULTS` says how many sessions, and makes every call fail in its turn; `COFFER_FIRST_SEED` where their seeds begin; `COFFER_MOUNT_FAULT_CALL` from which call on a dozen are
/// tried again, and no others.
@Suite(.serialized, .enabled(if: FaultHome.canMount, "needs /dev/fuse readable and writable, and root or fusermount3"))
struct FaultMountTests {
    private static let sessions = environmentNumber("COFFER_MOUNT_FAULTS")
    private static let seeds: Range<Int> = {
        let first = environmentNumber("COFFER_FIRST_SEED") ?? 0
        return first..<(first + (sessions ?? 1))
    }()
    /// Faults that one script is tried with in the standard test.
    private static let standardCount = environmentNumber("COFFER_MOUNT_FAULT_ROUNDS") ?? 24

    @Test(arguments: [EIO, ENOSPC, EDQUOT], [false, true])
    func anyCallFails(code: Int32, isLasting: Bool) throws {
        for seed in Self.seeds {
            let session = try FaultSession(seed: UInt64(seed), error: Errno(rawValue: code), isLasting: isLasting)
            try session.run(atMost: Self.sessions == nil ? Self.standardCount : nil)
        }
    }

    @Test func interruptionsAndShortCallsAreNotNoticed() throws {
        for seed in Self.seeds {
            let session = try FaultSession(seed: UInt64(seed), error: .ioError, isLasting: false)
            try session.runInterrupted()
        }
    }

    /// The disk fails from some call of the unmounting on, which leaves what could not be stored in the log; then a call of the mounting that recovers it fails.
    @Test(arguments: [EIO, ENOSPC]) func anyCallOfUnmountingAndRecoveryFails(code: Int32) throws {
        for seed in Self.seeds {
            let session = try FaultSession(seed: UInt64(seed), error: Errno(rawValue: code), isLasting: true)
            try session.runEndings(atMost: Self.sessions == nil ? 6 : 60)
        }
    }
}
