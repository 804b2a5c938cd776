import CofferCrypto
import Testing

@testable import CofferFormat

/// Sealed blocks of both ciphers against the vectors.
struct BlockVectorTests {
    private struct Vectors: Decodable {
        struct Valid: Decodable {
            let cipher: UInt8
            let key: HexBytes
            let index: Int
            let final: Bool
            let reconstructed: Bool
            let gap: Int
            let nonce: HexBytes
            let plaintext: HexBytes
            let block: HexBytes
        }
        struct Invalid: Decodable {
            let whyText: String
            let cipher: UInt8
            let key: HexBytes
            let index: Int
            let block: HexBytes
        }
        let valid: [Valid]
        let invalid: [Invalid]
    }

    private let vectors: Vectors

    init() throws {
        vectors = try loadVector("blocks")
    }

    @Test func sealing() throws {
        #expect(vectors.valid.count == 16)
        for vector in vectors.valid {
            let suite = try #require(CipherSuite(rawValue: vector.cipher))
            var info = BlockInfo(final: vector.final, gap: vector.gap)
            if vector.reconstructed { info.rawValue |= 1 << 30 }
            let block = try seal(
                vector.plaintext.bytes, suite, vector.key.bytes, index: vector.index, info: info,
                nonce: vector.nonce.bytes)
            #expect(block == vector.block.bytes)
            #expect(block.count == vector.plaintext.bytes.count + BlockGeometry.overhead)
        }
    }

    @Test func opening() throws {
        for vector in vectors.valid {
            let suite = try #require(CipherSuite(rawValue: vector.cipher))
            let opened = try #require(
                try open(vector.block.bytes, suite, vector.key.bytes, index: vector.index), "block \(vector.index)")
            #expect(opened.plaintext == vector.plaintext.bytes)
            #expect(opened.info.isFinal == vector.final)
            #expect(opened.info.isReconstructed == vector.reconstructed)
            #expect(opened.info.gap == vector.gap)
        }
    }

    @Test func whatWasChangedDoesNotOpen() throws {
        #expect(vectors.invalid.count > 50)
        for vector in vectors.invalid {
            let suite = try #require(CipherSuite(rawValue: vector.cipher))
            let opened = try open(vector.block.bytes, suite, vector.key.bytes, index: vector.index)
            #expect(opened == nil, "\(vector.whyText)")
        }
    }

    private func associatedData(_ index: Int, _ info: BlockInfo) -> [UInt8] {
        withUnsafeBytes(of: UInt64(index).littleEndian) { Array($0) }
            + withUnsafeBytes(of: info.rawValue.littleEndian) { Array($0) }
    }

    private func seal(
        _ plaintext: [UInt8], _ suite: CipherSuite, _ key: [UInt8], index: Int, info: BlockInfo, nonce: [UInt8]
    ) throws -> [UInt8] {
        let cipher = try BlockCipher(suite)
        cipher.contexts.setSealingKey(key)
        // Room of one byte at least, so that every buffer has an address.
        var body = [UInt8](repeating: 0, count: plaintext.count + 1)
        var tag = [UInt8](repeating: 0, count: BlockCipher.tagCount)
        let input = plaintext + [0]
        let associated = associatedData(index, info)
        cipher.contexts.seal(
            input, count: plaintext.count, nonce: nonce, associatedData: associated,
            associatedDataCount: associated.count, output: &body, tag: &tag)
        return nonce + associated[8...] + body.dropLast() + tag
    }

    private func open(
        _ block: [UInt8], _ suite: CipherSuite, _ key: [UInt8], index: Int
    ) throws -> (plaintext: [UInt8], info: BlockInfo)? {
        let count = block.count - BlockGeometry.overhead
        try #require(count >= 0)
        let cipher = try BlockCipher(suite)
        cipher.contexts.setOpeningKey(key)
        let word = block[12..<16].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        let info = BlockInfo(rawValue: word)
        let associated = associatedData(index, info)
        var plaintext = [UInt8](repeating: 0, count: count + 1)
        let isOpen = cipher.contexts.open(
            Array(block[16...]), count: count, nonce: block, associatedData: associated,
            associatedDataCount: associated.count, tag: Array(block.suffix(16)), output: &plaintext)
        return isOpen ? (Array(plaintext.dropLast()), info) : nil
    }
}
