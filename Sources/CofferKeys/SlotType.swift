public import CofferCrypto
public import CofferFormat

/// One kind of secret that unlocks slots: a value of the type holds the secret.
///
/// A new kind is one new file: a type with this conformance and a function that makes its slot. `VaultUnlocker` does
/// the rest.
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
}
