import Randomness

extension SeededRandom {
    /// Any bytes, zeros among them.
    mutating func anyBytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }

    /// A plaintext name: anything but NUL and the slash.
    mutating func name(_ count: Int) -> [UInt8] {
        let name = anyBytes(count).map { $0 == 0 || $0 == 0x2F ? UInt8(ascii: "n") : $0 }
        return name == [0x2E] || name == [0x2E, 0x2E] ? [UInt8](repeating: 0x61, count: count) : name
    }
}
