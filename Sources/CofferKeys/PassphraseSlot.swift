public import CofferCrypto
public import CofferFormat

/// A slot that a passphrase unlocks, by Argon2id.
public struct PassphraseSlot: SlotType {
    /// The slot's `type` in coffer.json.
    public static let typeName = "passphrase"

    private let passphrase: Passphrase

    /// The passphrase to try.
    public init(_ passphrase: Passphrase) {
        self.passphrase = passphrase
    }

    /// Throws the first member that is out of bounds, and gives opslimit · memlimit.
    public static func check(_ slot: KeySlot, path: String) throws(ConfigError) -> UInt64 {
        let parameters = try Argon2Members(of: slot, path: path)
        try slot.checkWrap(path: path)
        return parameters.work
    }

    /// Argon2id of the passphrase with the slot's salt and cost.
    public func key(for slot: KeySlot) throws(KeysError) -> SecretKey {
        let parameters: Argon2Members
        do {
            parameters = try Argon2Members(of: slot, path: "slot \(slot.id)")
        } catch {
            throw .config(error)
        }
        return try parameters.key(of: passphrase.bytes)
    }
}

/// A new passphrase.
public struct NewPassphrase: SlotMaker {
    /// Which slots this makes.
    public typealias Slot = PassphraseSlot

    private let passphrase: Passphrase
    private let cost: Argon2Cost

    /// A passphrase, and what one guess at it is to cost.
    public init(_ passphrase: Passphrase, cost: Argon2Cost) {
        self.passphrase = passphrase
        self.cost = cost
    }

    /// Its members, and the key that they and the secret yield.
    public func newMembers() throws(KeysError) -> (members: [KeySlot.Member], key: SecretKey) {
        let parameters = Argon2Members(cost: cost)
        return (parameters.members, try parameters.key(of: passphrase.bytes))
    }
}
