import CFuse
import Foundation
import Synchronization
import Testing

@testable import CofferMount

/// Who waits for whom where the kernel's writes were read by several threads.
struct WriteOrderTests {
    private static let node: UInt64 = 7

    /// What happened, in order: `first` arrives as the kernel's number 10 at `firstOffset`, the other as `number` at `offset`, waits, and is done; after a
    /// while, so does the first.
    private func run(
        firstOffset: Int = 0, firstNode: UInt64 = node, number: UInt64 = 12, offset: Int = 4096
    ) -> [String] {
        let order = WriteOrder(threadCount: 2)
        let happened = Mutex<[String]>([])
        let group = DispatchGroup()
        order.arrive(0, number: 10, writingTo: firstNode, at: firstOffset)
        order.arrive(1, number: number, writingTo: Self.node, at: offset)
        group.enter()
        Thread {
            order.waitForEarlier(1)
            happened.withLock { $0.append("second") }
            order.leave(1)
            group.leave()
        }.start()
        usleep(100_000)
        happened.withLock { $0.append("first") }
        order.leave(0)
        group.wait()
        return happened.withLock { $0 }
    }

    @Test func whoCameLaterAndBeginsBehindWaits() {
        #expect(run() == ["first", "second"])
    }

    @Test func nobodyWaitsForWhatDoesNotConcernHim() {
        #expect(run(firstNode: 8) == ["second", "first"])
        #expect(run(firstOffset: 8192) == ["second", "first"])
        #expect(run(firstOffset: 4096) == ["second", "first"])
        // It was read before the first one, so the first may wait for it.
        #expect(run(number: 8) == ["second", "first"])
    }

    @Test func aRequestThatIsBeingReadIsWaitedFor() {
        // More than any machine needs to run the other thread.
        let order = WriteOrder(threadCount: 2, patience: 1_000_000)
        let happened = Mutex<[String]>([])
        let group = DispatchGroup()
        for number: UInt64 in [2, 4, 6, 8] { order.arrive(0, number: number) }
        // Number 10 was read by another thread, which has not said so yet.
        order.arrive(1, number: 12, writingTo: Self.node, at: 4096)
        group.enter()
        let isAsking = Atomic<Bool>(false)
        Thread {
            isAsking.store(true, ordering: .releasing)
            order.waitForEarlier(1)
            happened.withLock { $0.append("second") }
            group.leave()
        }.start()
        while !isAsking.load(ordering: .acquiring) {}
        usleep(20_000)
        order.arrive(0, number: 10, writingTo: Self.node, at: 0)
        usleep(100_000)
        happened.withLock { $0.append("first") }
        order.leave(0)
        group.wait()
        #expect(happened.withLock { $0 } == ["first", "second"])
    }

    @Test func aNumberThatNeverArrivesHoldsNobodyUpForEver() {
        let order = WriteOrder(threadCount: 8)
        order.arrive(3, number: 4000, writingTo: Self.node, at: 1 << 30)
        order.waitForEarlier(3)
        order.leave(3)
    }

    @Test func manyWritersInAChainEndInOrder() {
        let order = WriteOrder(threadCount: 8)
        let ends = Mutex<[Int]>([])
        let group = DispatchGroup()
        for thread in 0..<8 { order.arrive(thread, number: UInt64(2 + 2 * thread), writingTo: Self.node, at: thread) }
        for thread in (0..<8).reversed() {
            group.enter()
            Thread {
                order.waitForEarlier(thread)
                ends.withLock { $0.append(thread) }
                order.leave(thread)
                group.leave()
            }.start()
        }
        group.wait()
        #expect(ends.withLock { $0 } == Array(0..<8))
    }

    @Test func onlyWritesCount() {
        let order = WriteOrder(threadCount: 2)
        var request = RequestBytes(FUSE_WRITE, number: 10, node: Self.node)
        request.put(UInt64(4096), at: 48)
        #expect(request.with { order.arrive(0, $0) } == true)
        request.put(UInt32(FUSE_READ.rawValue), at: 4)
        #expect(request.with { order.arrive(0, $0) } == false)
    }
}
