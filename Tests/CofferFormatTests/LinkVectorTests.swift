import CofferCrypto
import Testing

@testable import CofferFormat

/// Symbolic links and attributes against the vectors.
struct LinkVectorTests {
    private struct Links: Decodable {
        struct Inline: Decodable {
            let epoch: UInt8
            let nonce: HexBytes
            let target: HexBytes
            let sealed: HexBytes
            let linkText: String
        }
        struct Overflow: Decodable {
            let epoch: UInt8
            let nonce: HexBytes
            let companion: HexBytes
            let target: HexBytes
            let linkText: String
            let fileNameText: String
            let file: HexBytes
        }
        struct Invalid: Decodable {
            let whyText: String
            let sealed: HexBytes
        }
        let vaultKeys: [String: HexBytes]
        let inline: [Inline]
        let overflow: [Overflow]
        let invalid: [Invalid]
        let notOverflowText: [String]
    }

    private let vectors: Links
    private let ring: KeyRing
    private let codec: LinkCodec

    init() throws {
        vectors = try loadVector("links")
        ring = try vectorRing(vectors.vaultKeys)
        codec = LinkCodec(ring: ring)
    }

    @Test func inlineTargets() throws {
        for vector in vectors.inline {
            let aead = SmallAEAD(key: try #require(ring.subkey(.symlinks, epoch: vector.epoch)))
            let sealed = aead.seal(
                vector.target.bytes, associatedData: Array("coffer.symlink".utf8), nonce: vector.nonce.bytes)
            #expect([vector.epoch] + sealed == vector.sealed.bytes)
            #expect(Base64URL.text(vector.sealed.bytes) == vector.linkText)
            #expect(Base64URL.decode(vector.linkText) == vector.sealed.bytes)
            #expect(try codec.open(vector.sealed.bytes) == vector.target.bytes)
            #expect(LinkCodec.plainCount(textCount: vector.linkText.utf8.count) == vector.target.bytes.count)
            #expect(LinkCodec.parseOverflow(Array(vector.linkText.utf8)) == nil)
        }
    }

    @Test func overflowingTargets() throws {
        for vector in vectors.overflow {
            let companion = vector.companion.bytes
            let aead = SmallAEAD(key: try #require(ring.subkey(.symlinks, epoch: vector.epoch)))
            let sealed = aead.seal(
                vector.target.bytes, associatedData: Array("coffer.symlink".utf8) + companion, nonce: vector.nonce.bytes
            )
            #expect([vector.epoch] + sealed == vector.file.bytes)
            #expect(try codec.open(vector.file.bytes, companion: companion) == vector.target.bytes)
            #expect(throws: FormatError.notAuthentic) {
                try codec.open(vector.file.bytes, companion: companion.reversed())
            }
            let made = LinkCodec.overflow(companion: companion, plainCount: vector.target.bytes.count)
            #expect(made.text.description == vector.linkText && made.file.description == vector.fileNameText)
            #expect(made.text.count == LinkCodec.overflowTextCount)
            let parsed = try #require(LinkCodec.parseOverflow(Array(vector.linkText.utf8)))
            #expect(parsed.companion == companion && parsed.file == made.file)
            #expect(parsed.plainCount == vector.target.bytes.count)
        }
    }

    @Test func whatIsNoTarget() {
        for vector in vectors.invalid {
            #expect(throws: FormatError.notAuthentic, "\(vector.whyText)") { try codec.open(vector.sealed.bytes) }
        }
        for text in vectors.notOverflowText { #expect(LinkCodec.parseOverflow(Array(text.utf8)) == nil, "\(text)") }
    }

    @Test func sealingIsUnderTheNewestEpoch() throws {
        let target = Array("../somewhere".utf8)
        let sealed = try codec.seal(target)
        #expect(sealed.first == 3)
        #expect(try codec.open(sealed) == target)
        #expect(try codec.seal(target) != sealed)
        let bound = try codec.seal(target, companion: [UInt8](repeating: 1, count: 16))
        #expect(throws: FormatError.notAuthentic) { try codec.open(bound) }
    }
}
