/// Reads the subset of JSON that coffer.json is: one object whose members are strings, whole numbers or a list of flat
/// objects.
///
/// A general JSON decoder lets a second member of the same name, a fraction or an unpaired surrogate through in ways
/// that differ between libraries. Here each is an error with an offset, nothing nests deeper than the format does, and
/// time is linear in the text.
struct ConfigParser {
    /// What a member of the outer object holds.
    enum Value {
        case scalar(KeySlot.Value)
        case list([[KeySlot.Member]])
    }

    /// Whole numbers stop where other readers' doubles stop being exact.
    static let numberLimit: UInt64 = 1 << 53

    private let bytes: [UInt8]
    private var offset = 0

    private init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// The outer object's members, in the order of the text.
    static func parse(_ bytes: [UInt8]) throws(ConfigError) -> [(name: String, value: Value)] {
        var parser = ConfigParser(bytes)
        parser.skipSpace()
        let members = try parser.object { (parser: inout ConfigParser) throws(ConfigError) in
            if parser.peek == UInt8(ascii: "[") { return Value.list(try parser.list()) }
            return Value.scalar(try parser.scalar())
        }
        parser.skipSpace()
        guard parser.offset == bytes.count else { throw parser.error("text after the end") }
        return members
    }

    /// The number that a first member called `format` holds, whatever the rest of the text is: what a later version is
    /// known by.
    static func leadingFormat(_ bytes: [UInt8]) -> Int? {
        var parser = ConfigParser(bytes)
        do throws(ConfigError) {
            parser.skipSpace()
            try parser.expect("{")
            parser.skipSpace()
            guard try parser.string() == "format" else { return nil }
            parser.skipSpace()
            try parser.expect(":")
            parser.skipSpace()
            return Int(try parser.number())
        } catch {
            // Not a configuration of any version; the full parse says what is wrong with it.
            return nil
        }
    }

    // MARK: - Structure

    private mutating func object<Member>(
        _ value: (inout ConfigParser) throws(ConfigError) -> Member
    ) throws(ConfigError) -> [(name: String, value: Member)] {
        try expect("{")
        skipSpace()
        var members: [(name: String, value: Member)] = []
        var names: Set<String> = []
        if peek == UInt8(ascii: "}") {
            offset += 1
            return members
        }
        while true {
            let start = offset
            let name = try string()
            guard names.insert(name).inserted else {
                throw .malformed(offset: start, reason: "a second member of the same name")
            }
            skipSpace()
            try expect(":")
            skipSpace()
            members.append((name, try value(&self)))
            skipSpace()
            if peek == UInt8(ascii: "}") {
                offset += 1
                return members
            }
            try expect(",")
            skipSpace()
        }
    }

    private mutating func list() throws(ConfigError) -> [[KeySlot.Member]] {
        try expect("[")
        skipSpace()
        var items: [[KeySlot.Member]] = []
        if peek == UInt8(ascii: "]") {
            offset += 1
            return items
        }
        while true {
            let item = try object { (parser: inout ConfigParser) throws(ConfigError) in try parser.scalar() }
            items.append(item.map { KeySlot.Member(name: $0.name, value: $0.value) })
            skipSpace()
            if peek == UInt8(ascii: "]") {
                offset += 1
                return items
            }
            try expect(",")
            skipSpace()
        }
    }

    // MARK: - Scalars

    private mutating func scalar() throws(ConfigError) -> KeySlot.Value {
        peek == UInt8(ascii: "\"") ? .text(try string()) : .number(try number())
    }

    private mutating func number() throws(ConfigError) -> UInt64 {
        let start = offset
        var value: UInt64 = 0
        while let digit = peek, digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") {
            value = value * 10 + UInt64(digit - UInt8(ascii: "0"))
            guard value <= Self.numberLimit else { throw .malformed(offset: start, reason: "number above 2^53") }
            offset += 1
        }
        guard offset > start else { throw error("neither a string nor a whole number") }
        guard bytes[start] != UInt8(ascii: "0") || offset == start + 1 else {
            throw .malformed(offset: start, reason: "number with a leading zero")
        }
        if let next = peek, [UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E")].contains(next) {
            throw .malformed(offset: start, reason: "number that is not whole")
        }
        return value
    }

    private mutating func string() throws(ConfigError) -> String {
        let start = offset
        try expect("\"")
        var text: [UInt8] = []
        while true {
            guard let byte = peek else { throw error("string without an end") }
            offset += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let string = String(validating: text, as: UTF8.self) else {
                    throw .malformed(offset: start, reason: "string that is not UTF-8")
                }
                return string
            case UInt8(ascii: "\\"): try appendEscape(to: &text)
            case ..<0x20: throw .malformed(offset: offset - 1, reason: "control character in a string")
            default: text.append(byte)
            }
        }
    }

    private mutating func appendEscape(to text: inout [UInt8]) throws(ConfigError) {
        guard let letter = peek else { throw error("string without an end") }
        offset += 1
        switch letter {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(letter)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0c)
        case UInt8(ascii: "n"): text.append(0x0a)
        case UInt8(ascii: "r"): text.append(0x0d)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var code = try codeUnit()
            if code & 0xfc00 == 0xd800 {
                try expect("\\")
                try expect("u")
                let low = try codeUnit()
                guard low & 0xfc00 == 0xdc00 else { throw error("unpaired surrogate") }
                code = 0x10000 + (code & 0x3ff) << 10 + (low & 0x3ff)
            }
            guard let scalar = Unicode.Scalar(code) else { throw error("unpaired surrogate") }
            text.append(contentsOf: Array(String(Character(scalar)).utf8))
        default: throw error("unknown escape")
        }
    }

    private mutating func codeUnit() throws(ConfigError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = peek, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw error("escape without four hexadecimal digits")
            }
            value = value << 4 | UInt32(digit)
            offset += 1
        }
        return value
    }

    // MARK: - Characters

    private var peek: UInt8? { offset < bytes.count ? bytes[offset] : nil }

    private mutating func skipSpace() {
        while let byte = peek, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { offset += 1 }
    }

    private mutating func expect(_ character: Unicode.Scalar) throws(ConfigError) {
        guard peek == UInt8(ascii: character) else { throw error("expected '\(character)'") }
        offset += 1
    }

    private func error(_ reason: String) -> ConfigError {
        .malformed(offset: offset, reason: reason)
    }
}
