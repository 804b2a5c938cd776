public import CofferCrypto
public import CofferFormat

/// A slot that a passphrase unlocks, by Argon2id.
public struct PassphraseSlot: SlotType {
    /// The slot's `type` in coffer.json.
    public static let typeName = "passphrase"
    /// What `opslimit` may be.
    public static let operationsRange: ClosedRange<UInt64> = 1...64
    /// What `memlimit` may be, in bytes.
    public static let memoryRange: ClosedRange<UInt64> = (8 << 20)...(4 << 30)

    private static let algorithm = "argon2id13"
    // The ring key under the slot's wrap.
    private static let wrapCount = SecretKey.byteCount + KeyWrap.overhead

    private let passphrase: Passphrase

    /// The passphrase to try.
    public init(_ passphrase: Passphrase) {
        self.passphrase = passphrase
    }

    /// Throws the first member that is out of bounds, and gives opslimit · memlimit.
    public static func check(_ slot: KeySlot, path: String) throws(ConfigError) -> UInt64 {
        let parameters = try Parameters(of: slot, path: path)
        return parameters.cost.operationsLimit * UInt64(parameters.cost.memoryLimit)
    }

    /// Argon2id of the passphrase with the slot's salt and cost.
    public func key(for slot: KeySlot) throws(KeysError) -> SecretKey {
        let parameters: Parameters
        do {
            parameters = try Parameters(of: slot, path: "slot \(slot.id)")
        } catch {
            throw .config(error)
        }
        return try Self.key(of: passphrase, salt: parameters.salt, cost: parameters.cost)
    }

    /// A new slot for `passphrase` that holds the ring key.
    ///
    /// `label` is free text; `created` is when, as ISO 8601 in UTC.
    public static func make(
        for passphrase: Passphrase, holding ringKey: SecretKey, cost: Argon2Cost, label: String, created: String
    ) throws(KeysError) -> KeySlot {
        let salt = Random.bytes(Argon2id.saltCount)
        let slot = KeySlot(members: [
            .init(name: "type", value: .text(typeName)),
            .init(name: "id", value: .text(Hex.encode(Random.bytes(8)))),
            .init(name: "label", value: .text(label)),
            .init(name: "created", value: .text(created)),
            .init(name: "kdf", value: .text(algorithm)),
            .init(name: "opslimit", value: .number(cost.operationsLimit)),
            .init(name: "memlimit", value: .number(UInt64(clamping: cost.memoryLimit))),
            .init(name: "salt", value: .text(Base64URL.text(salt))),
        ])
        let key = try key(of: passphrase, salt: salt, cost: cost)
        let wrapped: KeySlot
        do {
            wrapped = try slot.wrapping(ringKey, under: key)
        } catch {
            throw KeysError(error)
        }
        // What reading would refuse must not be made.
        do {
            _ = try check(wrapped, path: "new slot")
        } catch {
            throw .config(error)
        }
        return wrapped
    }

    private static func key(
        of passphrase: Passphrase, salt: [UInt8], cost: Argon2Cost
    ) throws(KeysError) -> SecretKey {
        do {
            return try Argon2id.key(
                passphrase: passphrase.bytes, salt: salt, operationsLimit: cost.operationsLimit,
                memoryLimit: cost.memoryLimit)
        } catch {
            throw .outOfMemory(cost.memoryLimit)
        }
    }

    /// The members that unlocking needs, within bounds.
    private struct Parameters {
        let salt: [UInt8]
        let cost: Argon2Cost

        init(of slot: KeySlot, path: String) throws(ConfigError) {
            guard slot.text("kdf") == PassphraseSlot.algorithm else {
                throw .field(
                    "\(path).kdf", problem: "is not \(PassphraseSlot.algorithm), the one that this version knows")
            }
            guard let operations = slot.number("opslimit"), operationsRange.contains(operations) else {
                throw .field("\(path).opslimit", problem: "is out of bounds: not a number within 1 to 64")
            }
            guard let memory = slot.number("memlimit"), memoryRange.contains(memory) else {
                throw .field(
                    "\(path).memlimit", problem: "is out of bounds: not a number within 8 MiB to 4 GiB in bytes")
            }
            guard let salt = slot.text("salt").flatMap({ Base64URL.decode($0) }), salt.count == Argon2id.saltCount
            else {
                throw .field("\(path).salt", problem: "is not the base64url of 16 bytes")
            }
            guard let wrap = slot.text("wrap").flatMap({ Base64URL.decode($0) }), wrap.count == wrapCount else {
                throw .field("\(path).wrap", problem: "is not the base64url of \(wrapCount) bytes")
            }
            self.salt = salt
            cost = Argon2Cost(operationsLimit: operations, memoryLimit: Int(memory))
        }
    }
}
