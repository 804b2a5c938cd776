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

    /// Whether a character is one of the text's.
    public static func isDigit(_ character: UInt8) -> Bool { values[Int(character)] != 0xFF }

    /// The text of `bytes`, as ASCII.
    public static func encode(_ bytes: some Collection<UInt8>) -> [UInt8] {
        // Names are coded by the million, and generic code that is not specialized takes several times as long.
        bytes.withContiguousStorageIfAvailable { encode(buffer: $0) }
            ?? Array(bytes).withUnsafeBufferPointer {
                encode(buffer: $0)
            }
    }

    private static func encode(buffer bytes: UnsafeBufferPointer<UInt8>) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: encodedCount(bytes.count)) { text, count in
            count = encode(UnsafeRawBufferPointer(bytes), into: UnsafeMutableRawBufferPointer(text))
        }
    }

    /// Writes the text of `bytes`, ``encodedCount(_:)`` characters, and returns how many they are.
    static func encode(_ bytes: UnsafeRawBufferPointer, into text: UnsafeMutableRawBufferPointer) -> Int {
        var count = 0
        alphabet.withUnsafeBufferPointer { alphabet in
            var bits: UInt32 = 0
            var held: UInt32 = 0
            for byte in bytes {
                bits = bits << 8 | UInt32(byte)
                held += 8
                while held >= 6 {
                    held -= 6
                    text[count] = alphabet[Int(bits >> held & 63)]
                    count += 1
                }
            }
            if held > 0 {
                text[count] = alphabet[Int(bits << (6 - held) & 63)]
                count += 1
            }
        }
        return count
    }

    /// The bytes of `text`, or nil where it is not canonical.
    public static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
        text.withContiguousStorageIfAvailable { decode(buffer: $0) }
            ?? Array(text).withUnsafeBufferPointer {
                decode(buffer: $0)
            }
    }

    private static func decode(buffer text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
        var isCanonical = true
        let bytes = [UInt8](unsafeUninitializedCapacity: decodedCount(text.count)) { bytes, count in
            values.withUnsafeBufferPointer { values in
                var bits: UInt32 = 0
                var held: UInt32 = 0
                var all: UInt8 = 0
                for letter in text {
                    let value = values[Int(letter)]
                    all |= value
                    bits = bits << 6 | UInt32(value & 63)
                    held += 6
                    if held >= 8 {
                        held -= 8
                        bytes[count] = UInt8(truncatingIfNeeded: bits >> held)
                        count += 1
                    }
                }
                // A letter of another alphabet; a lone character carries no byte, and unused low bits must be zero.
                isCanonical = all < 64 && held < 6 && bits & ((1 << held) - 1) == 0
            }
        }
        return isCanonical ? bytes : nil
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
