import CofferCrypto
import CofferFormat
import Testing

@testable import CofferKeys

/// What opens a vault, and what must not.
struct UnlockTests {
    private let vault: TestVault

    init() throws {
        vault = try TestVault()
    }

    private func unlock(_ text: String) -> KeysError? {
        do {
            let file = try ConfigFile(parsing: Array(text.utf8))
            _ = try VaultUnlocker.unlock(file, with: PassphraseSlot(vault.passphrase))
            return nil
        } catch let error as ConfigError {
            return .config(error)
        } catch let error as KeysError {
            return error
        } catch {
            Issue.record("\(error)")
            return nil
        }
    }

    @Test func opensWithItsPassphrase() throws {
        let file = try ConfigFile(parsing: vault.made.file.bytes)
        let opened = try VaultUnlocker.unlock(file, with: PassphraseSlot(vault.passphrase))
        #expect(opened.config == vault.made.config)
        #expect(opened.fingerprints == vault.made.fingerprints)
        #expect(opened.config.counter == 1)
    }

    @Test(arguments: ["", "Pass", "pass ", "pas", "pass\0"])
    func wrongPassphrase(text: String) throws {
        guard !text.isEmpty else {
            #expect(throws: KeysError.emptyPassphrase) { try Passphrase(text) }
            return
        }
        let wrong = PassphraseSlot(try Passphrase(text))
        #expect(throws: KeysError.wrongSecret(type: "passphrase")) {
            try VaultUnlocker.unlock(vault.made.file, with: wrong)
        }
    }

    @Test func anyOfSeveralPassphrasesOpens() throws {
        let ringKey = try SecretKey.random()
        let ring = try KeyRing(keys: [0: .random(), 5: .random()])
        let vaultID = Random.bytes(16)
        let passphrases = try ["one", "two", "three"].map { try Passphrase($0) }
        let slots = try passphrases.map {
            try NewPassphrase($0, cost: .least).makeSlot(holding: ringKey, label: "", created: "")
        }
        let config = VaultConfig(
            vaultID: vaultID, cipher: .aes256GCM, nameMax: 255, counter: 9,
            ring: try ring.wrapped(under: ringKey, vaultID: vaultID), slots: slots)
        let file = try ConfigFile(sealing: config, with: ring)
        for passphrase in passphrases {
            #expect(try VaultUnlocker.unlock(file, with: PassphraseSlot(passphrase)).ring.newest == 5)
        }
        #expect(throws: KeysError.wrongSecret(type: "passphrase")) {
            try VaultUnlocker.unlock(file, with: PassphraseSlot(Passphrase("four")))
        }
    }

    @Test func aVaultWithoutSuchASlot() throws {
        let file = try vault.sealed { $0.slots[0].set("type", to: .text("token")) }
        #expect(throws: KeysError.noSlot(type: "passphrase")) {
            try VaultUnlocker.unlock(file, with: PassphraseSlot(vault.passphrase))
        }
    }

    /// A later kind of slot is one type with three functions.
    @Test func anotherKindOfSlotNeedsNothingElse() throws {
        struct Token: SlotType {
            static let typeName = "token"
            let secret: SecretKey
            static func check(_ slot: KeySlot, path: String) throws(ConfigError) -> UInt64 { 0 }
            func key(for slot: KeySlot) throws(KeysError) -> SecretKey { secret }
        }
        let token = Token(secret: try SecretKey.random())
        let ringKey = try SecretKey.random()
        let slot = try KeySlot(members: [
            .init(name: "type", value: .text("token")), .init(name: "id", value: .text("00000000000000ff")),
        ]).wrapping(ringKey, under: token.secret)
        let file = try vault.sealed { config in
            config.slots.append(slot)
            do {
                config.ring = try vault.made.ring.wrapped(under: ringKey, vaultID: config.vaultID)
            } catch {
                Issue.record(error)
            }
        }
        #expect(try VaultUnlocker.unlock(file, with: token).fingerprints == vault.made.fingerprints)
    }

    // MARK: - Bounds

    @Test(arguments: [
        ("\"opslimit\": 1", "\"opslimit\": 0", "opslimit"), ("\"opslimit\": 1", "\"opslimit\": 65", "opslimit"),
        ("\"opslimit\": 1", "\"opslimit\": \"1\"", "opslimit"),
        ("\"memlimit\": 8388608", "\"memlimit\": 8388607", "memlimit"),
        ("\"memlimit\": 8388608", "\"memlimit\": 4294967297", "memlimit"),
        ("\"memlimit\": 8388608", "\"memlimit\": 0", "memlimit"),
        ("argon2id13", "argon2i13", "kdf"), ("\"salt\": \"", "\"salt\": \"AAAA", "salt"),
        ("\"wrap\": \"", "\"wrap\": \"AAAA", "wrap"), ("\"salt\"", "\"sale\"", "salt"),
        ("\"wrap\"", "\"warp\"", "wrap"),
    ])
    func slotsOutOfBoundsAreNamed(before: String, after: String, member: String) {
        guard
            case .config(.field("slots[0].\(member)", _))? = unlock(
                vault.text.replacingOccurrence(of: before, with: after))
        else {
            Issue.record("\(after) is not refused by name")
            return
        }
    }

    /// The costliest slot that is allowed may be there once; a second makes one unlocking too costly, before any of it
    /// is spent.
    @Test func theSumOfAllCostsIsBounded() throws {
        let costly = try vault.sealed { config in
            config.slots[0].set("opslimit", to: .number(64))
            config.slots[0].set("memlimit", to: .number(4 << 30))
            var second = config.slots[0]
            second.set("id", to: .text("0000000000000001"))
            config.slots.append(second)
        }
        guard case .config(.field("slots", _))? = unlock(String(decoding: costly.bytes, as: UTF8.self)) else {
            Issue.record("the sum of costs is not bounded")
            return
        }
    }

    @Test func slotsOutOfBoundsAreNotMade() throws {
        for cost in [
            Argon2Cost(operationsLimit: 65, memoryLimit: 8 << 20), Argon2Cost(operationsLimit: 0, memoryLimit: 8 << 20),
            Argon2Cost(operationsLimit: 1, memoryLimit: 8 << 10),
        ] {
            #expect(throws: KeysError.self) { try TestVault { $0.cost = cost } }
        }
        for cost in [Argon2Cost.interactive, .moderate, .sensitive, .least] {
            #expect(Argon2Members.operationsRange.contains(cost.operationsLimit))
            #expect(Argon2Members.memoryRange.contains(UInt64(cost.memoryLimit)))
        }
    }

    // MARK: - Edits

    /// Each value of the file, changed so that it stays well formed, is refused by name, by a wrap or by the MAC.
    @Test func everyValueIsCovered() throws {
        let other = try TestVault()
        let edits: [(String, String)] = [
            ("\"vault\"", Hex.encode(other.made.config.vaultID)), ("\"cipher\"", "chacha20-poly1305"),
            ("\"name_max\"", "254"), ("\"counter\"", "2"), ("\"ring\"", Base64URL.text(other.made.config.ring)),
            ("\"id\"", "0123456789abcdef"), ("\"label\"", "mine"), ("\"created\"", "2001-01-01T00:00:00Z"),
            ("\"opslimit\"", "2"), ("\"memlimit\"", "8389632"),
            ("\"salt\"", other.made.config.slots[0].text("salt") ?? ""),
            ("\"wrap\"", other.made.config.slots[0].text("wrap") ?? ""), ("\"type\"", "token"), ("\"mac\"", "00"),
        ]
        for (name, value) in edits {
            let edited = vault.text.settingFirst(name, to: value)
            #expect(edited != vault.text)
            #expect(unlock(edited) != nil, "\(name) was changed and the vault opened")
        }
        // The file's own MAC, and the whole of another vault's slot.
        let digit = vault.text.dropLast(4).last == "0" ? "1" : "0"
        #expect(unlock(vault.text.dropLast(5) + digit + "\"\n}\n") == .config(.macMismatch))
    }

    /// 2,000 changes at random: none opens, none brings the program down.
    @Test func randomMutationsNeverOpen() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed of the configuration's random mutations: \(seed)")
        var random = SeededGenerator(seed: seed)
        let original = vault.made.file.bytes
        var refusedByMAC = 0
        for _ in 0..<2_000 {
            var bytes = original
            for _ in 0..<Int.random(in: 1...3, using: &random) { mutate(&bytes, using: &random) }
            if bytes == original { continue }
            do {
                let file = try ConfigFile(parsing: bytes)
                _ = try VaultUnlocker.unlock(file, with: PassphraseSlot(vault.passphrase))
                Issue.record("opened: \(String(decoding: bytes, as: UTF8.self))")
            } catch KeysError.config(.macMismatch) {
                refusedByMAC += 1
            } catch {
                #expect(error is ConfigError || error is KeysError)
            }
        }
        // Some of them must get as far as the last check, else the test does not test it.
        #expect(refusedByMAC > 0)
    }
}

/// Changes bytes in one of the ways in which files are damaged or edited.
func mutate(_ bytes: inout [UInt8], using random: inout SeededGenerator) {
    guard !bytes.isEmpty else { return }
    let index = Int.random(in: 0..<bytes.count, using: &random)
    switch Int.random(in: 0..<7, using: &random) {
    case 0: bytes[index] = UInt8.random(in: 0...255, using: &random)
    case 1: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    case 2: bytes.remove(at: index)
    case 3: bytes.insert(UInt8.random(in: 0x20..<0x7f, using: &random), at: index)
    case 4: bytes.swapAt(index, Int.random(in: 0..<bytes.count, using: &random))
    case 5: bytes.insert(contentsOf: bytes[index..<min(index + 40, bytes.count)], at: index)
    default: bytes.removeSubrange(index..<min(index + Int.random(in: 1..<80, using: &random), bytes.count))
    }
}

extension String {
    /// This text with the first occurrence of `old` replaced.
    func replacingOccurrence(of old: String, with new: String) -> String {
        guard let range = firstRange(of: old) else { return self }
        return String(self[..<range.lowerBound]) + new + String(self[range.upperBound...])
    }

    /// This JSON with the first member called `name`, quotes included, set to `value`: between quotes where it was
    /// before.
    func settingFirst(_ name: String, to value: String) -> String {
        guard let range = firstRange(of: name + ": ") else { return self }
        let rest = self[range.upperBound...]
        if rest.first == "\"" {
            let old = rest.dropFirst().prefix { $0 != "\"" }
            return String(self[..<range.upperBound]) + "\"" + value + String(self[old.endIndex...])
        }
        let old = rest.prefix { $0.isNumber }
        return String(self[..<range.upperBound]) + value + String(self[old.endIndex...])
    }
}
