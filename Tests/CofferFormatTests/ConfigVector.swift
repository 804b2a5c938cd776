import CofferCrypto
import CofferFormat
import FoundationEssentials

/// `Vectors/config.json`: a configuration with every value that opening it passes through.
///
/// `check_config.py` beside it checks the same file without any of this code.
struct ConfigVector: Decodable {
    struct Refused: Decodable {
        let why: String
        let text: String
    }

    let text: String
    let passphrase: String
    let salt: String
    let wrapNonce: String
    let ringNonce: String
    let slotKey: String
    let slotCanonical: String
    let slotCanonicalUnwrapped: String
    let ringKey: String
    let vaultKeys: [String: String]
    let configKey: String
    let mac: String
    let fingerprints: [String: String]
    let refused: [Refused]

    static func load() throws -> ConfigVector {
        let folder = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(
            ConfigVector.self, from: Data(contentsOf: URL(filePath: folder + "/Vectors/config.json")))
    }

    func ring() throws -> KeyRing {
        var keys: [UInt8: SecretKey] = [:]
        for (epoch, digits) in vaultKeys {
            guard let epoch = UInt8(epoch) else { throw CryptoError.invalidParameter }
            keys[epoch] = try SecretKey(hex: digits)
        }
        return try KeyRing(keys: keys)
    }
}

extension SecretKey {
    /// A key given as 64 hexadecimal digits.
    convenience init(hex: String) throws(CryptoError) {
        guard let bytes = Hex.decode(hex) else { throw .invalidParameter }
        try self.init(copying: bytes)
    }

    /// The key's bytes, for comparison with a vector.
    var hex: String { Hex.encode(withBytes { Array($0) }) }
}

/// Opens a configuration as the format document says, in its order.
func openConfig(_ bytes: [UInt8], passphrase: String) throws -> VaultConfig {
    let file = try ConfigFile(parsing: bytes)
    for slot in file.unverified.slots where slot.type == "passphrase" {
        guard let salt = slot.text("salt").flatMap({ Base64URL.decode($0) }), let operations = slot.number("opslimit"),
            let memory = slot.number("memlimit"), (1...64).contains(operations), (8 << 20...4 << 30).contains(memory)
        else { throw ConfigError.field("slots", problem: "out of bounds") }
        let key = try Argon2id.key(
            passphrase: Array(passphrase.utf8), salt: salt, operationsLimit: operations, memoryLimit: Int(memory))
        let ringKey = try slot.ringKey(under: key)
        let ring = try KeyRing(
            unwrapping: file.unverified.ring, under: ringKey, vaultID: file.unverified.vaultID)
        return try file.verified(with: ring)
    }
    throw CryptoError.notAuthentic
}
