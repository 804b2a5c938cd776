/// RFC 4648 §5 without padding, on bytes; decoding accepts canonical text only, so that no two texts mean the same bytes.
public enum Base64URL {
    private static let alphabet: [UInt8] = Array(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    private static let values: [UInt8] = {
        var table = [UInt8](repeating: 0xFF, count: 256)
        for (value, letter) in alphabet.enumerated() { table[Int(letter)] = UInt8(value) }
        return table
    }()

    /// Characters that `count` bytes become.
    public static func encodedCount(_ count: Int) -> Int {
        (count * 4 + 2) / 3
    }

    /// Bytes that `count` characters stand for.
    public static func decodedCount(_ count: Int) -> Int {
        count * 3 / 4
    }

    /// The text of `bytes`, as ASCII.
    public static func encode(_ bytes: some Collection<UInt8>) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(encodedCount(bytes.count))
        var bits: UInt32 = 0
        var held = 0
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            held += 8
            while held >= 6 {
                held -= 6
                text.append(alphabet[Int(bits >> UInt32(held)) & 63])
            }
        }
        if held > 0 { text.append(alphabet[Int(bits << UInt32(6 - held)) & 63]) }
        return text
    }

    /// The bytes of `text`, or nil where it is not canonical.
    public static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(decodedCount(text.count))
        var bits: UInt32 = 0
        var held = 0
        for letter in text {
            let value = values[Int(letter)]
            if value == 0xFF { return nil }
            bits = bits << 6 | UInt32(value)
            held += 6
            if held >= 8 {
                held -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(held)))
            }
        }
        // A lone character carries no byte, and unused low bits must be zero.
        if held >= 6 || bits & ((1 << UInt32(held)) - 1) != 0 { return nil }
        return bytes
    }

    /// The text of `bytes`, for the configuration.
    public static func text(_ bytes: [UInt8]) -> String {
        String(decoding: encode(bytes), as: UTF8.self)
    }

    /// The bytes of `text`, or nil where it is not canonical.
    public static func decode(_ text: String) -> [UInt8]? {
        decode(Array(text.utf8))
    }
}
