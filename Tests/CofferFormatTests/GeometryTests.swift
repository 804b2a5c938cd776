import Randomness
import Testing

@testable import CofferFormat

/// Sizes and info words, exhaustively where that is possible.
struct GeometryTests {
    @Test func plainSizesThereAndBack() {
        var random = SeededRandom(seed: 1)
        let sizes = Array(0...20_000) + (0..<5000).map { _ in Int(random.next() >> (2 + UInt64(random.below(50)))) }
        for size in sizes where size <= BlockGeometry.maximumPlainSize {
            let cipher = BlockGeometry.cipherSize(plainSize: size)
            if BlockGeometry.plainSize(cipherSize: cipher) != size
                || BlockGeometry.plausibleSize(cipherSize: cipher) != size
            {
                Issue.record("\(size) bytes become \(cipher)")
            }
        }
        let largest = BlockGeometry.maximumPlainSize
        #expect(BlockGeometry.plainSize(cipherSize: BlockGeometry.cipherSize(plainSize: largest)) == largest)
    }

    @Test func everyCipherSizeIsAFilesOrDamage() {
        let files = Set((0...20_000).map { BlockGeometry.cipherSize(plainSize: $0) })
        for size in 0...20_000 {
            let isDamage = size < 64 || size > 64 && (1...32).contains((size - 32) % 4128)
            if (BlockGeometry.plainSize(cipherSize: size) == nil) != isDamage || files.contains(size) == isDamage {
                Issue.record("\(size)")
            }
        }
    }

    @Test func blocksTileTheFile() {
        for size in [1, 4095, 4096, 4097, 8192, 100_000, 1 << 40 | 5] {
            let count = BlockGeometry.blockCount(plainSize: size)
            let last = BlockGeometry.plainCount(ofBlock: count - 1, plainSize: size)
            #expect((1...4096).contains(last) && (count - 1) * 4096 + last == size)
            #expect(
                BlockGeometry.offset(ofBlock: count - 1) + last + BlockGeometry.overhead
                    == BlockGeometry.cipherSize(plainSize: size))
        }
        #expect(BlockGeometry.blockCount(plainSize: 0) == 0)
        #expect(BlockGeometry.offset(ofBlock: 0) == 32 && BlockGeometry.offset(ofBlock: 1) == 4160)
    }

    @Test func infoWords() {
        var random = SeededRandom(seed: 2)
        for gap in [0, 1, BlockGeometry.maximumGap] + (0..<100).map({ _ in random.below(1 << 30) }) {
            for isFinal in [false, true] {
                let info = BlockInfo(final: isFinal, gap: gap)
                #expect(info.isFinal == isFinal && info.gap == gap && !info.isReconstructed)
                #expect(BlockInfo(rawValue: info.rawValue) == info)
                #expect(info.rawValue == UInt32(gap) + (isFinal ? 0x8000_0000 : 0))
            }
        }
        #expect(BlockGeometry.maximumGap == 0x3FFF_FFFF)
        #expect(BlockInfo(rawValue: 0x4000_0000).isReconstructed)
    }
}
