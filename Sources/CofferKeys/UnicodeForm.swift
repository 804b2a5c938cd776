import CofferCrypto
@_spi(_Unicode) import Swift

/// Unicode's normalization form C, of secrets.
enum UnicodeForm {
    /// The bytes in a new buffer: composed where they are UTF-8, else as they are.
    static func composed(_ bytes: [UInt8]) -> [UInt8] {
        // Most passphrases: nothing is copied but once.
        if bytes.allSatisfy({ $0 < 0x80 }) { return bytes.withUnsafeBufferPointer { Array($0) } }
        guard var text = String(validating: bytes, as: UTF8.self) else {
            return bytes.withUnsafeBufferPointer { Array($0) }
        }
        defer { wipe(&text) }
        var result: [UInt8] = []
        // No growing, which would leave copies; composing makes nothing longer than three times.
        result.reserveCapacity(3 * bytes.count + 4)
        for scalar in text._nfc {
            for byte in UTF8.encode(scalar).map({ Array($0) }) ?? [] { result.append(byte) }
        }
        return result
    }

    /// Whether bytes are UTF-8.
    static func isText(_ bytes: [UInt8]) -> Bool {
        guard var text = String(validating: bytes, as: UTF8.self) else { return false }
        wipe(&text)
        return true
    }

    private static func wipe(_ text: inout String) {
        text.withUTF8 { buffer in
            // Nobody else has this text: its own storage is what is overwritten.
            guard let base = UnsafeMutableRawPointer(mutating: buffer.baseAddress) else { return }
            CofferCrypto.wipe(base, count: buffer.count)
        }
    }
}
