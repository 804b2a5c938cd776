import CofferFormat
import Glibc
import Randomness
import Testing

@testable import CofferVault

/// The room for images, against what was put there.
struct KeptImagesTests {
    private let memory = KeptImages()

    private func image(_ count: Int, _ tag: Int) -> [UInt8] {
        [UInt8](repeating: UInt8(truncatingIfNeeded: tag &* 7 &+ count), count: count)
    }

    private func holds(_ kept: KeptImages.Kept, _ bytes: [UInt8]) -> Bool {
        memcmp(kept.bytes, bytes, bytes.count) == 0
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func whatIsKeptStaysAsItIs(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var kept: [(KeptImages.Kept, [UInt8])] = []
        var refused = 0
        // Full most of the time; given back in another order than kept.
        for step in 0..<6000 {
            if random.below(5) < 3 {
                let count = 1 + random.below(random.below(4) == 0 ? 16 * BlockGeometry.storedCount : 4128)
                let bytes = image(count, step)
                let got = bytes.withUnsafeBytes { $0.baseAddress.flatMap { memory.keep($0, count: count) } }
                if let got { kept.append((got, bytes)) } else { refused += 1 }
            } else if !kept.isEmpty {
                let (old, bytes) = kept.remove(at: random.below(2) == 0 ? 0 : random.below(kept.count))
                #expect(holds(old, bytes), "seed \(seed)")
                memory.giveBack(old)
            }
            if step == 3000 { memory.trim() }
        }
        #expect(refused > 0 && kept.count > 100, "it was never full")
        for (old, bytes) in kept {
            #expect(holds(old, bytes), "seed \(seed)")
            memory.giveBack(old)
        }
        // All of it can be had again.
        memory.trim()
        let block = image(BlockGeometry.storedCount, 1)
        for _ in 0..<((8 << 20) / BlockGeometry.storedCount) {
            let got = block.withUnsafeBytes { $0.baseAddress.flatMap { memory.keep($0, count: block.count) } }
            #expect(got != nil)
        }
        #expect(block.withUnsafeBytes { $0.baseAddress.flatMap { memory.keep($0, count: block.count) } } == nil)
    }

    @Test func whatIsTooLargeIsNotKept() {
        let large = image(16 * BlockGeometry.storedCount + 1, 0)
        large.withUnsafeBytes {
            guard let base = $0.baseAddress else { return }
            #expect(memory.keep(base, count: large.count) == nil)
            #expect(memory.keep(base, count: large.count - 1) != nil)
        }
    }
}
