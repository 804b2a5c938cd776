public import CofferCrypto
public import CofferFormat

/// A slot that an identity unlocks; making one takes only its public half.
public struct RecipientSlot: SlotType {
    /// The slot's `type` in coffer.json.
    public static let typeName = "recipient"
    private static let label: StaticString = "coffer.slot.recipient"

    private let identity: Identity

    /// The identity to try.
    public init(_ identity: Identity) {
        self.identity = identity
    }

    /// Throws the first member that is not as it should be; a try costs nothing.
    public static func check(_ slot: KeySlot, path: String) throws(ConfigError) -> UInt64 {
        try slot.checkWrap(path: path)
        guard slot.text("kem") == NewRecipient.algorithm else {
            throw .field("\(path).kem", problem: "is not \(NewRecipient.algorithm), the one that this version knows")
        }
        _ = try slot.bytes("recipient", count: XWing.publicKeyCount, path: path)
        _ = try slot.bytes("encapsulated", count: XWing.encapsulatedCount, path: path)
        return 0
    }

    /// Whom a slot is for; nil where it is of another type.
    public static func recipient(of slot: KeySlot) -> RecipientKey? {
        guard slot.type == typeName, let bytes = slot.text("recipient").flatMap({ Base64URL.decode($0) }),
            bytes.count == XWing.publicKeyCount
        else { return nil }
        return RecipientKey(bytes: bytes)
    }

    /// What the identity finds in the slot: something of no use, where it is for another one.
    public func key(for slot: KeySlot) throws(KeysError) -> SecretKey {
        let (recipient, encapsulated): ([UInt8], [UInt8])
        do throws(ConfigError) {
            recipient = try slot.bytes("recipient", count: XWing.publicKeyCount, path: "slot \(slot.id)")
            encapsulated = try slot.bytes("encapsulated", count: XWing.encapsulatedCount, path: "slot \(slot.id)")
        } catch {
            throw .config(error)
        }
        do throws(CryptoError) {
            return try Self.key(try XWing.decapsulate(encapsulated, with: identity.seed), recipient, encapsulated)
        } catch {
            throw KeysError(error)
        }
    }

    /// None: the recipient is one.
    public static func renewal(for key: SecretKey) throws(CryptoError) -> KeySlot.Member? { nil }

    /// The slot, encapsulated anew.
    public static func renewing(_ slot: KeySlot, holding ringKey: SecretKey) throws(CryptoError) -> KeySlot? {
        guard let recipient = recipient(of: slot) else { return nil }
        let (encapsulated, shared) = try XWing.encapsulate(to: recipient.bytes)
        var slot = slot
        slot.set("encapsulated", to: .text(Base64URL.text(encapsulated)))
        return try slot.wrapping(ringKey, under: try key(shared, recipient.bytes, encapsulated))
    }

    fileprivate static func key(
        _ shared: SecretKey, _ recipient: [UInt8], _ encapsulated: [UInt8]
    ) throws(CryptoError) -> SecretKey {
        try shared.derived(label, encapsulated + recipient)
    }
}

/// A new recipient.
public struct NewRecipient: SlotMaker {
    /// Which slots this makes.
    public typealias Slot = RecipientSlot
    /// What `kem` is.
    static let algorithm = "x-wing"

    private let recipient: RecipientKey

    /// Whom to make a slot for.
    public init(_ recipient: RecipientKey) {
        self.recipient = recipient
    }

    /// Its members, and the key that they and the secret yield.
    public func newMembers() throws(KeysError) -> (members: [KeySlot.Member], key: SecretKey) {
        do throws(CryptoError) {
            let (encapsulated, shared) = try XWing.encapsulate(to: recipient.bytes)
            let members: [KeySlot.Member] = [
                .init(name: "kem", value: .text(Self.algorithm)),
                .init(name: "recipient", value: .text(Base64URL.text(recipient.bytes))),
                .init(name: "encapsulated", value: .text(Base64URL.text(encapsulated))),
            ]
            return (members, try RecipientSlot.key(shared, recipient.bytes, encapsulated))
        } catch {
            throw error == .invalidParameter ? .badRecipient("it is no X-Wing public key") : KeysError(error)
        }
    }
}
