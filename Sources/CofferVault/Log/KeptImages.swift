import CofferFormat
import Glibc

/// Copies in memory of images that are in the log and not in their place: so that nobody has to read them back. There is room for so many at a time, which is
/// set aside once and becomes memory as it is used.
final class KeptImages: @unchecked Sendable {
    /// One write's images.
    struct Kept {
        /// They are here until they are given back.
        let bytes: UnsafeRawPointer
        fileprivate let first: Int
        fileprivate let count: Int
    }

    /// Bytes of all copies.
    private static let limit = 8 << 20
    /// Blocks that one may have.
    private static let blockLimit = 16
    private static let slotCount = limit / BlockGeometry.storedCount

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    /// One slot has room for one block.
    private let slots: UnsafeMutableRawPointer?

    // Guarded by `mutex`.

    /// Which slots are taken.
    private let isTaken = UnsafeMutableBufferPointer<Bool>.allocate(capacity: slotCount)
    private var taken = 0
    /// Where to look first: those that were taken long ago are given back first.
    private var next = 0
    private var isUntouched = true

    init() {
        BriefMutex.initialize(mutex)
        isTaken.initialize(repeating: false)
        let place = mmap(
            nil, Self.slotCount * BlockGeometry.storedCount, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        slots = place == MAP_FAILED ? nil : place
    }

    deinit {
        if let slots { munmap(slots, Self.slotCount * BlockGeometry.storedCount) }
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
        isTaken.deallocate()
    }

    /// Copies images; nil where there is no room for them.
    func keep(_ images: UnsafeRawPointer, count: Int) -> Kept? {
        let wanted = (count + BlockGeometry.storedCount - 1) / BlockGeometry.storedCount
        guard wanted <= Self.blockLimit, let slots else { return nil }
        pthread_mutex_lock(mutex)
        let first = take(wanted)
        pthread_mutex_unlock(mutex)
        guard let first else { return nil }
        let place = slots + first * BlockGeometry.storedCount
        place.copyMemory(from: images, byteCount: count)
        return Kept(bytes: UnsafeRawPointer(place), first: first, count: wanted)
    }

    private func take(_ wanted: Int) -> Int? {
        if taken + wanted > Self.slotCount { return nil }
        var (start, seen) = (next, 0)
        // Twice around at most, for a run may begin before where the looking begins.
        while seen < 2 * Self.slotCount {
            if start + wanted > Self.slotCount {
                seen += Self.slotCount - start
                start = 0
            }
            guard let last = (start..<(start + wanted)).last(where: { isTaken[$0] }) else {
                for slot in start..<(start + wanted) { isTaken[slot] = true }
                taken += wanted
                next = start + wanted
                isUntouched = false
                return start
            }
            seen += last + 1 - start
            start = last + 1
        }
        return nil
    }

    /// They are needed no more.
    func giveBack(_ kept: Kept) {
        pthread_mutex_lock(mutex)
        for slot in kept.first..<(kept.first + kept.count) { isTaken[slot] = false }
        taken -= kept.count
        pthread_mutex_unlock(mutex)
    }

    /// Gives the memory back to the system, where nothing is kept.
    func trim() {
        pthread_mutex_lock(mutex)
        if taken == 0, !isUntouched, let slots {
            madvise(slots, Self.slotCount * BlockGeometry.storedCount, MADV_DONTNEED)
            isUntouched = true
            next = 0
        }
        pthread_mutex_unlock(mutex)
    }
}
