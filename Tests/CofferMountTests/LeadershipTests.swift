import CLinux
import Foundation
import Glibc
import Synchronization
import Testing

@testable import CofferMount

/// Threads that take turns at answering requests: here, bytes from a socket.
struct LeadershipTests {
    /// Serving threads, and what they answered.
    private final class Servers: Sendable {
        let requests: Int32
        private let device: Int32
        private let leadership: Leadership
        private let threadCount: Int
        private let group = DispatchGroup()
        /// What was answered, and by whom.
        let answers = Mutex<[(request: UInt8, thread: Int)]>([])
        private let answered = DispatchSemaphore(value: 0)

        init(processorCount: Int, tick: Int32, threadCount: Int = 4) throws {
            var ends: [Int32] = [0, 0]
            try #require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0)
            try #require(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0)
            (requests, device) = (ends[0], ends[1])
            self.threadCount = threadCount
            leadership = try Leadership(threadCount: threadCount, processorCount: processorCount, tick: tick)
            leadership.attend(to: ends[1])
        }

        /// Requests from 100 on are of medium size, those from 200 on are large.
        func start(_ process: @escaping @Sendable (UInt8, _ expectWait: () -> Void) -> Void) {
            for thread in 0..<threadCount {
                group.enter()
                Thread { [self] in
                    var request: UInt8 = 0
                    leadership.serve(
                        thread,
                        receive: {
                            switch read(device, &request, 1) {
                            case 1: .request(request >= 200 ? .large : request >= 100 ? .medium : .small)
                            case 0: .ended
                            default: .nothing
                            }
                        },
                        process: {
                            process(request) { leadership.expectWait(thread) }
                            answers.withLock { $0.append((request, thread)) }
                            answered.signal()
                        })
                    group.leave()
                }.start()
            }
        }

        func ask(_ request: UInt8) throws {
            try #require(withUnsafeBytes(of: request) { write(requests, $0.baseAddress, 1) } == 1)
        }

        /// Waits for so many answers.
        func awaitAnswers(_ count: Int) -> Bool {
            (0..<count).allSatisfy { _ in answered.wait(timeout: .now() + 20) == .success }
        }

        /// Ends the threads; whether they did.
        func stop() -> Bool {
            close(requests)
            guard group.wait(timeout: .now() + 20) == .success else { return false }
            close(device)
            return true
        }
    }

    @Test func everyRequestIsAnsweredOnce() throws {
        for processors in [1, 2, 8] {
            let servers = try Servers(processorCount: processors, tick: Leadership.tick, threadCount: 8)
            let sum = Atomic<Int>(0)
            servers.start { request, expectWait in
                if request % 16 == 1 { expectWait() }
                if request % 32 == 1 { usleep(UInt32(request) * 20) }
                sum.add(Int(request), ordering: .relaxed)
            }
            for number in 0..<20_000 {
                try servers.ask(UInt8(number % 128))
                // So that there is sometimes nothing to do, and for long enough that threads sleep.
                if number % 1000 == 0 { usleep(UInt32(number)) }
            }
            #expect(servers.awaitAnswers(20_000))
            #expect(sum.load(ordering: .relaxed) == (0..<20_000).reduce(0) { $0 + $1 % 128 })
            #expect(servers.stop())
            #expect(servers.answers.withLock { $0.count } == 20_000)
        }
    }

    /// Requests that wait until the last one of them is answered, after some others: whether all of them are.
    private func answersWhileOthersWait(
        _ servers: Servers, first: [UInt8] = [], waiting: Int, says: Bool
    ) throws -> Bool {
        let isOver = DispatchSemaphore(value: 0)
        servers.start { request, expectWait in
            switch request {
            case 1, 101, 201:
                if says { expectWait() }
                isOver.wait()
                isOver.signal()
            case 2: usleep(2000)
            default: isOver.signal()
            }
        }
        for request in first {
            try servers.ask(request)
            #expect(servers.awaitAnswers(1))
        }
        for _ in 0..<waiting { try servers.ask((first.last ?? 0) / 100 * 100 + 1) }
        try servers.ask(9)
        let isAnswered = servers.awaitAnswers(waiting + 1)
        if !isAnswered { isOver.signal() }
        return servers.stop() && isAnswered
    }

    @Test func whoWaitsWithoutSayingSoIsFoundOut() throws {
        let servers = try Servers(processorCount: 1, tick: Leadership.tick)
        #expect(try answersWhileOthersWait(servers, waiting: 3, says: false))
    }

    @Test func whoSaysThatHeWaitsIsNotWaitedFor() throws {
        let servers = try Servers(processorCount: 1, tick: -1)
        #expect(try answersWhileOthersWait(servers, waiting: 3, says: true))
    }

    @Test func whoseLastRequestsWaitedIsNotWaitedFor() throws {
        let servers = try Servers(processorCount: 1, tick: -1)
        #expect(try answersWhileOthersWait(servers, first: Array(repeating: 2, count: 16), waiting: 1, says: false))
    }

    @Test func whatTakesLongerHasAnotherThreadReadToo() throws {
        let servers = try Servers(processorCount: 2, tick: -1)
        #expect(try answersWhileOthersWait(servers, first: [100], waiting: 1, says: false))
    }

    @Test func nobodyWaitsForLargeRequests() throws {
        // Two are answered at a time, and one waits for its turn; the fourth thread answers the rest.
        let servers = try Servers(processorCount: 2, tick: -1)
        #expect(try answersWhileOthersWait(servers, first: [200], waiting: 3, says: false))
    }

    @Test func largeRequestsAreBegunInTheirOrder() throws {
        for processors in [1, 2, 3] {
            // As many as can be read while others are answered: a leader, a watcher, and four.
            let servers = try Servers(processorCount: processors, tick: -1, threadCount: 6)
            let seen = Mutex<(begun: [UInt8], active: Int, most: Int)>(([], 0, 0))
            servers.start { request, _ in
                seen.withLock {
                    $0.begun.append(request)
                    $0.active += 1
                    $0.most = max($0.most, $0.active)
                }
                usleep(300)
                seen.withLock { $0.active -= 1 }
            }
            // Until all threads have their places.
            try servers.ask(0)
            #expect(servers.awaitAnswers(1))
            usleep(100_000)
            for request in stride(from: UInt8(200), to: 240, by: 4) {
                for next in request..<(request + 4) { try servers.ask(next) }
                #expect(servers.awaitAnswers(4))
                usleep(20_000)
            }
            #expect(servers.stop())
            #expect(seen.withLock { $0.most } <= processors)
            let begun = seen.withLock { $0.begun.dropFirst() }
            #expect(processors > 1 ? Set(begun) == Set(200..<240) : Array(begun) == Array(200..<240))
        }
    }

    /// Asking for a longer slice and giving it back leaves a thread as nice as it was.
    @Test func aLongerSliceLeavesTheRest() async throws {
        let found: [Int32] = await withCheckedContinuation { done in
            Thread.detachNewThread {
                setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 7)
                let asked = coffer_set_slice(20_000_000)
                let during = getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0)
                let returned = coffer_set_slice(0)
                done.resume(returning: [
                    asked - returned, during, getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0),
                ])
            }
        }
        #expect(found == [0, 7, 7])
    }

    @Test func whatNeverWaitsIsAnsweredByOneThread() throws {
        let servers = try Servers(processorCount: 1, tick: -1)
        servers.start { _, _ in }
        for number in 0..<2000 {
            try servers.ask(0)
            #expect(servers.awaitAnswers(1))
            // Long enough that leader and watcher sleep.
            if number % 500 == 0 { usleep(60_000) }
        }
        #expect(servers.stop())
        #expect(Set(servers.answers.withLock { $0.map(\.thread) }).count == 1)
    }
}
