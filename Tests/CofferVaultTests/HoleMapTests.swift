import Randomness
import Testing

@testable import CofferVault

/// The map against a plain list of blocks.
struct HoleMapTests {
    /// What is true: which blocks are stored, and with which gap.
    private struct Blocks {
        var gaps: [Int?]

        func voucher(of block: Int) -> Int? { (block..<gaps.count).first { gaps[$0] != nil } }

        /// Where the run of zeros before a stored block begins.
        func floor(before block: Int) -> Int {
            var floor = block
            while floor > 0, gaps[floor - 1] == nil { floor -= 1 }
            return floor
        }

        /// Stored blocks whose gap reaches over stored blocks.
        var tooWide: [Int] {
            gaps.indices.filter { block in gaps[block].map { block - $0 < floor(before: block) } ?? false }
        }
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func agreesWithAPlainList(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var blocks = Blocks(gaps: [Int?](repeating: 0, count: 48))
        var map = HoleMap()
        for step in 0..<400 {
            let comment: Comment = "seed \(seed), step \(step)"
            let first = 1 + random.below(blocks.gaps.count - 2)
            let last = min(first + random.below(6), blocks.gaps.count - 2)
            switch random.below(8) {
            case 0...2: try punch(first, last, &blocks, &map)
            case 3...5: try fill(first, last, &blocks, &map, comment)
            case 6: try learn(first, blocks, &map)
            default:
                if random.oneIn(2) {
                    map = HoleMap()
                } else if blocks.gaps[first] != nil {
                    // The file ends with block `first`, and grows again by stored blocks.
                    map.cut(to: first + 1)
                    for block in (first + 1)..<blocks.gaps.count { blocks.gaps[block] = 0 }
                }
            }
            try expectTrue(map, blocks, comment)
        }
    }

    @Test func forgetsOnlyWhatItMay() {
        var map = HoleMap()
        let run = HoleMap.Run(start: 1, end: 3, floor: 1)
        map.insert(run)
        for index in 1..<9000 {
            map.insert(HoleMap.Run(start: index * 10, end: index * 10 + 1, floor: index * 10), keeping: [3])
        }
        #expect(map.run(endingAt: 3) == run)
        #expect(map.runs.count < 9000)
        #expect(map.run(holding: 89_990)?.end == 89_991)
    }

    @Test func removesByVoucher() {
        var map = HoleMap()
        for index in 0..<5 { map.insert(HoleMap.Run(start: index * 10, end: index * 10 + 5, floor: index * 10)) }
        map.remove(endingIn: 15...25)
        #expect(map.runs.map(\.end) == [5, 35, 45])
    }

    private func expectTrue(_ map: HoleMap, _ blocks: Blocks, _ comment: Comment) throws {
        var previous = 0
        for run in map.runs {
            try #require(run.start >= previous && run.start < run.end, comment)
            try #require((run.start..<run.end).allSatisfy { blocks.gaps[$0] == nil }, comment)
            try #require(blocks.gaps[run.end] != nil && run.floor == blocks.floor(before: run.end), comment)
            try #require(map.run(endingAt: run.end) == run, comment)
            previous = run.end
        }
        for block in blocks.gaps.indices {
            let holding = map.runs.first { $0.start <= block && block < $0.end }
            try #require(map.run(holding: block) == holding, comment)
        }
    }

    private func learn(_ block: Int, _ blocks: Blocks, _ map: inout HoleMap) throws {
        guard blocks.gaps[block] == nil, map.run(holding: block) == nil else { return }
        let voucher = try #require(blocks.voucher(of: block))
        let gap = try #require(blocks.gaps[voucher])
        map.insert(HoleMap.Run(start: block, end: voucher, floor: voucher - gap))
    }

    private func fill(
        _ first: Int, _ last: Int, _ blocks: inout Blocks, _ map: inout HoleMap, _ comment: Comment
    ) throws {
        try learn(first, blocks, &map)
        try learn(last, blocks, &map)
        let gap = blocks.gaps[first] ?? map.run(holding: first).map { first - $0.floor }
        for block in first...last { blocks.gaps[block] = 0 }
        let headGap: Int = try #require(gap, comment)
        blocks.gaps[first] = headGap
        let stale = map.fill(first, last)
        try #require(Set(stale).isSuperset(of: blocks.tooWide), comment)
        // They are settled at once, by what the map says.
        for voucher in stale {
            let floor = map.run(endingAt: voucher)?.floor ?? voucher
            try #require(floor == blocks.floor(before: voucher), comment)
            blocks.gaps[voucher] = voucher - floor
        }
    }

    private func punch(_ first: Int, _ last: Int, _ blocks: inout Blocks, _ map: inout HoleMap) throws {
        try learn(first - 1, blocks, &map)
        let before = map.run(holding: first - 1)
        for block in first...last { blocks.gaps[block] = nil }
        let voucher = try #require(blocks.voucher(of: last))
        let floor = blocks.floor(before: voucher)
        blocks.gaps[voucher] = voucher - floor
        map.insert(HoleMap.Run(start: before?.start ?? first, end: voucher, floor: floor))
    }
}
