import CofferCrypto
import CofferFormat

/// A piece of a recovery secret, as it is printed: any few of a set of them open the vault.
///
///     4 bits version (2) ‖ number 8 ‖ threshold 8 ‖ set 24 ‖ 176 bits, in 11 checked groups
public final class RecoveryShare: Sendable {
    private static let version: UInt8 = 2
    static let secretCount = 22
    static let groupCount = 11

    /// Which one it is, from 1.
    public let number: UInt8
    /// How many are needed.
    public let threshold: UInt8
    /// Which secret it is a piece of: 3 bytes, which mean nothing else.
    public let set: [UInt8]
    // 22 bytes, filled up with zeros.
    let piece: SecretKey

    /// A piece from its parts; its 22 bytes are wiped.
    init(number: UInt8, threshold: UInt8, set: [UInt8], consuming piece: inout [UInt8]) throws(CryptoError) {
        self.number = number
        self.threshold = threshold
        self.set = set
        self.piece = try SecretKey(consuming: &piece)
    }

    /// The piece that a person typed, in UTF-8, which the caller wipes.
    public static func parse(_ text: [UInt8]) throws(KeysError) -> RecoveryShare {
        var bytes: [UInt8]
        do {
            bytes = try CheckedGroups.bytes(text, count: groupCount, version: version)
        } catch {
            switch error {
            case .count(let found, let expected):
                throw .unusableShare(
                    found == RecoveryCode.groupCount
                        ? "it is a recovery code, which opens the vault by itself"
                        : "it has \(found) groups, and a piece has \(expected)")
            case .group(let number): throw .unusableShare("group \(number) is not as it was printed")
            case .version: throw .unusableShare("it is of another version of coffer")
            }
        }
        defer { wipe(&bytes) }
        var piece = Array(bytes[5..<(5 + secretCount)])
        guard bytes[0] >= 1, bytes[1] >= 2 else { throw .unusableShare("no piece says what it says") }
        do {
            return try RecoveryShare(
                number: bytes[0], threshold: bytes[1], set: Array(bytes[2..<5]), consuming: &piece)
        } catch {
            throw KeysError(error)
        }
    }

    /// What is printed.
    public var text: String {
        piece.withBytes { piece in
            var bytes = [number, threshold] + set + piece.prefix(Self.secretCount)
            defer { wipe(&bytes) }
            return CheckedGroups.text(CheckedGroups.groups(bytes, after: UInt64(Self.version), bits: 4))
        }
    }

    /// The set as it is shown: 6 hexadecimal digits.
    public var setName: String { Hex.encode(set) }
}
