/// Text that people write down and type in again: groups of five characters, of which the last checks the four before it and the group's place, so that a mistake is
/// not only noticed but pointed at.
///
/// Characters are Crockford's base 32: no I, L, O or U, and small letters, O for 0 and I or L for 1 are understood. The check, in GF(32) with x⁵ = x² + 1 and a = x:
///
///     check = a⁴·d₀ + a³·d₁ + a²·d₂ + a·d₃ + (number of the group, from 1)
///
/// So any one wrong character, two neighbours exchanged, and a group in another's place are always noticed.
enum CheckedGroups {
    /// Why a text cannot be read.
    enum Problem: Error, Equatable {
        /// So many groups, not as many as there should be.
        case count(found: Int, expected: Int)
        /// This group, from 1, is not what was written down.
        case group(Int, text: String)
    }

    static let bitsPerGroup = 20
    private static let alphabet = Array("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
    private static let size = 5

    /// The text of `groups` numbers of 20 bits.
    static func text(_ groups: [UInt32]) -> String {
        groups.enumerated().map { index, value in
            let data = digits(value)
            return String((data + [check(data, index)]).map { alphabet[Int($0)] })
        }.joined(separator: "-")
    }

    /// The numbers in a text of `count` groups. Spaces, dashes and line ends may be anywhere between characters.
    static func numbers(_ text: String, count: Int) throws(Problem) -> [UInt32] {
        let characters = text.filter { !$0.isWhitespace && $0 != "-" }
        let parts = text.split(whereSeparator: { $0.isWhitespace || $0 == "-" })
        // Where somebody left out or doubled a character, the groups as they were typed say where.
        if characters.count != count * size {
            if parts.count == count, let index = parts.firstIndex(where: { $0.count != size }) {
                throw .group(index + 1, text: String(parts[index]))
            }
            throw .count(found: (characters.count + size - 1) / size, expected: count)
        }
        var numbers: [UInt32] = []
        for index in 0..<count {
            let group = Array(characters)[(index * size)..<((index + 1) * size)]
            let values = group.compactMap { value(of: $0) }
            guard values.count == size, check(Array(values.dropLast()), index) == values[size - 1] else {
                throw .group(index + 1, text: String(group))
            }
            numbers.append(values.dropLast().reduce(0) { $0 << 5 | UInt32($1) })
        }
        return numbers
    }

    private static func digits(_ value: UInt32) -> [UInt8] {
        [15, 10, 5, 0].map { UInt8(value >> $0 & 31) }
    }

    private static func value(of character: Character) -> UInt8? {
        let upper = character.uppercased()
        let meant = upper == "O" ? "0" : upper == "I" || upper == "L" ? "1" : upper
        return alphabet.firstIndex { String($0) == meant }.map { UInt8($0) }
    }

    private static func check(_ data: [UInt8], _ index: Int) -> UInt8 {
        // Horner's rule, highest power first.
        let sum = data.reduce(0) { timesA($0 ^ $1) }
        return sum ^ UInt8((index + 1) & 31)
    }

    private static func timesA(_ value: UInt8) -> UInt8 {
        let shifted = value << 1
        return shifted & 32 == 0 ? shifted : (shifted ^ 0b100101) & 31
    }
}
