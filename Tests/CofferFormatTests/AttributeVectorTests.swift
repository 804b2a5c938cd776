import CofferCrypto
import Testing

@testable import CofferFormat

/// Extended attributes against the vectors.
struct AttributeVectorTests {
    private struct Attributes: Decodable {
        struct Valid: Decodable {
            let epoch: UInt8
            let owner: HexBytes
            let prefixText: String
            let nameText: String
            let value: HexBytes
            let nonce: HexBytes
            let sealedName: HexBytes
            let storedNameText: String
            let storedValue: HexBytes
        }
        struct Invalid: Decodable {
            let whyText: String
            let owner: HexBytes
            let nameText: String
            let storedValue: HexBytes
        }
        let vaultKeys: [String: HexBytes]
        let valid: [Valid]
        let invalid: [Invalid]
        let foreignText: [String]
    }

    private let vectors: Attributes
    private let codec: AttributeCodec

    init() throws {
        vectors = try loadVector("attributes")
        codec = AttributeCodec(ring: try vectorRing(vectors.vaultKeys))
    }

    @Test func names() throws {
        for vector in vectors.valid {
            let (name, prefix) = (Array(vector.nameText.utf8), Array(vector.prefixText.utf8))
            let stored = codec.storedNames(of: name, owner: vector.owner.bytes, prefix: prefix).map(\.description)
            // Newest first: epoch 3, then 0.
            #expect(stored.count == 2)
            #expect(stored[vector.epoch == 3 ? 0 : 1] == vector.storedNameText)
            switch AttributeCodec.kind(of: Array(vector.storedNameText.utf8)) {
            case .short(let sealed):
                #expect(sealed == vector.sealedName.bytes)
                #expect(codec.openName(sealed, owner: vector.owner.bytes) == name)
                #expect(codec.openName(sealed, owner: Random.bytes(16)) == nil)
            case .long(let tag):
                #expect(tag == Array(vector.sealedName.bytes.prefix(16)))
                let stored = vector.storedValue.bytes
                #expect(codec.longName(in: stored, tag: tag, owner: vector.owner.bytes) == name)
                #expect(codec.longName(in: stored, tag: tag.reversed(), owner: vector.owner.bytes) == nil)
                #expect(codec.longName(in: stored, tag: tag, owner: Random.bytes(16)) == nil)
            case .foreign: Issue.record("\(vector.storedNameText) is foreign")
            }
        }
    }

    @Test func values() throws {
        for vector in vectors.valid {
            let (name, prefix) = (Array(vector.nameText.utf8), Array(vector.prefixText.utf8))
            let owner = vector.owner.bytes
            #expect(
                try codec.open(vector.storedValue.bytes, name: name, owner: owner, prefix: prefix) == vector.value.bytes
            )
            let writer = AttributeCodec(ring: try vectorRing(vectors.vaultKeys, only: vector.epoch))
            #expect(
                try writer.seal(
                    vector.value.bytes, name: name, owner: owner, prefix: prefix, nonce: vector.nonce.bytes)
                    == vector.storedValue.bytes)
            let own = try codec.seal(vector.value.bytes, name: name, owner: owner, prefix: prefix)
            #expect(own.count == vector.storedValue.bytes.count)
            #expect(try codec.open(own, name: name, owner: owner, prefix: prefix) == vector.value.bytes)
        }
    }

    @Test func whatIsNoValue() {
        for vector in vectors.invalid {
            #expect(throws: FormatError.notAuthentic, "\(vector.whyText)") {
                try codec.open(
                    vector.storedValue.bytes, name: Array(vector.nameText.utf8), owner: vector.owner.bytes,
                    prefix: AttributeCodec.userPrefix)
            }
        }
    }

    @Test func foreignNames() {
        for name in vectors.foreignText {
            #expect(AttributeCodec.kind(of: Array(name.utf8)) == .foreign, "\(name)")
        }
    }
}
