import CofferCrypto
import Testing

/// The primitives against the examples of the documents that define them.
struct KnownAnswerTests {
    private let text = Array(
        "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."
            .utf8)
    private let associated = hex("50515253c0c1c2c3c4c5c6c7")
    private let key = (0x80...0x9F).map { UInt8($0) }

    /// RFC 7693, appendix A.
    @Test func blake2b() {
        var hash = Hash(outputCount: 64)
        hash.update("abc")
        #expect(
            hash.finish()
                == hex(
                    "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
                        + "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"))
    }

    /// The Galois/Counter Mode of Operation (McGrew and Viega), test cases 13 and 14.
    @Test func aes256GCM() throws {
        let zeros = [UInt8](repeating: 0, count: 32)
        #expect(
            try seal([], .aes256GCM, zeros, nonce: Array(zeros[..<12]), associated: [])
                == hex("530f8afbc74536b9a963b4f1c4cb738b"))
        #expect(
            try seal(Array(zeros[..<16]), .aes256GCM, zeros, nonce: Array(zeros[..<12]), associated: [])
                == hex("cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"))
    }

    /// RFC 8439, section 2.8.2.
    @Test func chacha20Poly1305() throws {
        let sealed = try seal(
            text, .chacha20Poly1305, key, nonce: hex("070000004041424344454647"), associated: associated)
        #expect(Array(sealed.prefix(16)) == hex("d31a8d34648e60db7b86afbc53ef7ec2"))
        #expect(Array(sealed.suffix(16)) == hex("1ae10b594f09e26a7e902ecbd0600691"))
    }

    /// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    @Test func xchacha20Poly1305() throws {
        let nonce = (0x40...0x57).map { UInt8($0) }
        let aead = SmallAEAD(key: try SecretKey(copying: key))
        let sealed = aead.seal(text, associatedData: associated, nonce: nonce)
        #expect(Array(sealed.prefix(24)) == nonce)
        #expect(Array(sealed[24..<40]) == hex("bd6d179d3e83d43b9576579493c0e939"))
        #expect(Array(sealed.suffix(16)) == hex("c0875924c1c7987947deafd8780acf49"))
        #expect(try aead.open(sealed, associatedData: associated) == text)
    }

    private func seal(
        _ plaintext: [UInt8], _ suite: CipherSuite, _ key: [UInt8], nonce: [UInt8], associated: [UInt8]
    ) throws -> [UInt8] {
        let cipher = try BlockCipher(suite)
        cipher.contexts.setSealingKey(key)
        var body = [UInt8](repeating: 0, count: plaintext.count + 1)
        var tag = [UInt8](repeating: 0, count: BlockCipher.tagCount)
        cipher.contexts.seal(
            plaintext + [0], count: plaintext.count, nonce: nonce, associatedData: associated + [0],
            associatedDataCount: associated.count, output: &body, tag: &tag)
        return body.dropLast() + tag
    }
}

/// The bytes of a hexadecimal constant.
func hex(_ digits: String) -> [UInt8] {
    let values = digits.compactMap { $0.hexDigitValue }
    return stride(from: 0, to: values.count - 1, by: 2).map { UInt8(values[$0] << 4 | values[$0 + 1]) }
}
