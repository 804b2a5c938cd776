public import CofferCrypto
public import CofferFormat

/// One kind of secret that unlocks slots: a value of the type holds the secret.
///
/// A new kind is one new file: a type with this conformance, one with that to ``SlotMaker`` (it may be the same), and a line in ``SlotTypes``.
public protocol SlotType: Sendable {
    /// The slot's `type` in coffer.json.
    static var typeName: String { get }

    /// Checks the members that unlocking needs, before anything is computed from them.
    ///
    /// - Returns: what trying the slot costs, in passes · bytes of the key derivation; 0 where there is none.
    /// - Throws: the first member that is out of bounds, as `path` and its name.
    static func check(_ slot: KeySlot, path: String) throws(ConfigError) -> UInt64

    /// The key-encryption key that the secret yields for a slot that passed `check`.
    func key(for slot: KeySlot) throws(KeysError) -> SecretKey

    /// The member by which slots with this key-encryption key can be renewed without the secret, where they need one.
    static func renewal(for key: SecretKey) throws(CryptoError) -> KeySlot.Member?

    /// The slot with another ring key in it, made without the secret; nil where that cannot be.
    static func renewing(_ slot: KeySlot, holding ringKey: SecretKey) throws(CryptoError) -> KeySlot?
}

extension SlotType {
    /// See ``SlotRenewal``.
    public static func renewal(for key: SecretKey) throws(CryptoError) -> KeySlot.Member? {
        try SlotRenewal.member(for: key)
    }

    /// See ``SlotRenewal``.
    public static func renewing(_ slot: KeySlot, holding ringKey: SecretKey) throws(CryptoError) -> KeySlot? {
        try SlotRenewal.renewing(slot, holding: ringKey)
    }
}

/// What a new slot is made from: a secret, or a public key.
public protocol SlotMaker: Sendable {
    /// Which slots it makes.
    associatedtype Slot: SlotType

    /// The members by which this kind of slot is told from others and unlocked, and the key-encryption key that they and the secret yield.
    func newMembers() throws(KeysError) -> (members: [KeySlot.Member], key: SecretKey)
}

extension SlotMaker {
    /// A new slot that holds the ring key. `label` is free text; `created` is when, as ISO 8601 in UTC.
    public func makeSlot(
        holding ringKey: SecretKey, label: String, created: String
    ) throws(KeysError) -> KeySlot {
        let (members, key) = try newMembers()
        var slot = KeySlot(
            members: [
                .init(name: "type", value: .text(Slot.typeName)),
                .init(name: "id", value: .text(Hex.encode(Random.bytes(8)))),
                .init(name: "label", value: .text(label)),
                .init(name: "created", value: .text(created)),
            ] + members)
        let wrapped: KeySlot
        do {
            if let renewal = try Slot.renewal(for: key) { slot.set(renewal.name, to: renewal.value) }
            wrapped = try slot.wrapping(ringKey, under: key)
        } catch {
            throw KeysError(error)
        }
        // What reading would refuse must not be made.
        do {
            _ = try Slot.check(wrapped, path: "new slot")
        } catch {
            throw .config(error)
        }
        return wrapped
    }
}

/// The kinds of slots that this version can unlock.
public enum SlotTypes {
    /// All of them.
    public static let all: [any SlotType.Type] = [
        PassphraseSlot.self, KeyFileSlot.self, RecoverySlot.self, SharesSlot.self, RecipientSlot.self,
    ]

    /// The kind of a slot; nil where this version does not know it.
    static func type(of slot: KeySlot) -> (any SlotType.Type)? {
        all.first { $0.typeName == slot.type }
    }

    /// Whether a slot is one that a person with its secret could use by this version.
    public static func isUsable(_ slot: KeySlot) -> Bool {
        all.contains { type in
            guard type.typeName == slot.type else { return false }
            do {
                _ = try type.check(slot, path: "slot")
                return true
            } catch {
                return false
            }
        }
    }
}

extension KeySlot {
    /// Bytes of a wrapped ring key.
    static let wrapCount = SecretKey.byteCount + KeyWrap.overhead

    private static let saltCount = 16

    /// Checks the member that keeps equal secrets of two vaults from yielding one key.
    func checkSalt(path: String) throws(ConfigError) { _ = try bytes("salt", count: Self.saltCount, path: path) }

    /// What a secret that nobody can guess yields with this slot's salt.
    func saltedKey(of secret: SecretKey, _ label: StaticString) throws(KeysError) -> SecretKey {
        let salt: [UInt8]
        do {
            salt = try bytes("salt", count: Self.saltCount, path: "slot \(id)")
        } catch {
            throw .config(error)
        }
        do {
            return try secret.derived(label, salt)
        } catch {
            throw KeysError(error)
        }
    }

    /// A new salt, and what the secret yields with it.
    static func newSaltedKey(
        of secret: SecretKey, _ label: StaticString
    ) throws(KeysError) -> (members: [Member], key: SecretKey) {
        let members = [Member(name: "salt", value: .text(Base64URL.text(Random.bytes(saltCount))))]
        return (members, try KeySlot(members: members).saltedKey(of: secret, label))
    }

    /// A member that is the base64url of `count` bytes.
    func bytes(_ name: String, count: Int, path: String) throws(ConfigError) -> [UInt8] {
        guard let bytes = text(name).flatMap({ Base64URL.decode($0) }), bytes.count == count else {
            throw .field("\(path).\(name)", problem: "is not the base64url of \(count) bytes")
        }
        return bytes
    }

    /// Checks the member that holds the ring key, and those that it may be renewed by.
    func checkWrap(path: String) throws(ConfigError) {
        _ = try bytes("wrap", count: Self.wrapCount, path: path)
        try SlotRenewal.check(self, path: path)
    }
}
