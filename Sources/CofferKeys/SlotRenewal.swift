import CofferCrypto
import CofferFormat

/// Another ring key for a slot whose secret is not at hand, by a public key that the secret's holder can derive the private one of.
///
///     renewal   the X-Wing public key P of the seed BLAKE2b-256(K; "coffer.slot.renewal")
///     renewed   E, encapsulated to P with the shared secret S: then the slot is wrapped under
///               BLAKE2b-256(S; "coffer.slot.renewed" ‖ E ‖ P) in the place of K
///
/// As long as it was not renewed, a slot is as strong as its secret, and does not lean on the public key.
enum SlotRenewal {
    static let publicKeyMember = "renewal"
    private static let encapsulatedMember = "renewed"

    /// The member that lets a slot be renewed.
    static func member(for key: SecretKey) throws(CryptoError) -> KeySlot.Member {
        let publicKey = try XWing.publicKey(of: try key.derived("coffer.slot.renewal", []))
        return .init(name: publicKeyMember, value: .text(Base64URL.text(publicKey)))
    }

    /// Checks the members where they are there.
    static func check(_ slot: KeySlot, path: String) throws(ConfigError) {
        if slot.has(publicKeyMember) { _ = try slot.bytes(publicKeyMember, count: XWing.publicKeyCount, path: path) }
        guard slot.has(encapsulatedMember) else { return }
        _ = try slot.bytes(encapsulatedMember, count: XWing.encapsulatedCount, path: path)
        _ = try slot.bytes(publicKeyMember, count: XWing.publicKeyCount, path: path)
    }

    /// What a slot is wrapped under, whose secret yields `key`.
    static func wrapKey(of slot: KeySlot, _ key: SecretKey) throws(CryptoError) -> SecretKey {
        guard let encapsulated = slot.text(encapsulatedMember).flatMap({ Base64URL.decode($0) }),
            let publicKey = slot.text(publicKeyMember).flatMap({ Base64URL.decode($0) })
        else { return key }
        let seed = try key.derived("coffer.slot.renewal", [])
        return try self.key(try XWing.decapsulate(encapsulated, with: seed), encapsulated, publicKey)
    }

    /// The slot with another ring key in it; nil where it was made without a public key.
    static func renewing(_ slot: KeySlot, holding ringKey: SecretKey) throws(CryptoError) -> KeySlot? {
        guard let publicKey = slot.text(publicKeyMember).flatMap({ Base64URL.decode($0) }) else { return nil }
        let (encapsulated, shared) = try XWing.encapsulate(to: publicKey)
        var slot = slot
        slot.set(encapsulatedMember, to: .text(Base64URL.text(encapsulated)))
        return try slot.wrapping(ringKey, under: try key(shared, encapsulated, publicKey))
    }

    private static func key(
        _ shared: SecretKey, _ encapsulated: [UInt8], _ publicKey: [UInt8]
    ) throws(CryptoError) -> SecretKey {
        try shared.derived("coffer.slot.renewed", encapsulated + publicKey)
    }
}
