import Synchronization

/// A copy in memory of images that are in the log and not in their place: so that nobody has to read them back. Only so many are kept at a time.
final class KeptImage: Sendable {
    /// How many bytes there are.
    final class Budget: Sendable {
        /// Bytes of all copies, and of one.
        private static let limit = 8 << 20
        static let imageLimit = 64 << 10
        private let used = Atomic<Int>(0)

        /// Whether there is room for so many; they are taken.
        func take(_ count: Int) -> Bool {
            if used.load(ordering: .relaxed) + count > Self.limit { return false }
            used.add(count, ordering: .relaxed)
            return true
        }

        func giveBack(_ count: Int) { used.subtract(count, ordering: .relaxed) }
    }

    private let budget: Budget
    private let memory: UInt
    private let count: Int

    /// The bytes, as long as this is there.
    var bytes: UnsafeRawPointer? { UnsafeRawPointer(bitPattern: memory) }

    /// Nil where too many are kept already.
    init?(_ images: UnsafeRawPointer, count: Int, _ budget: Budget) {
        guard count <= Budget.imageLimit, budget.take(count) else { return nil }
        let copy = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 16)
        copy.copyMemory(from: images, byteCount: count)
        memory = UInt(bitPattern: copy)
        self.count = count
        self.budget = budget
    }

    deinit {
        UnsafeMutableRawPointer(bitPattern: memory)?.deallocate()
        budget.giveBack(count)
    }
}
