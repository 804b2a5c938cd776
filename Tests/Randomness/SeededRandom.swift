/// SplitMix64: the same numbers for the same seed, on every machine.
public struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    /// The numbers that this seed gives.
    public init(seed: UInt64) {
        state = seed
    }

    /// The next 64 bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return Self.mixed(state)
    }

    /// What a state gives: numbers that have nothing to do with each other for neighbours that have.
    public static func mixed(_ state: UInt64) -> UInt64 {
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// A number in `0 ..< limit`, or 0 where that is empty.
    public mutating func below(_ limit: Int) -> Int {
        limit > 0 ? Int(next() % UInt64(limit)) : 0
    }

    /// True once in `count` times.
    public mutating func oneIn(_ count: Int) -> Bool { below(count) == 0 }

    /// Bytes without a zero among them, so that zeros in a file are never a program's.
    public mutating func bytes(_ count: Int) -> [UInt8] {
        var result = [UInt8](repeating: 0, count: count)
        result.withUnsafeMutableBytes { target in
            Self.pool.withUnsafeBytes { pool in
                // From a random place of a fixed pool: making each byte anew takes long where nothing is optimised.
                var offset = 0
                while offset < count {
                    let start = below(pool.count - 1)
                    let step = min(count - offset, pool.count - start)
                    UnsafeMutableRawBufferPointer(rebasing: target[offset..<(offset + step)])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: pool[start..<(start + step)]))
                    offset += step
                }
            }
        }
        return result
    }

    private static let pool: [UInt64] = {
        var random = SeededRandom(seed: 0)
        return (0..<100_003).map { _ in random.next() | 0x0101_0101_0101_0101 }
    }()
}
