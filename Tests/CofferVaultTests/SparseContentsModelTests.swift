import CofferCrypto
import CofferFormat
import Randomness
import Testing

@testable import CofferVault

/// Files of terabytes that are nearly all holes, some longer than one gap reaches.
struct SparseContentsModelTests {
    private static let limit = 9 << 40

    @Test(arguments: CipherSuite.allCases, [11, 12] as [UInt64])
    func contentsAreWhatTheModelSays(cipher: CipherSuite, seed: UInt64) throws {
        var random = SeededRandom(seed: seed &* 1000 &+ UInt64(cipher.rawValue))
        let directory = try TemporaryDirectory()
        defer { withExtendedLifetime(directory) {} }
        let file = try OpenContents(directory.file("sparse"), ring: try fixedRing(), cipher: cipher)
        var model = SparseModel()
        var history: [String] = []
        func trace() -> Comment { "seed \(seed) \(cipher):\n\(history.suffix(12).joined(separator: "\n"))" }
        /// Offsets that something happened at.
        var places = [0]

        for step in 0..<FileContentsModelTests.operationCount {
            let place = Self.randomPlace(places, using: &random)
            switch random.below(10) {
            case 0...4:
                let data = random.bytes(1 + random.below(random.oneIn(2) ? 40_000 : 5000))
                history.append("\(step): write \(data.count) at \(place)")
                try file.write(data, at: place)
                model.write(data, at: place)
                places += [place, place + data.count]
            case 5:
                history.append("\(step): resize to \(place)")
                try file.resize(to: place)
                model.resize(to: place)
                places.append(place)
            case 6...8:
                let end = Self.randomPlace(places, using: &random)
                let (from, to) = (min(place, end), max(place, end) + 1)
                let isPunch = random.oneIn(2)
                history.append("\(step): \(isPunch ? "punch" : "zero") \(to - from) at \(from)")
                if isPunch {
                    try file.punch(from, to - from)
                } else {
                    try file.zero(from, to - from, keepSize: true)
                }
                model.punch(from, to - from)
                places += [from, to]
            default:
                history.append("\(step): settle, reopen")
                try file.settle()
                try expectStored(file, model, isSettled: true, trace())
                try file.reopen()
            }
            if places.count > 24 { places.removeFirst(places.count - 24) }
            try #require(file.size == model.size, trace())
            for place in places.suffix(3) + [random.below(max(1, model.size))] {
                let offset = max(0, place - 5000)
                try #require(same(try file.read(10_000, at: offset), model.read(10_000, at: offset)), trace())
            }
            if random.oneIn(4) { try expectHolesAgree(file, model, trace()) }
        }
        try file.settle()
        try expectStored(file, model, isSettled: true, trace())
    }

    @Test func aHoleLongerThanOneGapIsBroken() throws {
        let directory = try TemporaryDirectory()
        defer { withExtendedLifetime(directory) {} }
        let file = try OpenContents(directory.file("sparse"), ring: try fixedRing(), cipher: .aes256GCM)
        try file.write([1], at: 0)
        // One gap more than a block can vouch for, by writing past the end; then the same by punching.
        let far = (BlockGeometry.maximumGap + 2) * 4096
        try file.write([2], at: far)
        try file.settle()
        var stored = try StoredFile(file.path, ring: file.ring)
        #expect(stored.faults(isSettled: true) == [])
        #expect(stored.blocks.map(\.index) == [0, BlockGeometry.maximumGap + 1, BlockGeometry.maximumGap + 2])
        try file.write([3], at: far / 2)
        try file.punch(4096, far - 4096)
        try file.settle()
        stored = try StoredFile(file.path, ring: file.ring)
        #expect(stored.faults(isSettled: true) == [])
        #expect(try file.read(2, at: far / 2) == [0, 0])
        #expect(try file.read(2, at: far) == [2])
    }

    private static func randomPlace(_ places: [Int], using random: inout SeededRandom) -> Int {
        let near = places[random.below(places.count)]
        let place =
            switch random.below(8) {
            case 0: Int(random.next() % UInt64(limit))
            case 1: near + random.below(1 << 30)
            case 2: near - random.below(1 << 30)
            case 3: near / 4096 * 4096
            default: near + random.below(100_000) - 50_000
            }
        return min(max(0, place), limit)
    }

    private func expectStored(
        _ file: OpenContents, _ model: SparseModel, isSettled: Bool, _ comment: Comment
    ) throws {
        let stored = try StoredFile(file.path, ring: file.ring)
        try #require(stored.faults(isSettled: isSettled) == [], comment)
        try #require(stored.plainSize == model.size, comment)
        for block in stored.blocks {
            let plaintext = try #require(block.plaintext, comment)
            let expected = Array(model.block(block.index).prefix(plaintext.count))
            try #require(same(plaintext, expected), comment)
        }
        let indices = Set(stored.blocks.map(\.index))
        try #require(model.blocks.keys.allSatisfy { indices.contains($0) }, comment)
    }

    /// Every block that holds something lies in what is said to be data.
    private func expectHolesAgree(_ file: OpenContents, _ model: SparseModel, _ comment: Comment) throws {
        var filled = model.blocks.keys.sorted()[...]
        var position = 0
        while let data = try file.nextData(position) {
            let hole = try #require(try file.nextHole(data), comment)
            try #require(data >= position && hole > data && hole <= model.size, comment)
            if let first = filled.first { try #require(first * 4096 + 4095 >= data, comment) }
            filled = filled.drop { $0 * 4096 < hole }
            position = hole
        }
        try #require(filled.isEmpty, comment)
    }
}
