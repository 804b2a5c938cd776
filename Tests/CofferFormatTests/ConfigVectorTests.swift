import CofferCrypto
import Testing

@testable import CofferFormat

/// Every construction of coffer.json against the vectors that an independent program has checked.
struct ConfigVectorTests {
    private let vector: ConfigVector
    private let file: ConfigFile
    private let slot: KeySlot

    init() throws {
        vector = try ConfigVector.load()
        file = try ConfigFile(parsing: Array(vector.text.utf8))
        slot = try #require(file.unverified.slots.first)
    }

    @Test func opens() throws {
        let config = try openConfig(Array(vector.text.utf8), passphrase: vector.passphrase)
        #expect(config.cipher == .chacha20Poly1305)
        #expect(config.nameMax == 143)
        #expect(config.counter == 7)
        #expect(config.slots.map(\.type) == ["passphrase", "x-future"])
        #expect(config.slots[0].text("label") == "the \"first\" slot \\ ключ\t1")
        #expect(config.slots[1].number("alpha") == 1 << 53)
    }

    @Test func canonicalBytes() {
        #expect(Hex.encode(slot.canonicalBytes(without: "mac")) == vector.slotCanonical)
        #expect(Hex.encode(slot.canonicalBytes(without: "mac", "wrap")) == vector.slotCanonicalUnwrapped)
    }

    @Test func slotKeyAndWrap() throws {
        let key = try Argon2id.key(
            passphrase: Array(vector.passphrase.utf8), salt: #require(Hex.decode(vector.salt)), operationsLimit: 1,
            memoryLimit: 8 << 20)
        #expect(key.hex == vector.slotKey)
        let ringKey = try slot.ringKey(under: key)
        #expect(ringKey.hex == vector.ringKey)
        let again = try slot.wrapping(ringKey, under: key, nonce: #require(Hex.decode(vector.wrapNonce)))
        #expect(again.text("wrap") == slot.text("wrap"))
    }

    @Test func ring() throws {
        let ring = try vector.ring()
        let ringKey = try SecretKey(hex: vector.ringKey)
        let vaultID = file.unverified.vaultID
        let nonce = try #require(Hex.decode(vector.ringNonce))
        #expect(try ring.wrapped(under: ringKey, vaultID: vaultID, nonce: nonce) == file.unverified.ring)
        let opened = try KeyRing(unwrapping: file.unverified.ring, under: ringKey, vaultID: vaultID)
        #expect(opened.epochsNewestFirst == [3, 0])
        #expect(opened.newestSubkey(.configuration).hex == vector.configKey)
        for (epoch, fingerprint) in vector.fingerprints {
            #expect(opened.fingerprint(epoch: try #require(UInt8(epoch))) == fingerprint)
        }
    }

    /// Writing what was read gives the same bytes, MACs included.
    @Test func writesTheSameText() throws {
        let written = try ConfigFile(sealing: file.unverified, with: vector.ring())
        #expect(String(decoding: written.bytes, as: UTF8.self) == vector.text)
        #expect(written == file)
    }

    @Test func refusesWhatTheOtherDecoderRefuses() throws {
        #expect(vector.refused.count >= 17)
        for refused in vector.refused {
            #expect(throws: (any Error).self, "\(refused.why)") {
                try openConfig(Array(refused.text.utf8), passphrase: vector.passphrase)
            }
        }
    }
}
