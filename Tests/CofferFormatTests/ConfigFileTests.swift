import CofferCrypto
import Testing

@testable import CofferFormat

/// Bounds and shape of coffer.json, and what its MAC covers.
struct ConfigFileTests {
    private let ring: KeyRing
    private let ringKey: SecretKey
    private let config: VaultConfig

    init() throws {
        ring = try KeyRing(keys: [0: .random(), 1: .random()])
        ringKey = try SecretKey.random()
        let vaultID = Random.bytes(16)
        config = VaultConfig(
            vaultID: vaultID, cipher: .aes256GCM, nameMax: 255, counter: 1,
            ring: try ring.wrapped(under: ringKey, vaultID: vaultID), slots: [Self.slot(1), Self.slot(2)])
    }

    private static func slot(_ number: UInt8, label: String = "") -> KeySlot {
        KeySlot(members: [
            .init(name: "type", value: .text("test")),
            .init(name: "id", value: .text(Hex.encode([0, 0, 0, 0, 0, 0, 0, number]))),
            .init(name: "label", value: .text(label)),
            .init(name: "number", value: .number(UInt64(number))),
        ])
    }

    private func sealed(_ change: (inout VaultConfig) -> Void = { _ in }) throws -> ConfigFile {
        var config = config
        change(&config)
        return try ConfigFile(sealing: config, with: ring)
    }

    private func problem(_ text: String) -> ConfigError? {
        do {
            _ = try ConfigFile(parsing: Array(text.utf8))
            return nil
        } catch {
            return error
        }
    }

    private func text(_ file: ConfigFile) -> String {
        String(decoding: file.bytes, as: UTF8.self)
    }

    // MARK: - Identity

    @Test(arguments: ["", "plain", "\"\\\u{1}\u{1f}\u{7f}", "é and e\u{301}", "😀\u{0}", "a\nb\tc", "</script>"])
    func parseWriteParse(label: String) throws {
        let file = try sealed { $0.slots[0] = Self.slot(1, label: label) }
        let read = try ConfigFile(parsing: file.bytes)
        #expect(read == file)
        let found = try #require(read.unverified.slots[0].text("label"))
        #expect(Array(found.utf8) == Array(label.utf8))
        #expect(try ConfigFile(sealing: read.verified(with: ring), with: ring).bytes == file.bytes)
    }

    @Test func unknownSlotsAreKept() throws {
        let odd = KeySlot(members: [
            .init(name: "zeta", value: .number(0)), .init(name: "type", value: .text("of tomorrow")),
            .init(name: "id", value: .text("00000000000000aa")), .init(name: "", value: .text("no name")),
        ])
        let file = try sealed { $0.slots.append(odd) }
        let slot = try ConfigFile(parsing: file.bytes).verified(with: ring).slots[2]
        #expect(slot.members.map(\.name) == ["zeta", "type", "id", "", "mac"])
    }

    // MARK: - Bounds

    @Test func everyFieldOutOfBoundsIsNamed() throws {
        let original = text(try sealed())
        let slotID = "0000000000000001"
        let cases = [
            ("\"format\": 1", "\"format\": 0", "format"),
            ("\"format\": 1", "\"format\": \"1\"", "format"),
            ("\"vault\": \"", "\"vault\": \"00", "vault"),
            ("\"vault\": \"", "\"vault\": \"zz", "vault"),
            ("aes-256-gcm", "rot13", "cipher"),
            ("\"name_max\": 255", "\"name_max\": 256", "name_max"),
            ("\"name_max\": 255", "\"name_max\": 63", "name_max"),
            ("\"counter\": 1", "\"counter\": 0", "counter"),
            ("\"counter\": 1", "\"counter\": \"1\"", "counter"),
            ("\"ring\": \"", "\"ring\": \"AAAA", "ring"),
            ("\"ring\": \"", "\"ring\": \"=", "ring"),
            (slotID, "000000000000000", "slots[0].id"),
            (slotID, "0000000000000002", "slots[1].id"),
            ("\"type\": \"test\"", "\"type\": \"\"", "slots[0].type"),
            ("\"type\": \"test\"", "\"type\": 1", "slots[0].type"),
            ("\"counter\": 1", "\"counter\": 1,\n  \"feature\": 1", "feature"),
            ("\"slots\": [", "\"slot\": [", "slot"),
            ("  \"counter\": 1,\n", "", "counter"),
            ("  \"format\": 1,\n", "", "format"),
        ]
        for (before, after, field) in cases {
            let edited = original.replacingFirst(before, with: after)
            guard case .field(field, _)? = problem(edited) else {
                Issue.record("\(after): \(String(describing: problem(edited)))")
                continue
            }
        }
    }

    @Test func formatComesFirst() throws {
        let moved = text(try sealed()).replacingFirst("  \"format\": 1,\n", with: "")
            .replacingFirst("  \"name_max\"", with: "  \"format\": 1,\n  \"name_max\"")
        #expect(problem(moved) == .field("format", problem: "is not the first member"))
    }

    @Test func slotsAreCounted() throws {
        let slots = (1...65).map { Self.slot(UInt8($0)) }
        #expect(throws: Never.self) { try sealed { $0.slots = Array(slots.prefix(64)) } }
        #expect(throws: ConfigError.field("slots", problem: "are 65, more than 64")) { try sealed { $0.slots = slots } }
        #expect(throws: ConfigError.self) { try sealed { $0.slots = [] } }
    }

    @Test func sizeIsBounded() throws {
        let long = String(repeating: "x", count: ConfigFile.byteLimit)
        #expect(throws: ConfigError.tooLarge) { try sealed { $0.slots[0] = Self.slot(1, label: long) } }
        #expect(throws: ConfigError.tooLarge) { try ConfigFile(parsing: [UInt8](repeating: 0x20, count: 1 << 20 + 1)) }
    }

    @Test func laterFormatsAreRefusedAsNewer() throws {
        #expect(problem("{\"format\": 2}") == .newerFormat(2))
        #expect(problem("{\n \"format\" : 77, \"anything\": [[null, -1.5]], whatever") == .newerFormat(77))
        #expect(problem(text(try sealed()).replacingFirst("\"format\": 1", with: "\"format\": 12")) == .newerFormat(12))
        guard case .malformed? = problem("{\"format\": 1, whatever") else {
            Issue.record("a broken file of this format is not called malformed")
            return
        }
    }

    @Test func theTailIsFixed() throws {
        let original = text(try sealed())
        let tails = [String(original.dropLast()), original + "\n", original.replacingLast("\n}\n", with: " }\n")]
        for tail in tails {
            guard case .field("mac", _)? = problem(tail) else {
                Issue.record("\(String(describing: problem(tail)))")
                continue
            }
        }
        // The last member is mac though another comes after a slot's.
        let moved = original.replacingLast("  \"mac\"", with: "  \"mac\": 1,\n  \"zac\"")
        #expect(problem(moved) != nil)
    }

    // MARK: - MACs

    @Test func everyByteIsCovered() throws {
        let file = try sealed()
        var opened = 0
        for index in file.bytes.indices {
            var bytes = file.bytes
            bytes[index] ^= 1
            do throws(ConfigError) {
                _ = try ConfigFile(parsing: bytes).verified(with: ring)
                opened += 1
            } catch {
                continue
            }
        }
        #expect(opened == 0)
    }

    @Test func anotherRingDoesNotVerify() throws {
        let file = try sealed()
        let other = try KeyRing(keys: [0: .random(), 1: .random()])
        #expect(throws: ConfigError.macMismatch) { try file.verified(with: other) }
        #expect(throws: CryptoError.notAuthentic) {
            try KeyRing(unwrapping: config.ring, under: ringKey, vaultID: Random.bytes(16))
        }
        #expect(throws: CryptoError.notAuthentic) {
            try KeyRing(unwrapping: config.ring, under: .random(), vaultID: config.vaultID)
        }
    }

    @Test func aRingOutOfOrderIsRefused() throws {
        for epochs in [[1, 0], [0, 0]] as [[UInt8]] {
            let plaintext = epochs.flatMap { [$0] + Random.bytes(32) }
            let blob = try KeyWrap(key: ringKey, label: "coffer.ring.wrap").wrap(
                plaintext, associatedData: config.vaultID)
            #expect(throws: CryptoError.notAuthentic) {
                try KeyRing(unwrapping: blob, under: ringKey, vaultID: config.vaultID)
            }
        }
        #expect(throws: CryptoError.invalidParameter) { try KeyRing(keys: [:]) }
    }

    /// A wrap opens under one key only, for the members it was made with.
    @Test func slotWrapCommits() throws {
        let key = try SecretKey.random()
        let slot = try Self.slot(1).wrapping(ringKey, under: key)
        #expect(try slot.ringKey(under: key).isEqual(to: ringKey))
        #expect(throws: CryptoError.notAuthentic) { try slot.ringKey(under: .random()) }
        var changed = slot
        changed.set("number", to: .number(2))
        #expect(throws: CryptoError.notAuthentic) { try changed.ringKey(under: key) }
        var moved = Self.slot(2)
        moved.set("wrap", to: .text(try #require(slot.text("wrap"))))
        #expect(throws: CryptoError.notAuthentic) { try moved.ringKey(under: key) }
        // The MAC comes last and is not covered.
        changed = slot
        changed.set("mac", to: .text(""))
        #expect(try changed.ringKey(under: key).isEqual(to: ringKey))
    }

    @Test func subkeys() throws {
        let key = try SecretKey.random()
        let ring = try KeyRing(keys: [0: key, 200: .random()])
        #expect(ring.newest == 200)
        #expect(ring.epochsNewestFirst == [200, 0])
        #expect(ring.subkey(.contents, epoch: 1) == nil)
        #expect(ring.subkey(.contents, epoch: 201) == nil)
        #expect(ring.fingerprint(epoch: 1) == nil)
        for purpose in KeyPurpose.allCases {
            let subkey = try #require(ring.subkey(purpose, epoch: 0))
            #expect(subkey.isEqual(to: try key.subkey(purpose)))
            #expect(ring.newestSubkey(purpose).isEqual(to: try #require(ring.subkey(purpose, epoch: 200))))
        }
    }
}

extension String {
    /// This text with the first occurrence of `old` replaced.
    func replacingFirst(_ old: String, with new: String) -> String {
        guard let range = firstRange(of: old) else { return self }
        return replacingCharacters(in: range, new)
    }

    /// This text with the last occurrence of `old` replaced.
    func replacingLast(_ old: String, with new: String) -> String {
        guard let range = ranges(of: old).last else { return self }
        return replacingCharacters(in: range, new)
    }

    private func replacingCharacters(in range: Range<String.Index>, _ new: String) -> String {
        String(self[..<range.lowerBound]) + new + String(self[range.upperBound...])
    }
}
