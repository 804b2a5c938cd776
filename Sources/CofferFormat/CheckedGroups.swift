import CofferCrypto

/// Text that people write down and type in again: groups of five characters, of which the last checks the four before it and the group's place, so that a mistake is
/// not only noticed but pointed at.
///
/// Characters are Crockford's base 32: no I, L, O or U, and small letters, O for 0 and I or L for 1 are understood. The check, in GF(32) with x⁵ = x² + 1 and a = x:
///
///     check = a⁴·d₀ + a³·d₁ + a²·d₂ + a·d₃ + (number of the group, from 1)
///
/// So any one wrong character, two neighbours exchanged, and a group in another's place are always noticed.
public enum CheckedGroups {
    /// Why a text cannot be read. What was typed is not repeated, for most of it is right.
    public enum Problem: Error, Equatable {
        /// So many groups, not as many as there should be.
        case count(found: Int, expected: Int)
        /// This group, from 1, is not what was written down.
        case group(Int)
        /// It begins as those of another kind or version do.
        case version
    }

    /// Bits that a group holds.
    public static let bitsPerGroup = 20
    private static let alphabet = Array("0123456789ABCDEFGHJKMNPQRSTVWXYZ".utf8)
    private static let size = 5

    /// The text of `groups` numbers of 20 bits.
    public static func text(_ groups: [UInt32]) -> String {
        groups.enumerated().map { index, value in
            let data = [15, 10, 5, 0].map { UInt8(value >> $0 & 31) }
            return String(decoding: (data + [check(data[...], index)]).map { alphabet[Int($0)] }, as: UTF8.self)
        }.joined(separator: "-")
    }

    /// Bytes as numbers of 20 bits, behind the first `bits` bits that `head` holds. Together they fill the groups.
    public static func groups(_ bytes: [UInt8], after head: UInt64, bits: Int) -> [UInt32] {
        var groups: [UInt32] = []
        var held = bits
        var value = head
        for byte in bytes {
            value = value << 8 | UInt64(byte)
            held += 8
            if held >= bitsPerGroup {
                held -= bitsPerGroup
                groups.append(UInt32(truncatingIfNeeded: value >> held) & 0xFFFFF)
            }
        }
        return groups
    }

    /// The whole bytes in a text of `count` groups, behind four bits that are `version`; the caller wipes them.
    public static func bytes(_ text: [UInt8], count: Int, version: UInt8) throws(Problem) -> [UInt8] {
        var groups = try numbers(text, count: count)
        defer { groups.withUnsafeMutableBytes { if let base = $0.baseAddress { wipe(base, count: $0.count) } } }
        guard groups[0] >> 16 == version else { throw .version }
        var bytes: [UInt8] = []
        // No growing, which would leave copies.
        bytes.reserveCapacity(groups.count * bitsPerGroup / 8)
        var value: UInt64 = 0
        var held = -4
        for group in groups {
            value = value << bitsPerGroup | UInt64(group)
            held += bitsPerGroup
            while held >= 8 {
                held -= 8
                bytes.append(UInt8(truncatingIfNeeded: value >> held))
            }
        }
        return bytes
    }

    /// The numbers in a text of `count` groups, which the caller wipes. White space and dashes may be anywhere between characters.
    public static func numbers(_ text: [UInt8], count: Int) throws(Problem) -> [UInt32] {
        var values: [UInt8] = []
        values.reserveCapacity(text.count)
        defer { wipe(&values) }
        // How long the groups are as they were typed.
        var lengths: [Int] = [0]
        for byte in text {
            if isBetween(byte) {
                if lengths[lengths.count - 1] > 0 { lengths.append(0) }
            } else if byte & 0xC0 != 0x80 {
                // What takes more than a byte is one wrong character.
                values.append(value(of: byte))
                lengths[lengths.count - 1] += 1
            }
        }
        lengths.removeAll { $0 == 0 }
        if values.count != count * size {
            // Where somebody left out or doubled a character, the groups as they were typed say where.
            if lengths.count == count, let index = lengths.firstIndex(where: { $0 != size }) {
                throw .group(index + 1)
            }
            throw .count(found: (values.count + size - 1) / size, expected: count)
        }
        var numbers: [UInt32] = []
        numbers.reserveCapacity(count)
        for index in 0..<count {
            let group = values[(index * size)..<((index + 1) * size)]
            guard group.allSatisfy({ $0 < 32 }), check(group.dropLast(), index) == group.last else {
                throw .group(index + 1)
            }
            numbers.append(group.dropLast().reduce(0) { $0 << 5 | UInt32($1) })
        }
        return numbers
    }

    private static func isBetween(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "-") || byte == 0x20 || (0x09...0x0D).contains(byte)
    }

    /// A character's digit; 255 for one that is none.
    private static func value(of byte: UInt8) -> UInt8 {
        let upper = (0x61...0x7A).contains(byte) ? byte & 0xDF : byte
        let meant =
            switch upper {
            case UInt8(ascii: "O"): UInt8(ascii: "0")
            case UInt8(ascii: "I"), UInt8(ascii: "L"): UInt8(ascii: "1")
            default: upper
            }
        return alphabet.firstIndex(of: meant).map { UInt8($0) } ?? 255
    }

    private static func check(_ data: ArraySlice<UInt8>, _ index: Int) -> UInt8 {
        // Horner's rule, highest power first.
        let sum = data.reduce(0) { timesA($0 ^ $1) }
        return sum ^ UInt8((index + 1) & 31)
    }

    private static func timesA(_ value: UInt8) -> UInt8 {
        let shifted = value << 1
        return shifted & 32 == 0 ? shifted : (shifted ^ 0b100101) & 31
    }
}
