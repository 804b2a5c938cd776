import CofferCrypto
import CofferFormat
import FoundationEssentials
import Testing

@testable import CofferKeys

/// Secrets that people write down, type and keep in files.
struct WrittenSecretTests {
    // MARK: - Recovery codes

    @Test func aRecoveryCodeReadsAsItWasPrinted() throws {
        for _ in 0..<50 {
            let code = try RecoveryCode.random()
            let text = code.text
            #expect(text.count == 53 && text.hasPrefix("2") == false || text.split(separator: "-").count == 9)
            for typed in [
                text, text.lowercased(), text.replacing("-", with: " "), text.replacing("-", with: ""),
                text.replacing("0", with: "o").replacing("1", with: "l"),
                "\n " + text.replacing("-", with: "-\n") + "\n",
            ] {
                #expect(try RecoveryCode.parse(Array(typed.utf8)).secret.isEqual(to: code.secret))
            }
        }
    }

    /// One wrong character, wherever it is and whatever it is, is pointed at; so are neighbours that were exchanged, and groups in another order.
    @Test func everyTypingErrorIsPointedAt() throws {
        let alphabet = Array("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
        let text = Array(try RecoveryCode.random().text)
        func expectGroup(_ group: Int, _ typed: [Character]) {
            do {
                _ = try RecoveryCode.parse(Array(String(typed).utf8))
                Issue.record("\(String(typed)) was taken for \(String(text))")
            } catch {
                guard case .mistypedCode(let reason) = error else {
                    Issue.record("\(error)")
                    return
                }
                #expect(reason.hasPrefix("group \(group) "), "\(String(typed)): \(reason)")
            }
        }
        for index in text.indices where text[index] != "-" {
            for letter in alphabet where letter != text[index] {
                var typed = text
                typed[index] = letter
                expectGroup(index / 6 + 1, typed)
            }
            for letter in ["U", "!", "é"] as [Character] {
                var typed = text
                typed[index] = letter
                expectGroup(index / 6 + 1, typed)
            }
            // One that is missing, and one too many.
            expectGroup(index / 6 + 1, Array(text[..<index] + text[(index + 1)...]))
            expectGroup(index / 6 + 1, Array(text[...index] + text[index...]))
            if index + 1 < text.count, text[index + 1] != "-", text[index + 1] != text[index] {
                var typed = text
                typed.swapAt(index, index + 1)
                expectGroup(index / 6 + 1, typed)
            }
        }
        let groups = String(text).split(separator: "-")
        for first in groups.indices {
            for second in groups.indices where second > first && groups[first] != groups[second] {
                var typed = groups
                typed.swapAt(first, second)
                expectGroup(first + 1, Array(typed.joined(separator: "-")))
            }
        }
        for count in [0, 1, 8, 10] {
            let typed = Array((groups + groups).prefix(count).joined(separator: "-"))
            #expect(throws: KeysError.mistypedCode("it has \(count) groups, and a recovery code has 9")) {
                try RecoveryCode.parse(Array(String(typed).utf8))
            }
        }
    }

    // MARK: - Identities

    @Test func identitiesReadAsTheyWereWritten() throws {
        let identity = try Identity.random()
        let passphrase = try Passphrase("lock")
        let open = identity.text(created: "now")
        let locked = try identity.text(created: "now", lockedWith: passphrase, cost: .least)
        #expect(!Identity.isLocked(Array(open.utf8)) && Identity.isLocked(Array(locked.utf8)))
        #expect(try Identity(parsing: Array(open.utf8)).recipient == identity.recipient)
        #expect(try Identity(parsing: Array(open.replacing("\n", with: "\r\n").utf8)).recipient == identity.recipient)
        #expect(try Identity(parsing: Array(locked.utf8), passphrase: passphrase).recipient == identity.recipient)
        #expect(throws: KeysError.wrongSecret(type: "passphrase")) {
            try Identity(parsing: Array(locked.utf8), passphrase: Passphrase("Lock"))
        }
        #expect(throws: KeysError.badIdentity("it is locked with a passphrase")) {
            try Identity(parsing: Array(locked.utf8))
        }
        #expect(try RecipientKey(parsing: identity.recipient.text) == identity.recipient)
        // A person may give away what stands in the file by itself.
        #expect(try RecipientKey(parsing: "\n  \(identity.recipient.text)  \n") == identity.recipient)
    }

    @Test func whatWasCutOrChangedIsNoIdentity() throws {
        let identity = try Identity.random()
        let open = identity.text(created: "now")
        let line = try #require(open.split(separator: "\n").last)
        for count in 0..<line.count {
            #expect(throws: KeysError.self) { try Identity(parsing: Array(String(line.prefix(count)).utf8)) }
        }
        let recipient = identity.recipient.text
        for count in stride(from: 0, to: recipient.count, by: 7) {
            #expect(throws: KeysError.self) { try RecipientKey(parsing: String(recipient.prefix(count))) }
            var letters = Array(recipient)
            letters[count] = letters[count] == "A" ? "B" : "A"
            #expect(throws: KeysError.self) { try RecipientKey(parsing: String(letters)) }
        }
        let locked = try identity.text(created: "now", lockedWith: Passphrase("lock"), cost: .least)
        for bad in ["999", "0", "x", "18446744073709551616"] {
            let edited = locked.replacing("COFFER-LOCKED-IDENTITY-1:1:", with: "COFFER-LOCKED-IDENTITY-1:\(bad):")
            #expect(edited != locked)
            #expect(throws: KeysError.self) {
                try Identity(parsing: Array(edited.utf8), passphrase: Passphrase("lock"))
            }
        }
    }

    // MARK: - Passphrases and key files

    /// Letters with accents come as one character or as two, and are the same.
    @Test func passphrasesAreComposed() throws {
        for (one, two) in [
            ("K\u{E4}se", "Ka\u{308}se"), ("\u{1EAD}", "a\u{323}\u{302}"), ("\u{1EAD}", "a\u{302}\u{323}"),
            ("\u{AC00}\u{AC01}", "\u{1100}\u{1161}\u{1100}\u{1161}\u{11A8}"), ("\u{3A9}", "\u{2126}"),
        ] {
            #expect(try Passphrase(one).isEqual(to: Passphrase(two)))
        }
        // What was typed is there, for vaults that were made from it.
        let typed = try #require(Passphrase("Ka\u{308}se").asTyped)
        #expect(typed.withBytes { Array($0) } == Array("Ka\u{308}se".utf8) && typed.asTyped == nil)
        #expect(try Passphrase("K\u{E4}se").asTyped == nil)
        // Nothing else is: what looks alike to people is not the same, nor is what is no UTF-8.
        #expect(try !Passphrase("\u{FB01}").isEqual(to: Passphrase("fi")))
        var (raw, other): ([UInt8], [UInt8]) = ([0xFF, 0x61], [0xFE, 0x61])
        #expect(try !Passphrase(consuming: &raw).isEqual(to: Passphrase(consuming: &other)))
    }

    @Test func whatMayHaveBeenTypedIsStretched() throws {
        func kdf(_ content: [UInt8]) throws -> String? {
            var content = content
            return try NewKeyFile(KeyFile(consuming: &content), cost: .least)
                .makeSlot(holding: .random(), label: "", created: "").text("kdf")
        }
        #expect(try kdf(Array("correct horse battery staple, and some more words\n".utf8)) == "argon2id13")
        #expect(try kdf(Array(repeating: 0x80, count: 31)) == "argon2id13")
        #expect(try kdf(Array(repeating: 0x80, count: 32)) == "blake2b")
        #expect(try kdf(Array(repeating: 0x61, count: 4096)) == "argon2id13")
        #expect(try kdf(Array(repeating: 0x61, count: 4097)) == "blake2b")
        for text in [
            "пароль, которого никто не знает",
            "\u{4E00}\u{4E8C}\u{4E09}\u{56DB}\u{4E94}\u{516D}\u{4E03}\u{516B}\u{4E5D}\u{5341}\u{767E}\twords and words",
        ] {
            #expect(try kdf(Array(text.utf8)) == "argon2id13")
            #expect(try kdf([0xFF, 0xFE] + text.utf16.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }) == "argon2id13")
        }
        for _ in 0..<20 { #expect(try kdf(Random.bytes(32)) == "blake2b") }
        var none: [UInt8] = []
        #expect(throws: KeysError.emptyKeyFile) { try KeyFile(consuming: &none) }
    }

    // MARK: - Vectors

    private struct Vector: Decodable {
        let text: String
        let secrets: [String: String]
        let ringKey: String
        let vaultKey: String
        let recipient: String
        let recipientFingerprint: String
    }

    /// What an independent program has made opens with each of its secrets.
    @Test func theVectorsOpen() throws {
        let path = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "CofferFormatTests/Vectors/slots.json")
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let vector = try decoder.decode(Vector.self, from: Data(contentsOf: path))
        let file = try ConfigFile(parsing: Array(vector.text.utf8))
        func secret(_ name: String) throws -> String { try #require(vector.secrets[name]) }
        var (strong, typed) = (
            try #require(Hex.decode(secret("keyfile_strong"))), try #require(Hex.decode(secret("keyfile_typed")))
        )
        var renewed = try #require(Hex.decode(secret("keyfile_renewed")))
        let shares = try secret("shares").split(separator: "\n").map { try RecoveryShare.parse(Array($0.utf8)) }
        #expect(shares.map(\.text).joined(separator: "\n") == (try secret("shares")))
        let identity = try Identity(seed: SecretKey(copying: #require(Hex.decode(secret("identity")))))
        let openers: [any SlotType] = [
            PassphraseSlot(try Passphrase(secret("passphrase"))), KeyFileSlot(try KeyFile(consuming: &strong)),
            KeyFileSlot(try KeyFile(consuming: &typed)),
            RecoverySlot(try RecoveryCode.parse(Array(secret("recovery").utf8))), try SharesSlot(shares),
            KeyFileSlot(try KeyFile(consuming: &renewed)), RecipientSlot(identity),
        ]
        for (index, opener) in openers.enumerated() {
            let opened = try VaultUnlocker.unlock(file, with: opener)
            #expect(opened.openedSlot?.id == file.unverified.slots[index].id)
            #expect(opened.ringKey.withBytes { Hex.encode(Array($0)) } == vector.ringKey)
            #expect(opened.fingerprints.count == 1)
        }
        #expect(identity.recipient.text == vector.recipient)
        #expect(identity.recipient.fingerprint == vector.recipientFingerprint)
        #expect(try RecoveryCode.parse(Array(secret("recovery").utf8)).text == secret("recovery"))
    }
}
