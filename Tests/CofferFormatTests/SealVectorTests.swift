import CofferCrypto
import Randomness
import Testing

@testable import CofferFormat

/// What a seal is made of, against the vectors; and that nothing else is taken for one.
struct SealVectorTests {
    private final class Entry: Decodable {
        let nameText: String
        let kind: String
        let mode: UInt32
        let owner: UInt32
        let group: UInt32
        let time: Int64
        let attributes: HexBytes?
        let size: UInt64?
        let contents: HexBytes?
        let text: String?
        let device: UInt64?
        let unsure: Bool?
        let damaged: Bool?
        let inside: [Entry]?

        var record: SealRecord {
            let kind: SealRecord.Kind =
                switch kind {
                case "directory": .directory
                case "file": .file(size: size ?? 0, contents: contents?.bytes ?? [])
                case "link": .link(Array((text ?? "").utf8))
                default: .other(device: device ?? 0)
                }
            var record = SealRecord(
                name: Array(nameText.utf8), mode: mode, owner: owner, group: group, time: time,
                attributes: attributes?.bytes, kind: kind)
            record.isUnsure = unsure ?? false
            record.isDamaged = damaged ?? false
            return record
        }
    }
    private struct Vectors: Decodable {
        struct Contents: Decodable {
            let size: Int
            let hash: HexBytes
        }
        let vaultKeys: [String: HexBytes]
        let vaultId: HexBytes
        let root: Entry
        let tree: [Entry]
        let manifest: HexBytes
        let rootHash: HexBytes
        let head: HexBytes
        let headHash: HexBytes
        let counter: UInt64
        let time: Int64
        let previous: HexBytes
        let entries: UInt64
        let bytes: UInt64
        let anchorText: String
        let contents: [Contents]
    }

    private let vectors: Vectors
    private let key: SigningKey

    init() throws {
        vectors = try loadVector("seals")
        key = try SealKey.signing(vectorRing(vectors.vaultKeys))
    }

    @Test func manifestAndTree() throws {
        var manifest: [UInt8] = []
        var tree = SealTree()
        func add(_ entry: Entry, _ inside: [Entry]) {
            let raw = entry.record.encoded
            manifest += raw
            raw.withUnsafeBytes { tree.add($0, isDirectory: entry.record.isDirectory) }
            guard entry.record.isDirectory else { return }
            for entry in inside.sorted(by: {
                Array($0.nameText.utf8).lexicographicallyPrecedes(Array($1.nameText.utf8))
            }) {
                add(entry, entry.inside ?? [])
            }
            manifest.append(SealRecord.end)
            tree.end()
        }
        add(vectors.root, vectors.tree)
        #expect(manifest == vectors.manifest.bytes)
        #expect(tree.root() == vectors.rootHash.bytes)

        var rest = manifest[...]
        var found = 0
        while !rest.isEmpty {
            let (record, count) = try SealRecord.parse(rest)
            if let record {
                found += 1
                #expect(record.encoded.elementsEqual(rest.prefix(count)))
            }
            rest = rest.dropFirst(count)
        }
        #expect(found == Int(vectors.entries) + 1)
    }

    @Test func head() throws {
        let head = SealHead(
            counter: vectors.counter, time: vectors.time, vaultID: vectors.vaultId.bytes,
            previous: vectors.previous.bytes, root: vectors.rootHash.bytes, entries: vectors.entries,
            bytes: vectors.bytes, manifestCount: UInt64(vectors.manifest.bytes.count), publicKey: key.publicKey)
        #expect(head.signed(by: key) == vectors.head.bytes)
        #expect(try SealHead(opening: vectors.head.bytes, publicKey: key.publicKey) == head)
        #expect(SealHead.hash(vectors.head.bytes) == vectors.headHash.bytes)
        let anchor = SealAnchor(head)
        #expect(anchor.text == vectors.anchorText)
        #expect(try SealAnchor(vectors.anchorText.lowercased()) == anchor)
        #expect(anchor.isOf(head))
        #expect(SealHead.counter(inFileName: Array("00000005".utf8)) == 5)
        for name in [
            "5", "000000005", "+0000005", "0000000x", "", "new.AAAA", "1099511627776", "18446744073709551615",
            "00000005 ",
        ] {
            #expect(SealHead.counter(inFileName: Array(name.utf8)) == nil, "\(name)")
        }
        #expect(SealHead.fileName(1_234_567_890).description == "1234567890")
    }

    /// Each bit of the head and the signature; cut, and under another key.
    @Test func changesAreNoticed() throws {
        for index in vectors.head.bytes.indices {
            for bit in 0..<8 {
                var changed = vectors.head.bytes
                changed[index] ^= 1 << bit
                #expect(throws: FormatError.self, "byte \(index)") {
                    try SealHead(opening: changed, publicKey: key.publicKey)
                }
            }
        }
        for count in 0..<SealHead.byteCount {
            #expect(throws: FormatError.malformed) {
                try SealHead(opening: Array(vectors.head.bytes.prefix(count)), publicKey: key.publicKey)
            }
        }
        let other = try SigningKey(seed: SecretKey(copying: [UInt8](repeating: 9, count: 32)))
        #expect(throws: FormatError.notAuthentic) {
            try SealHead(opening: vectors.head.bytes, publicKey: other.publicKey)
        }
    }

    @Test func contents() {
        for vector in vectors.contents {
            let isHole = vector.size == 3 * ContentHash.partCount
            let data = (0..<vector.size).map { index in
                isHole
                    ? 0 : vector.size == 1 ? 1 : index == ContentHash.partCount ? 2 : UInt8(truncatingIfNeeded: index)
            }
            let hash = ContentHash(size: vector.size)
            for part in 0..<ContentHash.parts(ofSize: vector.size) {
                let start = part * ContentHash.partCount
                let running = RunningHash()
                running.update(Array(data[start..<min(vector.size, start + ContentHash.partCount)]))
                let digest = running.finish()
                if isHole { #expect(digest == ContentHash.zeroPart) }
                digest.withUnsafeBytes { hash.add($0) }
            }
            #expect(hash.finish() == vector.hash.bytes, "\(vector.size) bytes")
        }
    }

    /// Whatever bytes: a record, an end, or an error, and never more than there is; what is read is written the same.
    @Test func anyBytes() {
        var random = SeededRandom(seed: UInt64(environmentNumber("COFFER_FIRST_SEED") ?? 7))
        var parsed = 0
        for _ in 0..<20_000 {
            var bytes = vectors.manifest.bytes
            bytes.removeFirst(random.below(bytes.count))
            for _ in 0..<random.below(4) where !bytes.isEmpty {
                bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
            }
            do throws(FormatError) {
                let (record, count) = try SealRecord.parse(bytes[...])
                #expect(count <= bytes.count)
                if let record {
                    parsed += 1
                    #expect(record.encoded.elementsEqual(bytes.prefix(count)))
                }
            } catch {
                #expect(error == .malformed)
            }
        }
        #expect(parsed > 100)
    }
}
