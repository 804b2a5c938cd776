import CofferCrypto
import Testing

/// The constructions over the primitives: every changed byte is found, and equal is equal.
struct ConstructionTests {
    private let associated = Random.bytes(16)

    @Test func siv() throws {
        let siv = SIV(macKey: try .random(), encryptionKey: try .random())
        for count in [0, 1, 16, 100, 256] {
            let plaintext = Random.bytes(count)
            let sealed = siv.seal(plaintext, associatedData: associated)
            #expect(sealed.count == count + SIV.tagCount)
            #expect(siv.seal(plaintext, associatedData: associated) == sealed)
            #expect(try siv.open(sealed, associatedData: associated) == plaintext)
            #expect(siv.unverifiedPlaintext(of: sealed) == plaintext)
            expectEveryByteCounts(sealed) { try siv.open($0, associatedData: associated) }
            #expect(throws: CryptoError.notAuthentic) { try siv.open(sealed, associatedData: Random.bytes(16)) }
        }
        let other = SIV(macKey: try .random(), encryptionKey: try .random())
        let sealed = siv.seal([1, 2, 3], associatedData: associated)
        #expect(throws: CryptoError.notAuthentic) { try other.open(sealed, associatedData: associated) }
    }

    @Test func smallAEAD() throws {
        let aead = SmallAEAD(key: try .random())
        for count in [0, 1, 100, 4095] {
            let plaintext = Random.bytes(count)
            let sealed = aead.seal(plaintext, associatedData: associated)
            #expect(sealed.count == count + SmallAEAD.overhead)
            #expect(aead.seal(plaintext, associatedData: associated) != sealed)
            #expect(try aead.open(sealed, associatedData: associated) == plaintext)
            #expect(throws: CryptoError.notAuthentic) { try aead.open(sealed, associatedData: []) }
            if count <= 100 { expectEveryByteCounts(sealed) { try aead.open($0, associatedData: associated) } }
        }
    }

    @Test func keyWrap() throws {
        let key = try SecretKey.random()
        let wrap = try KeyWrap(key: key, label: "one use")
        let secret = Random.bytes(33)
        let blob = wrap.wrap(secret, associatedData: associated)
        #expect(blob.count == secret.count + KeyWrap.overhead)
        #expect(try wrap.unwrap(blob, associatedData: associated) == secret)
        expectEveryByteCounts(blob) { try wrap.unwrap($0, associatedData: associated) }
        #expect(throws: CryptoError.notAuthentic) { try wrap.unwrap(blob, associatedData: []) }
        let others = [
            try KeyWrap(key: key, label: "another use"), try KeyWrap(key: try .random(), label: "one use"),
        ]
        for other in others {
            #expect(throws: CryptoError.notAuthentic) { try other.unwrap(blob, associatedData: associated) }
        }
    }

    @Test func hashesJoinTheirParts() throws {
        let key = try SecretKey.random()
        var parts = Hash(key: key, outputCount: 32)
        parts.update("co")
        parts.update([0x66, 0x66])
        parts.update("er")
        var whole = Hash(key: key, outputCount: 32)
        whole.update("coffer")
        #expect(parts.finish() == whole.finish())
        var output = [UInt8](repeating: 0, count: 32)
        output.withUnsafeMutableBytes { target in
            Array("coffer".utf8).withUnsafeBytes { Hash.keyed(key, $0, into: target) }
        }
        #expect(output == whole.finish())
        var unkeyed = Hash(outputCount: 32)
        unkeyed.update("coffer")
        #expect(unkeyed.finish() != whole.finish())
    }

    /// Nothing but the whole, unchanged text opens.
    private func expectEveryByteCounts(
        _ sealed: [UInt8], sourceLocation: SourceLocation = #_sourceLocation, _ open: ([UInt8]) throws -> [UInt8]
    ) {
        for index in sealed.indices {
            var changed = sealed
            changed[index] ^= 0x10
            #expect(throws: CryptoError.notAuthentic, sourceLocation: sourceLocation) { try open(changed) }
        }
        for count in [0, 1, sealed.count - 1] {
            #expect(throws: CryptoError.notAuthentic, sourceLocation: sourceLocation) {
                try open(Array(sealed.prefix(count)))
            }
        }
        #expect(throws: CryptoError.notAuthentic, sourceLocation: sourceLocation) { try open(sealed + [0]) }
    }
}
