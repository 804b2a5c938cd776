import Foundation
import Randomness
import Synchronization
import Testing

@testable import CofferVault

struct RangeLockTests {
    @Test func rangesThatDoNotMeetAreHeldTogether() {
        let lock = RangeLock()
        lock.lock(0, 4, exclusive: true)
        lock.lock(5, 9, exclusive: true)
        lock.lock(10, RangeLock.endless, exclusive: false)
        lock.lock(12, 20, exclusive: false)
        // All four were had by one thread: that it came here is the point.
        lock.unlock(5, 9, exclusive: true)
        lock.lock(6, 7, exclusive: true)
        for (first, last) in [(0, 4), (6, 7)] { lock.unlock(first, last, exclusive: true) }
        lock.unlock(10, RangeLock.endless, exclusive: false)
        lock.unlock(12, 20, exclusive: false)
        let steps = Mutex(0)
        lock.lock(0, RangeLock.endless, exclusive: true)
        steps.withLock { $0 += 1 }
        lock.unlock(0, RangeLock.endless, exclusive: true)
        #expect(steps.withLock { $0 } == 1)
    }

    @Test func whatExcludesWaits() {
        let lock = RangeLock()
        // A writer behind a reader comes on when the reader is gone, not before.
        let order = Mutex<[String]>([])
        lock.lock(3, 6, exclusive: false)
        let group = DispatchGroup()
        group.enter()
        Thread {
            lock.lock(6, 6, exclusive: true)
            order.withLock { $0.append("writer") }
            lock.unlock(6, 6, exclusive: true)
            group.leave()
        }.start()
        order.withLock { $0.append("reader") }
        lock.unlock(3, 6, exclusive: false)
        group.wait()
        #expect(order.withLock { $0 } == ["reader", "writer"])
    }

    @Test func nobodyMeetsAWriter() {
        let lock = RangeLock()
        // Per block: how many readers, and how many writers, are in it.
        let inside = Mutex(Array(repeating: (readers: 0, writers: 0), count: 16))
        let faults = Mutex(0)
        let group = DispatchGroup()
        for index in 0..<5 {
            group.enter()
            Thread {
                var random = SeededRandom(seed: UInt64(index))
                for _ in 0..<400 {
                    let first = random.below(16)
                    let last = random.oneIn(4) ? RangeLock.endless : first + random.below(16 - first)
                    let isExclusive = random.oneIn(2)
                    let range = first...min(last, 15)
                    lock.lock(first, last, exclusive: isExclusive)
                    inside.withLock { blocks in
                        for block in range {
                            if isExclusive { blocks[block].writers += 1 } else { blocks[block].readers += 1 }
                            let (readers, writers) = blocks[block]
                            if writers > 1 || writers == 1 && readers > 0 { faults.withLock { $0 += 1 } }
                        }
                    }
                    sched_yield()
                    inside.withLock { blocks in
                        for block in range {
                            if isExclusive { blocks[block].writers -= 1 } else { blocks[block].readers -= 1 }
                        }
                    }
                    lock.unlock(first, last, exclusive: isExclusive)
                }
                group.leave()
            }.start()
        }
        group.wait()
        #expect(faults.withLock { $0 } == 0)
        #expect(inside.withLock { $0.allSatisfy { $0.readers == 0 && $0.writers == 0 } })
    }
}
