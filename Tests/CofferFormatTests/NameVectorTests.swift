import CofferCrypto
import Testing

@testable import CofferFormat

/// Names, short and long, against the vectors.
struct NameVectorTests {
    private struct Vectors: Decodable {
        struct Valid: Decodable {
            let epoch: UInt8
            let limit: Int
            let name: HexBytes
            let sealed: HexBytes
            let entryText: String
            let companionsText: [String]
        }
        struct Invalid: Decodable {
            let whyText: String
            let sealed: HexBytes
        }
        let vaultKeys: [String: HexBytes]
        let directory: HexBytes
        let valid: [Valid]
        let invalid: [Invalid]
        let foreignText: [String]
        let reservedText: [String]
    }

    private let vectors: Vectors
    private let directory: DirectoryID

    init() throws {
        vectors = try loadVector("names")
        directory = DirectoryID(bytes: vectors.directory.bytes)
    }

    @Test func encoding() throws {
        #expect(Set(vectors.valid.map(\.limit)) == [64, 143, 255])
        for vector in vectors.valid {
            let codec = NameCodec(
                ring: try vectorRing(vectors.vaultKeys, only: vector.epoch), limit: vector.limit)
            let encoded = try codec.encoding(of: vector.name.bytes, in: directory)
            #expect(encoded.entry.description == vector.entryText)
            #expect(encoded.companions.map(\.description) == vector.companionsText)
        }
    }

    @Test func decoding() throws {
        // All keys at once: what does not name its epoch is tried under each.
        let ring = try vectorRing(vectors.vaultKeys)
        for vector in vectors.valid {
            let codec = NameCodec(ring: ring, limit: vector.limit)
            var sealed: [UInt8]
            switch NameCodec.kind(of: Array(vector.entryText.utf8)) {
            case .short(let bytes): sealed = bytes
            case .long(let tag):
                var pieces: [[UInt8]] = []
                for (number, companion) in vector.companionsText.enumerated() {
                    guard case .companion(tag, number, let piece) = NameCodec.kind(of: Array(companion.utf8)) else {
                        Issue.record("\(companion) is not companion \(number)")
                        return
                    }
                    pieces.append(piece)
                }
                sealed = try #require(NameCodec.join(tag: tag, pieces: pieces))
            default:
                Issue.record("\(vector.entryText) is no entry")
                return
            }
            #expect(sealed == vector.sealed.bytes)
            let opened = try #require(codec.open(sealed, in: [DirectoryID.random(), directory]))
            #expect(opened.name == vector.name.bytes && opened.id == directory)
            #expect(codec.open(sealed, in: [DirectoryID.random()]) == nil)
            sealed[sealed.count - 1] ^= 1
            #expect(codec.open(sealed, in: [directory]) == nil)
        }
    }

    @Test func theNewestEpochComesFirst() throws {
        let codec = NameCodec(ring: try vectorRing(vectors.vaultKeys), limit: 255)
        let vector = try #require(vectors.valid.first { $0.epoch == 3 && $0.limit == 255 })
        let older = try #require(vectors.valid.first { $0.epoch == 0 && $0.limit == 255 && $0.name == vector.name })
        #expect(codec.epochCount == 2)
        #expect(
            try codec.encodings(of: vector.name.bytes, in: directory).map(\.entry.description)
                == [vector.entryText, older.entryText])
    }

    @Test func whatIsNoNameDoesNotOpen() throws {
        let codec = NameCodec(ring: try vectorRing(vectors.vaultKeys), limit: 255)
        for vector in vectors.invalid {
            #expect(codec.open(vector.sealed.bytes, in: [directory]) == nil, "\(vector.whyText)")
        }
    }

    @Test func foreignAndReservedNames() throws {
        for name in vectors.foreignText { #expect(NameCodec.kind(of: Array(name.utf8)) == .foreign, "\(name)") }
        for name in vectors.reservedText { #expect(NameCodec.kind(of: Array(name.utf8)) == .reserved, "\(name)") }
        for name in [".", ".."] { #expect(NameCodec.kind(of: Array(name.utf8)) == .dots) }
    }
}
