import CofferCrypto
import CofferFormat

/// The members of a slot whose secret a person may have chosen: salt and cost of Argon2id.
struct Argon2Members {
    /// What `opslimit` may be.
    static let operationsRange: ClosedRange<UInt64> = 1...64
    /// What `memlimit` may be, in bytes.
    static let memoryRange: ClosedRange<UInt64> = (8 << 20)...(4 << 30)
    /// What `kdf` is.
    static let algorithm = "argon2id13"

    let salt: [UInt8]
    let cost: Argon2Cost

    /// New ones.
    init(cost: Argon2Cost) {
        salt = Random.bytes(Argon2id.saltCount)
        self.cost = cost
    }

    /// A slot's, within bounds; `path` names the slot in errors.
    init(of slot: KeySlot, path: String) throws(ConfigError) {
        guard slot.text("kdf") == Self.algorithm else {
            throw .field("\(path).kdf", problem: "is not \(Self.algorithm), the one that this version knows")
        }
        guard let operations = slot.number("opslimit"), Self.operationsRange.contains(operations) else {
            throw .field("\(path).opslimit", problem: "is out of bounds: not a number within 1 to 64")
        }
        guard let memory = slot.number("memlimit"), Self.memoryRange.contains(memory) else {
            throw .field("\(path).memlimit", problem: "is out of bounds: not a number within 8 MiB to 4 GiB in bytes")
        }
        salt = try slot.bytes("salt", count: Argon2id.saltCount, path: path)
        cost = Argon2Cost(operationsLimit: operations, memoryLimit: Int(memory))
    }

    var members: [KeySlot.Member] {
        [
            .init(name: "kdf", value: .text(Self.algorithm)),
            .init(name: "opslimit", value: .number(cost.operationsLimit)),
            .init(name: "memlimit", value: .number(UInt64(clamping: cost.memoryLimit))),
            .init(name: "salt", value: .text(Base64URL.text(salt))),
        ]
    }

    /// What one guess costs, in passes · bytes.
    var work: UInt64 { cost.operationsLimit * UInt64(cost.memoryLimit) }

    /// The key that a secret yields.
    func key(of secret: [UInt8]) throws(KeysError) -> SecretKey {
        do {
            return try Argon2id.key(
                passphrase: secret, salt: salt, operationsLimit: cost.operationsLimit, memoryLimit: cost.memoryLimit)
        } catch {
            throw .outOfMemory(cost.memoryLimit)
        }
    }
}
