import CFuse
import Foundation
import Testing

@testable import CofferMount

/// The thread that keeps a processor awake.
struct CompanionTests {
    private func ask(_ companion: Companion, _ code: fuse_opcode, bytes: UInt32 = 0, times: UInt32 = 1) {
        var request = RequestBytes(code, number: 2, node: 1)
        request.put(UInt32(getpid()), at: 32)
        request.put(bytes, at: 56)
        for _ in 0..<times { request.with { companion.see($0) } }
    }

    /// Whether it is so within a time that is long enough.
    private func becomes(_ condition: () -> Bool) -> Bool {
        for _ in 0..<20_000 {
            if condition() { return true }
            usleep(1000)
        }
        return false
    }

    @Test func itComesWhileThereAreRequestsAndGoes() throws {
        let companion = try Companion(givesWay: false)
        let end = DispatchSemaphore(value: 0)
        Thread {
            companion.run()
            end.signal()
        }.start()
        for _ in 0..<3 {
            #expect(becomes { companion.isWaiting })
            ask(companion, FUSE_LOOKUP, times: Companion.habit - 1)
            #expect(companion.isWaiting)
            ask(companion, FUSE_LOOKUP)
            // It goes only when it has come.
            #expect(becomes { companion.requestCount == 0 })
        }
        companion.stop()
        #expect(end.wait(timeout: .now() + 20) == .success)
    }

    @Test func itEndsInTheMidst() throws {
        let companion = try Companion(givesWay: false)
        let end = DispatchSemaphore(value: 0)
        Thread {
            companion.run()
            end.signal()
        }.start()
        #expect(becomes { companion.isWaiting })
        ask(companion, FUSE_LOOKUP, times: Companion.habit)
        companion.stop()
        #expect(end.wait(timeout: .now() + 20) == .success)
    }

    @Test func aStreamHasNone() throws {
        let companion = try Companion(givesWay: false)
        let end = DispatchSemaphore(value: 0)
        Thread {
            companion.run()
            end.signal()
        }.start()
        #expect(becomes { companion.isWaiting })
        for _ in 0..<100 {
            ask(companion, FUSE_GETATTR, times: Companion.habit - 1)
            ask(companion, FUSE_READ, bytes: 128 << 10)
        }
        #expect(companion.isWaiting)
        companion.stop()
        #expect(end.wait(timeout: .now() + 20) == .success)
    }
}
