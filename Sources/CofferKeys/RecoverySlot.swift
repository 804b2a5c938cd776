public import CofferCrypto
public import CofferFormat

/// A code that Coffer makes and a person prints: it opens the vault when everything else is lost.
///
///     4 bits version (1) ‖ 176 random bits, in 9 checked groups
public final class RecoveryCode: Sendable {
    private static let version: UInt8 = 1
    private static let secretCount = 22
    static let groupCount = 9

    /// 22 bytes, filled up with zeros.
    let secret: SecretKey

    private init(secret: SecretKey) {
        self.secret = secret
    }

    /// A new one.
    public static func random() throws(KeysError) -> RecoveryCode {
        var bytes = Random.bytes(secretCount)
        return try RecoveryCode(consuming: &bytes)
    }

    /// One of given 22 bytes, which are wiped: for test vectors.
    convenience init(consuming bytes: inout [UInt8]) throws(KeysError) {
        precondition(bytes.count == Self.secretCount)
        do {
            self.init(secret: try SecretKey(consuming: &bytes))
        } catch {
            throw KeysError(error)
        }
    }

    /// The code that a person typed, in UTF-8, which the caller wipes.
    public static func parse(_ text: [UInt8]) throws(KeysError) -> RecoveryCode {
        var bytes: [UInt8]
        do {
            bytes = try CheckedGroups.bytes(text, count: groupCount, version: version)
        } catch {
            switch error {
            case .count(let found, let expected):
                throw .mistypedCode(
                    found == RecoveryShare.groupCount
                        ? "it is a piece of one, which opens the vault with others (--shares)"
                        : "it has \(found) groups, and a recovery code has \(expected)")
            case .group(let number): throw .mistypedCode("group \(number) is not as it was printed")
            case .version: throw .mistypedCode("it is of a newer version of coffer")
            }
        }
        return try RecoveryCode(consuming: &bytes)
    }

    /// What is printed.
    public var text: String {
        secret.withBytes { secret in
            var bytes = Array(secret.prefix(Self.secretCount))
            defer { wipe(&bytes) }
            return CheckedGroups.text(CheckedGroups.groups(bytes, after: UInt64(Self.version), bits: 4))
        }
    }
}

/// A slot that a recovery code unlocks.
public struct RecoverySlot: SlotType, SlotMaker {
    /// Which slots this makes.
    public typealias Slot = RecoverySlot
    /// The slot's `type` in coffer.json.
    public static let typeName = "recovery"
    private static let derivation: StaticString = "coffer.slot.recovery"

    private let code: RecoveryCode

    /// The code to try, or to make a slot for.
    public init(_ code: RecoveryCode) {
        self.code = code
    }

    /// Throws the first member that is not as it should be; a try costs nothing.
    public static func check(_ slot: KeySlot, path: String) throws(ConfigError) -> UInt64 {
        try slot.checkWrap(path: path)
        try slot.checkSalt(path: path)
        return 0
    }

    /// What the code yields with the slot's salt.
    public func key(for slot: KeySlot) throws(KeysError) -> SecretKey {
        try slot.saltedKey(of: code.secret, Self.derivation)
    }

    /// Its members, and the key that they and the secret yield.
    public func newMembers() throws(KeysError) -> (members: [KeySlot.Member], key: SecretKey) {
        try KeySlot.newSaltedKey(of: code.secret, Self.derivation)
    }
}
