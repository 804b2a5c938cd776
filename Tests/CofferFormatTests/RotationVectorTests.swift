import CofferCrypto
import Testing

@testable import CofferFormat

/// What a rotation leaves to be done, and what seals are signed with, against the vectors.
struct RotationVectorTests {
    private struct Rotation: Decodable {
        struct Record: Decodable {
            let kind: UInt8
            let head: HexBytes
            let pathsText: [[String]]
            let sealed: HexBytes
        }
        struct Invalid: Decodable {
            let whyText: String
            let sealed: HexBytes
        }
        let vaultKeys: [String: HexBytes]
        let nonce: HexBytes
        let records: [Record]
        let invalid: [Invalid]
        let sealKeyText: String
    }

    private let vectors: Rotation
    private let ring: KeyRing

    init() throws {
        vectors = try loadVector("rotation")
        ring = try vectorRing(vectors.vaultKeys)
    }

    @Test func records() throws {
        for vector in vectors.records {
            let paths = vector.pathsText.map { $0.map { StoredName($0) } }
            let number = vector.head.bytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            let expected: RotationRecord =
                switch vector.kind {
                case 1: .names(header: vector.head.bytes, paths: paths)
                case 2: .mode(UInt32(number), path: paths[0])
                default: .links(inode: number, paths: paths)
                }
            #expect(try RotationRecord(opening: vector.sealed.bytes, under: ring) == expected)
            #expect(expected.sealed(under: ring, nonce: vectors.nonce.bytes) == vector.sealed.bytes)
            #expect(try RotationRecord(opening: expected.sealed(under: ring), under: ring) == expected)
        }
    }

    @Test func whatSaysNothingThatCanBeDone() {
        for vector in vectors.invalid {
            #expect(throws: FormatError.malformed, "\(vector.whyText)") {
                try RotationRecord(opening: vector.sealed.bytes, under: ring)
            }
        }
    }

    /// Any byte that is changed, cut off or added.
    @Test func changesAreNoticed() throws {
        for vector in vectors.records {
            let whole = vector.sealed.bytes
            for index in whole.indices {
                var changed = whole
                changed[index] ^= 1
                #expect(throws: FormatError.notAuthentic) { try RotationRecord(opening: changed, under: ring) }
                #expect(throws: FormatError.notAuthentic) {
                    try RotationRecord(opening: Array(whole[..<index]), under: ring)
                }
            }
            #expect(throws: FormatError.notAuthentic) { try RotationRecord(opening: whole + [0], under: ring) }
        }
        let other = try KeyRing(keys: [7: SecretKey.random()])
        #expect(throws: FormatError.notAuthentic) {
            try RotationRecord(opening: vectors.records[0].sealed.bytes, under: other)
        }
    }

    @Test func theKeyOfSeals() throws {
        let key = try SealKey.signing(ring)
        #expect(SealKey.text(key.publicKey) == vectors.sealKeyText)
        #expect(try SealKey.parse("# a comment\n\(vectors.sealKeyText)\n") == key.publicKey)
        let message = Array("anything".utf8)
        let signature = key.sign(message)
        #expect(SigningKey.verify(signature, of: message, by: key.publicKey))
        #expect(!SigningKey.verify(signature, of: message + [0], by: key.publicKey))
        #expect(!SigningKey.verify([UInt8](signature.dropLast()), of: message, by: key.publicKey))
        for text in ["", "coffer-seal-1:", String(vectors.sealKeyText.dropLast()), vectors.sealKeyText + "A"] {
            #expect(throws: FormatError.malformed) { try SealKey.parse(text) }
        }
    }
}
