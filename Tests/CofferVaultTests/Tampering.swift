import Randomness

/// What somebody who can write the stored bytes, but has no key, may do to them.
struct Tampering {
    let description: String
    let stored: [UInt8]

    /// Every cut, addition, exchange, repetition and removal of whole blocks that a sample allows; `other` is another file of the
    /// same vault.
    static func structural(of sample: DamageSample, other: DamageSample) -> [Tampering] {
        var random = SeededRandom(seed: 5)
        let all =
            cuts(of: sample, using: &random) + additions(to: sample, other: other, using: &random)
            + exchanges(in: sample, other: other) + headers(of: sample, other: other)
        // What changes nothing is no damage: a hole in the place of a hole.
        return all.filter { !same($0.stored, sample.stored) }
    }

    private static func cuts(of sample: DamageSample, using random: inout SeededRandom) -> [Tampering] {
        var sizes: Set<Int> = [0, 1, 31, 32, 33, 63, 64, 65]
        for index in 0..<sample.blockCount {
            let range = sample.range(ofBlock: index)
            sizes.formUnion([range.lowerBound, range.lowerBound + 1, range.lowerBound + 32, range.lowerBound + 33])
            sizes.formUnion([range.upperBound - 1, range.lowerBound + random.below(range.count)])
        }
        return sizes.sorted().filter { $0 < sample.stored.count }.map {
            Tampering(description: "cut to \($0) bytes", stored: Array(sample.stored[..<$0]))
        }
    }

    private static func additions(
        to sample: DamageSample, other: DamageSample, using random: inout SeededRandom
    ) -> [Tampering] {
        let stored = sample.stored
        var all: [Tampering] = []
        for count in [1, 31, 32, 33, 64, 4095, 4128, 4129, 5000, 8256] {
            all.append(Tampering(description: "\(count) bytes more", stored: stored + random.bytes(count)))
            let zeros = [UInt8](repeating: 0, count: count)
            all.append(Tampering(description: "\(count) zeros more", stored: stored + zeros))
        }
        for index in 0..<sample.blockCount {
            all.append(
                Tampering(
                    description: "block \(index) repeated at the end",
                    stored: stored + stored[sample.range(ofBlock: index)]))
        }
        all.append(
            Tampering(
                description: "another file's blocks at the end", stored: stored + other.stored.dropFirst(32)))
        return all
    }

    private static func exchanges(in sample: DamageSample, other: DamageSample) -> [Tampering] {
        var all: [Tampering] = []
        for index in 0..<sample.blockCount {
            let range = sample.range(ofBlock: index)
            var zeroed = sample.stored
            zeroed.replaceSubrange(range, with: repeatElement(0, count: range.count))
            all.append(Tampering(description: "block \(index) zeroed", stored: zeroed))
            var dropped = sample.stored
            dropped.removeSubrange(range)
            all.append(Tampering(description: "block \(index) dropped", stored: dropped))
            if index < other.blockCount, other.range(ofBlock: index).count == range.count {
                var foreign = sample.stored
                foreign.replaceSubrange(range, with: other.stored[other.range(ofBlock: index)])
                all.append(Tampering(description: "block \(index) of another file", stored: foreign))
            }
            for second in 0..<sample.blockCount where second != index {
                let otherRange = sample.range(ofBlock: second)
                guard otherRange.count == range.count else { continue }
                var copied = sample.stored
                copied.replaceSubrange(range, with: sample.stored[otherRange])
                all.append(Tampering(description: "block \(second) in place of \(index)", stored: copied))
                guard second > index else { continue }
                copied.replaceSubrange(otherRange, with: sample.stored[range])
                all.append(Tampering(description: "blocks \(index) and \(second) exchanged", stored: copied))
            }
        }
        return all
    }

    private static func headers(of sample: DamageSample, other: DamageSample) -> [Tampering] {
        let body = sample.stored.dropFirst(32)
        var anotherCipher = sample.stored
        anotherCipher[5] = 3 - anotherCipher[5]
        return [
            Tampering(description: "another file's header", stored: Array(other.stored[..<32]) + body),
            Tampering(description: "the other cipher's number", stored: anotherCipher),
            Tampering(description: "no header", stored: Array(body)),
            Tampering(description: "a zeroed header", stored: [UInt8](repeating: 0, count: 32) + body),
        ]
    }
}
