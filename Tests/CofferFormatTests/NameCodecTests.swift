import CofferCrypto
import Randomness
import Testing

@testable import CofferFormat

/// Names of all lengths and limits, there and back, and texts that are none.
struct NameCodecTests {
    private let ring: KeyRing
    private let directory = DirectoryID.root(vaultID: [UInt8](repeating: 7, count: 16))

    init() throws {
        ring = try KeyRing(keys: [0: SecretKey.random(), 9: SecretKey.random()])
    }

    @Test(arguments: [64, 65, 100, 143, 200, 254, 255])
    func everyLengthThereAndBack(limit: Int) throws {
        let codec = NameCodec(ring: ring, limit: limit)
        var random = SeededRandom(seed: UInt64(limit))
        for count in 1...NameCodec.maximumPlainCount {
            let name = random.name(count)
            for encoded in try codec.encodings(of: name, in: directory) {
                #expect(encoded.entry.count <= limit)
                #expect(encoded.companions.allSatisfy { $0.count <= limit } && encoded.companions.count < 100)
                let opened = try #require(
                    try open(encoded, codec), "\(count) bytes at limit \(limit), seed \(limit)")
                #expect(opened.name == name && opened.id == directory)
            }
        }
    }

    @Test func whatIsNoNameIsRefused() {
        let codec = NameCodec(ring: ring, limit: 255)
        for name in [[], [0x2E], [0x2E, 0x2E], Array("a/b".utf8), [0x61, 0]] as [[UInt8]] {
            #expect(throws: FormatError.malformed) { try codec.encoding(of: name, in: directory) }
        }
        #expect(throws: FormatError.tooLong) {
            try codec.encoding(of: [UInt8](repeating: 0x61, count: 256), in: directory)
        }
    }

    @Test func equalNamesAreEqualOnlyInOneDirectory() throws {
        let codec = NameCodec(ring: ring, limit: 255)
        let name = Array("name".utf8)
        let encoded = try codec.encoding(of: name, in: directory)
        #expect(try codec.encoding(of: name, in: directory) == encoded)
        #expect(try codec.encoding(of: name, in: directory.child(name)) != encoded)
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func anyTextHasAKind(seed: UInt64) throws {
        let codec = NameCodec(ring: ring, limit: 64)
        var random = SeededRandom(seed: seed)
        let long = try codec.encoding(of: random.name(200), in: directory)
        let seeds =
            [
                try codec.encoding(of: random.name(9), in: directory).entry.bytes, long.entry.bytes,
                Array("coffer.".utf8),
            ]
            + long.companions.map(\.bytes)
        for _ in 0..<8000 {
            var text = random.below(5) == 0 ? random.anyBytes(random.below(256)) : seeds[random.below(seeds.count)]
            for _ in 0..<random.below(4) where !text.isEmpty {
                switch random.below(4) {
                case 0: text[random.below(text.count)] = UInt8(random.below(256))
                case 1: text.remove(at: random.below(text.count))
                case 2: text.insert(UInt8(random.below(256)), at: random.below(text.count))
                default: text.swapAt(random.below(text.count), random.below(text.count))
                }
            }
            // What is taken for an entry is exactly what its parts would be written as.
            switch NameCodec.kind(of: text) {
            case .short(let sealed):
                #expect(Array("c".utf8) + Base64URL.encode(sealed) == text, "seed \(seed)")
                _ = codec.open(sealed, in: [directory])
            case .long(let tag):
                #expect(Array("coffer.long.".utf8) + Base64URL.encode(tag) == text, "seed \(seed)")
                #expect(tag.count == SIV.tagCount)
            case .companion(let tag, let index, let piece):
                #expect(tag.count == SIV.tagCount && (0...99).contains(index) && !piece.isEmpty, "seed \(seed)")
                _ = NameCodec.join(tag: tag, pieces: [piece])
            case .reserved: #expect(text.starts(with: Array("coffer.".utf8)), "seed \(seed)")
            case .dots: #expect([[0x2E], [0x2E, 0x2E]].contains(text), "seed \(seed)")
            case .foreign: break
            }
        }
    }

    @Test func piecesInAnotherOrderAreNotTheName() throws {
        let codec = NameCodec(ring: ring, limit: 64)
        var random = SeededRandom(seed: 4)
        let encoded = try codec.encoding(of: random.name(255), in: directory)
        #expect(encoded.companions.count > 2)
        for other in [Array(encoded.companions.reversed()), Array(encoded.companions.dropLast()), []] {
            #expect(try open(EncodedName(entry: encoded.entry, companions: other), codec) == nil)
        }
    }

    @Test func padding() {
        for count in 1...255 {
            let name = [UInt8](repeating: 0x61, count: count)
            let padded = NameCodec.pad(name)
            #expect(padded.count % 16 == 0 && padded.count > count && padded.count <= count + 16)
            #expect(NameCodec.unpad(padded) == name)
            #expect(NameCodec.unpad(padded + [UInt8](repeating: 0, count: 16)) == nil)
            #expect(NameCodec.unpad(name + [UInt8](repeating: 0, count: 16 - count % 16)) == nil)
        }
        // A mark that belongs to the name, and names that end in zeros or are none.
        #expect(NameCodec.unpad(NameCodec.pad([0x61, 0x80])) == [0x61, 0x80])
        for padded in [[], [UInt8](repeating: 0, count: 16), NameCodec.pad([]), NameCodec.pad([0x61, 0])] {
            #expect(NameCodec.unpad(padded) == nil)
        }
        for name in [[0x2E], [0x2E, 0x2E], [0x61, 0x2F]] as [[UInt8]] {
            #expect(NameCodec.unpad(NameCodec.pad(name)) == nil)
        }
        #expect(NameCodec.unpad(NameCodec.pad([UInt8](repeating: 0x61, count: 256))) == nil)
    }

    /// Opens what was stored as a reader does: by the kinds of the names alone.
    private func open(_ encoded: EncodedName, _ codec: NameCodec) throws -> (name: [UInt8], id: DirectoryID)? {
        switch NameCodec.kind(of: encoded.entry.bytes) {
        case .short(let sealed):
            #expect(encoded.companions.isEmpty)
            return codec.open(sealed, in: [DirectoryID.random(), directory])
        case .long(let tag):
            let pieces = encoded.companions.compactMap { companion -> [UInt8]? in
                guard case .companion(tag, _, let piece) = NameCodec.kind(of: companion.bytes) else { return nil }
                return piece
            }
            #expect(pieces.count == encoded.companions.count)
            return NameCodec.join(tag: tag, pieces: pieces).flatMap { codec.open($0, in: [directory]) }
        default: return nil
        }
    }
}
