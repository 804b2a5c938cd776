public import CofferCrypto
public import CofferFormat

/// A vault whose configuration has verified, with its keys.
public struct UnlockedVault: Sendable {
    /// The file that was verified.
    public let file: ConfigFile
    /// What it says; every field may be acted on.
    public let config: VaultConfig
    /// The vault's keys.
    public let ring: KeyRing
    /// What every slot holds.
    let ringKey: SecretKey
    /// Which slot opened it; nil where none did.
    public internal(set) var openedSlot: KeySlot?

    /// Whether another version of the configuration is whole, though the secret at hand may not open it.
    public func verifies(_ file: ConfigFile) -> Bool {
        do throws(KeysError) {
            _ = try VaultUnlocker.open(file, with: ringKey)
            return true
        } catch {
            return false
        }
    }

    /// What stands for each vault key, by epoch: 32 hexadecimal digits.
    public var fingerprints: [UInt8: String] {
        var result: [UInt8: String] = [:]
        for epoch in ring.epochsNewestFirst { result[epoch] = ring.fingerprint(epoch: epoch) }
        return result
    }
}

/// Unlocks a slot, then the ring, then verifies the whole file, in this order and without believing anything before.
public enum VaultUnlocker {
    /// The most that one unlocking may cost over all slots that it tries, in passes · bytes.
    public static let costLimit: UInt64 = 1 << 38

    /// The vault that `secret` opens.
    ///
    /// Trying slots takes as long as their key derivation asks for.
    public static func unlock<Secret: SlotType>(
        _ file: ConfigFile, with secret: Secret
    ) throws(KeysError) -> UnlockedVault {
        let slots = try affordableSlots(of: file.unverified, type: Secret.self)
        for slot in slots {
            let key = try secret.key(for: slot)
            let ringKey: SecretKey
            do {
                ringKey = try slot.ringKey(under: try SlotRenewal.wrapKey(of: slot, key))
            } catch {
                if error == .notAuthentic { continue }
                throw KeysError(error)
            }
            var vault = try open(file, with: ringKey)
            vault.openedSlot = slot
            return vault
        }
        throw .wrongSecret(type: Secret.typeName)
    }

    /// The vault whose ring key is at hand.
    public static func open(_ file: ConfigFile, with ringKey: SecretKey) throws(KeysError) -> UnlockedVault {
        let ring: KeyRing
        do {
            ring = try KeyRing(
                unwrapping: file.unverified.ring, under: ringKey, vaultID: file.unverified.vaultID)
        } catch {
            if error == .notAuthentic {
                throw .config(.field("ring", problem: "or the vault id was changed or damaged: the ring does not open"))
            }
            throw KeysError(error)
        }
        do {
            return UnlockedVault(file: file, config: try file.verified(with: ring), ring: ring, ringKey: ringKey)
        } catch {
            throw .config(error)
        }
    }

    /// Throws where the slots of a type are out of bounds, or ask for more work together than one unlocking may cost.
    static func requireAffordable<Secret: SlotType>(_ config: VaultConfig, _ type: Secret.Type) throws(KeysError) {
        _ = try affordableSlots(of: config, type: type)
    }

    // All of the type, once each and their sum are within bounds.
    private static func affordableSlots<Secret: SlotType>(
        of config: VaultConfig, type: Secret.Type
    ) throws(KeysError) -> [KeySlot] {
        var slots: [KeySlot] = []
        var cost: UInt64 = 0
        do throws(ConfigError) {
            for (index, slot) in config.slots.enumerated() where slot.type == Secret.typeName {
                cost += try Secret.check(slot, path: "slots[\(index)]")
                guard cost <= costLimit else {
                    throw .field("slots", problem: "ask for more work than one unlocking may cost")
                }
                slots.append(slot)
            }
        } catch {
            throw .config(error)
        }
        guard !slots.isEmpty else { throw .noSlot(type: Secret.typeName) }
        return slots
    }
}

extension KeysError {
    /// A failure of the library that is nobody's wrong secret.
    init(_ error: CryptoError) {
        switch error {
        case .outOfMemory: self = .config(.outOfMemory)
        case .notAuthentic, .invalidParameter: self = .config(.malformed(offset: 0, reason: "keys that cannot be"))
        }
    }
}
