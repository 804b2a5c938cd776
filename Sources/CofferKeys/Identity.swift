import CofferCrypto
import CofferFormat

/// The public half of an identity: whoever has it can make slots that only the identity's holder opens.
public struct RecipientKey: Equatable, Sendable {
    private static let prefix = "coffer-recipient-1:"
    private static let checkCount = 4

    /// An X-Wing public key.
    public let bytes: [UInt8]

    /// A key of the right length.
    init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// The key in a text, as ``text`` writes it; what is around it, and lines that begin with `#`, do not count.
    public init(parsing text: String) throws(KeysError) {
        let lines = text.split(whereSeparator: \.isNewline).map { $0.filter { !$0.isWhitespace } }
        guard let line = lines.first(where: { $0.hasPrefix(Self.prefix) }) else {
            throw .badRecipient("it does not begin with \(Self.prefix)")
        }
        guard let all = Base64URL.decode(String(line.dropFirst(Self.prefix.count))),
            all.count == XWing.publicKeyCount + Self.checkCount,
            Self.check(Array(all.prefix(XWing.publicKeyCount))) == Array(all.suffix(Self.checkCount))
        else { throw .badRecipient("it is incomplete or was changed") }
        bytes = Array(all.prefix(XWing.publicKeyCount))
    }

    /// One line that can be given away.
    public var text: String { Self.prefix + Base64URL.text(bytes + Self.check(bytes)) }

    /// What people compare: 16 hexadecimal digits.
    public var fingerprint: String {
        var hash = Hash(outputCount: 16)
        hash.update("coffer.recipient.fingerprint")
        hash.update(bytes)
        return Hex.encode(Array(hash.finish().prefix(8)))
    }

    private static func check(_ bytes: [UInt8]) -> [UInt8] {
        var hash = Hash(outputCount: 16)
        hash.update("coffer.recipient.check")
        hash.update(bytes)
        return Array(hash.finish().prefix(checkCount))
    }
}

/// A private key that opens what was made for its public one.
public struct Identity: Sendable {
    private static let openPrefix = "COFFER-IDENTITY-1:"
    private static let lockedPrefix = "COFFER-LOCKED-IDENTITY-1:"
    private static let label: StaticString = "coffer.identity.wrap"

    let seed: SecretKey
    /// Its public half.
    public let recipient: RecipientKey

    /// A new one.
    public static func random() throws(KeysError) -> Identity {
        do {
            return try Identity(seed: try SecretKey.random())
        } catch {
            throw KeysError(error)
        }
    }

    init(seed: SecretKey) throws(CryptoError) {
        self.seed = seed
        recipient = RecipientKey(bytes: try XWing.publicKey(of: seed))
    }

    /// Whether a file's text is an identity that a passphrase locks.
    public static func isLocked(_ text: [UInt8]) -> Bool { line(lockedPrefix, in: text) != nil }

    /// The identity in a file's text, which the caller wipes; `passphrase` unlocks it, where it is locked.
    public init(parsing text: [UInt8], passphrase: Passphrase? = nil) throws(KeysError) {
        do throws(CryptoError) {
            if let line = Self.line(Self.openPrefix, in: text) {
                guard var all = Base64URL.decode(line), all.count == SecretKey.byteCount + 4 else {
                    throw .invalidParameter
                }
                defer { wipe(&all) }
                let check = Array(all.suffix(4))
                all.removeLast(4)
                let identity = try Identity(seed: try SecretKey(copying: all))
                guard check == Array(identity.recipient.bytes.suffix(4)) else { throw .invalidParameter }
                self = identity
                return
            }
        } catch {
            throw .badIdentity("it is incomplete or was changed")
        }
        guard let line = Self.line(Self.lockedPrefix, in: text) else {
            throw .badIdentity("it has no line that begins with \(Self.openPrefix) or \(Self.lockedPrefix)")
        }
        guard let passphrase else { throw .badIdentity("it is locked with a passphrase") }
        self = try Self.unlock(String(decoding: line, as: UTF8.self), passphrase)
    }

    /// The file's text, for whoever made it to keep.
    public func text(created: String) -> String {
        var all = seed.withBytes { Array($0) } + recipient.bytes.suffix(4)
        defer { wipe(&all) }
        return header(created) + Self.openPrefix + Base64URL.text(all) + "\n"
    }

    /// The same, locked with a passphrase.
    public func text(created: String, lockedWith passphrase: Passphrase, cost: Argon2Cost) throws(KeysError) -> String {
        let parameters = Argon2Members(cost: cost)
        let key = try parameters.key(of: passphrase.bytes)
        var secret = seed.withBytes { Array($0) }
        defer { wipe(&secret) }
        do {
            let blob = try KeyWrap(key: key, label: Self.label).wrap(secret, associatedData: recipient.bytes)
            return header(created) + Self.lockedPrefix
                + [
                    String(cost.operationsLimit), String(cost.memoryLimit), Base64URL.text(parameters.salt),
                    Base64URL.text(recipient.bytes), Base64URL.text(blob),
                ].joined(separator: ":") + "\n"
        } catch {
            throw KeysError(error)
        }
    }

    private func header(_ created: String) -> String {
        """
        # An identity of coffer, made \(created). Whoever has it can open all vaults that were made for it: keep it secret, and keep it.
        # Its public half, \(recipient.fingerprint), is what others need:
        # \(recipient.text)

        """
    }

    /// What follows a prefix in the first line that begins with it.
    private static func line(_ prefix: String, in text: [UInt8]) -> ArraySlice<UInt8>? {
        text.split(whereSeparator: { $0 == 0x0A || $0 == 0x0D }).first { $0.starts(with: prefix.utf8) }
            .map { $0.dropFirst(prefix.utf8.count) }
    }

    private static func unlock(_ line: String, _ passphrase: Passphrase) throws(KeysError) -> Identity {
        let parts = line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 5, let operations = UInt64(parts[0]), let memory = UInt64(parts[1]),
            let publicKey = Base64URL.decode(parts[3]), let blob = Base64URL.decode(parts[4])
        else { throw .badIdentity("it is incomplete or was changed") }
        // The same bounds as in a slot.
        let slot = KeySlot(members: [
            .init(name: "kdf", value: .text(Argon2Members.algorithm)),
            .init(name: "opslimit", value: .number(operations)),
            .init(name: "memlimit", value: .number(memory)), .init(name: "salt", value: .text(parts[2])),
        ])
        let parameters: Argon2Members
        do {
            parameters = try Argon2Members(of: slot, path: "identity")
        } catch {
            throw .badIdentity("\(error)")
        }
        let key = try parameters.key(of: passphrase.bytes)
        do throws(CryptoError) {
            var secret = try KeyWrap(key: key, label: label).unwrap(blob, associatedData: publicKey)
            defer { wipe(&secret) }
            return try Identity(seed: try SecretKey(copying: secret))
        } catch {
            throw .wrongSecret(type: "passphrase")
        }
    }
}
