import Glibc
import Synchronization

/// The syncs that have begun and are not over. For any number of threads.
final class SyncsUnderWay: Sendable {
    private struct State {
        var next: UInt64 = 0
        /// In no order; as many as there are threads that sync.
        var numbers: [UInt64] = []
    }

    private let state = Mutex(State())
    /// Microseconds between two looks, about what a sync takes on a fast disk.
    private static let pause: useconds_t = 100

    /// Notes that a sync begins; the number it ends by.
    func begin() -> UInt64 {
        state.withLock { state in
            state.next += 1
            state.numbers.append(state.next)
            return state.next
        }
    }

    func end(_ number: UInt64) {
        state.withLock { state in
            if let index = state.numbers.firstIndex(of: number) { state.numbers.remove(at: index) }
        }
    }

    /// Waits until those that are under way now are over, at most for about so many microseconds; not for those that begin meanwhile.
    func waitForAll(atMost limit: Int) {
        let last = state.withLock { $0.next }
        var waited = 0
        while waited < limit, state.withLock({ $0.numbers.contains { $0 <= last } }) {
            usleep(Self.pause)
            waited += Int(Self.pause)
        }
    }
}
