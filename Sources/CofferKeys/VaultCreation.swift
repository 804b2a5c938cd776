public import CofferCrypto
import CofferFormat
import FoundationEssentials

/// What a new vault is made with.
public struct VaultCreation: Sendable {
    /// What new files are encrypted with.
    public var cipher = CipherSuite.aes256GCM
    /// The longest stored name, in bytes.
    public var nameMax = VaultConfig.nameMaxRange.upperBound
    /// What one guess at the passphrase costs.
    public var cost = Argon2Cost.moderate
    /// Free text that tells the first slot from others.
    public var label = ""

    /// The defaults.
    public init() {}

    /// A new vault that `passphrase` opens, with random keys; nothing is written yet.
    public func make(passphrase: Passphrase) throws(KeysError) -> UnlockedVault {
        try make([(NewPassphrase(passphrase, cost: cost), label)])
    }

    /// As above, for a vault that any of several secrets opens, each with its label.
    public func make(_ makers: [(maker: any SlotMaker, label: String)]) throws(KeysError) -> UnlockedVault {
        let ring: KeyRing
        let ringKey: SecretKey
        let vaultID = Random.bytes(VaultConfig.vaultIDCount)
        let wrappedRing: [UInt8]
        do {
            ring = try KeyRing.random()
            ringKey = try SecretKey.random()
            wrappedRing = try ring.wrapped(under: ringKey, vaultID: vaultID)
        } catch {
            throw KeysError(error)
        }
        var slots: [KeySlot] = []
        for (maker, label) in makers {
            slots.append(try maker.makeSlot(holding: ringKey, label: label, created: KeyTime.now()))
        }
        let config = VaultConfig(
            vaultID: vaultID, cipher: cipher, nameMax: nameMax, counter: 1, ring: wrappedRing, slots: slots)
        do {
            let file = try ConfigFile(sealing: config, with: ring)
            return UnlockedVault(file: file, config: file.unverified, ring: ring, ringKey: ringKey)
        } catch {
            throw .config(error)
        }
    }
}

/// When a slot or an identity was made.
public enum KeyTime {
    /// ISO 8601 in UTC, to the second.
    public static func now() -> String { Date.now.formatted(.iso8601) }
}
