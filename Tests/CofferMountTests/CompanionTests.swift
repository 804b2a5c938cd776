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

    /// Thirty-eight words, of which `beginning` has the first four.
    private static func status(_ beginning: String, _ end: String) -> String {
        beginning + String(repeating: " 3", count: 34) + end
    }

    private static let statuses: [(status: String, processor: Int32?)] = [
        (status("1 (sh) S 2", " 7 8 9"), 7),
        (status("1 (a ) b) R) S 2", " 12\n"), 12),
        (status("1 (sh) S 2", ""), nil),
        (status("1 (sh) S 2", " "), nil),
        (status("1 (sh) S 2", " 99999999999"), nil),
        ("1 (sh)", nil), ("1 sh", nil), ("", nil),
    ]

    @Test(arguments: statuses)
    func processorOfAThread(status: String, processor: Int32?) {
        var status = status
        let found = status.withUTF8 { Companion.processor(UnsafeRawBufferPointer($0)) }
        #expect(found == processor)
    }

    @Test func processorOfThisThread() throws {
        let status = try Data(contentsOf: URL(fileURLWithPath: "/proc/thread-self/stat"))
        let processor = try #require(status.withUnsafeBytes { Companion.processor($0) })
        #expect((0..<Int32(sysconf(Int32(_SC_NPROCESSORS_CONF)))).contains(processor))
    }
}
