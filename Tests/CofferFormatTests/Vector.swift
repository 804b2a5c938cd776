import CofferCrypto
import FoundationEssentials

@testable import CofferFormat

/// A byte string in a vector: hexadecimal digits.
struct HexBytes: Decodable, Hashable, CustomStringConvertible {
    let bytes: [UInt8]

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let digits = try container.decode(String.self)
        guard let bytes = Hex.decode(digits) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not hexadecimal")
        }
        self.bytes = bytes
    }

    var description: String { Hex.encode(Array(bytes.prefix(24))) }
}

/// Reads `Vectors/<name>.json`.
func loadVector<Value: Decodable>(_ name: String, as type: Value.Type = Value.self) throws -> Value {
    let folder = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(Value.self, from: Data(contentsOf: URL(filePath: "\(folder)/Vectors/\(name).json")))
}

/// The ring of some vault keys by epoch.
func vectorRing(_ keys: [String: HexBytes]) throws -> KeyRing {
    var ring: [UInt8: SecretKey] = [:]
    for (epoch, key) in keys {
        guard let epoch = UInt8(epoch) else { throw CryptoError.invalidParameter }
        ring[epoch] = try SecretKey(copying: key.bytes)
    }
    return try KeyRing(keys: ring)
}

/// The ring with one key only, so that what it seals is of that epoch.
func vectorRing(_ keys: [String: HexBytes], only epoch: UInt8) throws -> KeyRing {
    try vectorRing(keys.filter { $0.key == String(epoch) })
}
