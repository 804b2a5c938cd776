import CofferCrypto
import Testing

/// Blocks of both ciphers: what was sealed opens, and nothing else does.
struct BlockCipherTests {
    @Test(arguments: CipherSuite.allCases, [0, 1, 15, 16, 17, 4095, 4096])
    func thereAndBack(suite: CipherSuite, count: Int) throws {
        let cipher = try BlockCipher(suite)
        let key = Random.bytes(32)
        let plaintext = Random.bytes(count + 1)
        cipher.contexts.setSealingKey(key)
        cipher.contexts.setOpeningKey(key)
        var sealed: [([UInt8], [UInt8], [UInt8])] = []
        // One key, several blocks: nothing of one is left in the next.
        for _ in 0..<3 {
            let nonce = Random.bytes(BlockCipher.nonceCount)
            var body = [UInt8](repeating: 0, count: count + 1)
            var tag = [UInt8](repeating: 0, count: BlockCipher.tagCount)
            cipher.contexts.seal(
                plaintext, count: count, nonce: nonce, associatedData: nonce, associatedDataCount: 12, output: &body,
                tag: &tag)
            sealed.append((nonce, body, tag))
        }
        for (nonce, body, tag) in sealed.reversed() {
            var output = [UInt8](repeating: 0, count: count + 1)
            let isOpen = cipher.contexts.open(
                body, count: count, nonce: nonce, associatedData: nonce, associatedDataCount: 12, tag: tag,
                output: &output)
            #expect(isOpen && output[..<count] == plaintext[..<count])
        }
    }

    @Test(arguments: CipherSuite.allCases)
    func everyChangedBitIsFound(suite: CipherSuite) throws {
        let cipher = try BlockCipher(suite)
        let key = Random.bytes(32)
        let plaintext = Random.bytes(20)
        // nonce 12, associated data 12, ciphertext 20, tag 16, in one row.
        var row = Random.bytes(24) + [UInt8](repeating: 0, count: 36)
        row.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            cipher.contexts.setSealingKey(key)
            cipher.contexts.seal(
                plaintext, count: 20, nonce: base, associatedData: base + 12, associatedDataCount: 12,
                output: base + 24, tag: base + 44)
        }
        #expect(opens(row, cipher, key))
        for bit in 0..<(row.count * 8) {
            var changed = row
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(!opens(changed, cipher, key), "bit \(bit)")
        }
        for bit in 0..<256 {
            var changed = key
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(!opens(row, cipher, changed), "key bit \(bit)")
        }
        // A failure leaves the context as good as before.
        #expect(opens(row, cipher, key))
    }

    private func opens(_ row: [UInt8], _ cipher: BlockCipher, _ key: [UInt8]) -> Bool {
        cipher.contexts.setOpeningKey(key)
        var output = [UInt8](repeating: 0, count: 20)
        return row.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return false }
            return cipher.contexts.open(
                base + 24, count: 20, nonce: base, associatedData: base + 12, associatedDataCount: 12, tag: base + 44,
                output: &output)
        }
    }
}
