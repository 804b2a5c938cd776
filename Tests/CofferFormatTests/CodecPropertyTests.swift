import CofferCrypto
import Randomness
import Testing

@testable import CofferFormat

/// Records, links and attributes: there and back at random, and any garbage refused without a crash.
struct CodecPropertyTests {
    private let ring: KeyRing

    init() throws {
        ring = try KeyRing(keys: [1: SecretKey.random(), 2: SecretKey.random()])
    }

    @Test func recordsThereAndBack() throws {
        let records = DirectoryRecords(ring: ring)
        var random = SeededRandom(seed: 1)
        for _ in 0..<200 {
            let identities = (0..<random.below(4)).map { _ in
                DirectoryIdentity(
                    derived: DirectoryID(bytes: random.anyBytes(16)),
                    pins: (0..<random.below(5)).map { _ in DirectoryID(bytes: random.anyBytes(16)) },
                    isMarked: random.below(2) == 0)
            }
            let file = try records.encode(identities)
            // Equal records are equal bytes, and what was read writes the same again.
            let read = try identities.map { try records.decode(file, derived: $0.derived) }
            #expect(read == identities)
            #expect(try records.encode(read) == file)
            #expect(file.count <= DirectoryRecords.maximumByteCount)
        }
    }

    @Test func changedRecordsAreRefusedOrPassedOver() throws {
        let records = DirectoryRecords(ring: ring)
        var random = SeededRandom(seed: 2)
        let place = DirectoryID(bytes: random.anyBytes(16))
        let pins = (0..<3).map { _ in DirectoryID(bytes: random.anyBytes(16)) }
        let file = try records.encode([DirectoryIdentity(derived: place, pins: pins, isMarked: true)])
        for _ in 0..<3000 {
            var changed = file
            for _ in 0...random.below(3) {
                switch random.below(3) {
                case 0: changed[random.below(changed.count)] ^= UInt8(1 + random.below(255))
                case 1: changed = Array(changed.prefix(1 + random.below(changed.count)))
                default: changed += random.anyBytes(random.below(100))
                }
            }
            do {
                let identity = try records.decode(changed, derived: place)
                #expect(identity.pins.allSatisfy { pins.contains($0) }, "seed 2")
            } catch {
                #expect(error == .malformed || error == .unsupported, "seed 2")
            }
        }
    }

    @Test func linkTargetsOfAllLengths() throws {
        let codec = LinkCodec(ring: ring)
        var random = SeededRandom(seed: 3)
        for count in 1...LinkCodec.maximumPlainCount {
            let textCount = Base64URL.encodedCount(1 + SmallAEAD.overhead + count)
            if LinkCodec.plainCount(textCount: textCount) != count || textCount <= LinkCodec.overflowTextCount {
                Issue.record("\(count) bytes are \(textCount) characters")
            }
        }
        for count in [1, 2, 255, 3000, 4095] {
            let target = random.name(count)
            let companion = random.anyBytes(16)
            #expect(try codec.open(try codec.seal(target)) == target)
            let sealed = try codec.seal(target, companion: companion)
            #expect(try codec.open(sealed, companion: companion) == target)
            let link = LinkCodec.overflow(companion: companion, plainCount: count)
            let parsed = try #require(LinkCodec.parseOverflow(link.text.bytes))
            #expect(parsed.companion == companion && parsed.file == link.file && parsed.plainCount == count)
        }
    }

    @Test func anyTextIsALinkOrNot() throws {
        let codec = LinkCodec(ring: ring)
        var random = SeededRandom(seed: 4)
        let link = LinkCodec.overflow(companion: random.anyBytes(16), plainCount: 3456).text.bytes
        for _ in 0..<4000 {
            var text = random.below(4) == 0 ? random.anyBytes(random.below(60)) : link
            if !text.isEmpty { text[random.below(text.count)] = UInt8(random.below(128)) }
            if let parsed = LinkCodec.parseOverflow(text) {
                let again = LinkCodec.overflow(companion: parsed.companion, plainCount: parsed.plainCount)
                #expect(again.text.bytes == text, "seed 4")
            }
            #expect(throws: FormatError.notAuthentic, "seed 4") { try codec.open(text) }
            #expect(LinkCodec.plainCount(textCount: text.count) >= 0)
        }
    }

    @Test func attributesThereAndBack() throws {
        let codec = AttributeCodec(ring: ring)
        var random = SeededRandom(seed: 5)
        for count in 1...255 {
            let name = random.name(count)
            let owner = random.anyBytes(16)
            let value = random.anyBytes(random.below(200))
            for prefix in [AttributeCodec.userPrefix, AttributeCodec.trustedPrefix] {
                let stored = try #require(codec.storedNames(of: name, owner: owner, prefix: prefix).first)
                #expect(stored.count <= 255 && stored.bytes.starts(with: prefix))
                let sealed = try codec.seal(value, name: name, owner: owner, prefix: prefix)
                #expect(try codec.open(sealed, name: name, owner: owner, prefix: prefix) == value)
                switch AttributeCodec.kind(of: stored.bytes) {
                case .short(let sealedName): #expect(codec.openName(sealedName, owner: owner) == name)
                case .long(let tag): #expect(codec.longName(in: sealed, tag: tag, owner: owner) == name)
                case .foreign: Issue.record("\(stored) is foreign")
                }
                var changed = sealed
                changed[random.below(changed.count)] ^= UInt8(1 + random.below(255))
                #expect(throws: FormatError.notAuthentic, "seed 5") {
                    try codec.open(changed, name: name, owner: owner, prefix: prefix)
                }
            }
        }
    }

    @Test func anyTextIsAnAttributeOrNot() throws {
        let codec = AttributeCodec(ring: ring)
        var random = SeededRandom(seed: 6)
        let owner = random.anyBytes(16)
        let names = [20, 200].map {
            codec.storedNames(of: random.name($0), owner: owner, prefix: AttributeCodec.userPrefix)[0].bytes
        }
        for _ in 0..<4000 {
            var text = random.below(4) == 0 ? random.anyBytes(random.below(256)) : names[random.below(2)]
            if !text.isEmpty { text[random.below(text.count)] = UInt8(random.below(256)) }
            switch AttributeCodec.kind(of: text) {
            case .short(let sealed):
                #expect(
                    Base64URL.encode(sealed).elementsEqual(text.suffix(Base64URL.encodedCount(sealed.count))), "seed 6")
                let isUnchanged = names.contains(text)
                #expect((codec.openName(sealed, owner: owner) != nil) == isUnchanged, "seed 6")
            case .long(let tag): #expect(tag.count == SIV.tagCount, "seed 6")
            case .foreign: break
            }
        }
    }
}
