public import CofferCrypto
public import CofferFormat

/// The content of a key file: any bytes, of which a hash is kept.
public final class KeyFile: Sendable {
    /// Contents so long, and not plain text that a person may have typed, need no stretching.
    static let strongCount = 32
    /// Text up to here may be typed by hand, or be found in a book.
    static let typedLimit = 4096

    let digest: SecretKey
    /// Nobody can guess it: long, and not like what people type.
    let isStrong: Bool

    /// Takes contents, which are wiped. Throws `emptyKeyFile` for none.
    public init(consuming content: inout [UInt8]) throws(KeysError) {
        defer { wipe(&content) }
        guard !content.isEmpty else { throw .emptyKeyFile }
        isStrong = content.count >= Self.strongCount && !Self.looksTyped(content)
        do {
            digest = try SecretKey(hashing: content)
        } catch {
            throw KeysError(error)
        }
    }
}

extension KeyFile {
    /// Whether contents may be text: UTF-8 without control characters, or marked as UTF-16. Random bytes never are.
    private static func looksTyped(_ content: [UInt8]) -> Bool {
        guard content.count <= typedLimit else { return false }
        if content.starts(with: [0xFF, 0xFE]) || content.starts(with: [0xFE, 0xFF]) { return true }
        let hasControls = content.contains { $0 < 0x20 && $0 != 0x09 && $0 != 0x0A && $0 != 0x0D || $0 == 0x7F }
        return !hasControls && UnicodeForm.isText(content)
    }
}

/// A slot that a key file unlocks.
///
/// Contents that nobody can guess need no key derivation that costs anything, so that a mount with one takes no time; what a person may have typed is stretched like a
/// passphrase. The slot says which.
public struct KeyFileSlot: SlotType {
    /// The slot's `type` in coffer.json.
    public static let typeName = "keyfile"
    private static let fast = "blake2b"

    private let file: KeyFile

    /// The file to try.
    public init(_ file: KeyFile) {
        self.file = file
    }

    /// Throws the first member that is out of bounds, and gives what a try costs.
    public static func check(_ slot: KeySlot, path: String) throws(ConfigError) -> UInt64 {
        try slot.checkWrap(path: path)
        if slot.text("kdf") == fast {
            _ = try slot.bytes("salt", count: Argon2id.saltCount, path: path)
            return 0
        }
        return try Argon2Members(of: slot, path: path).work
    }

    /// What the file's content yields with the slot's salt.
    public func key(for slot: KeySlot) throws(KeysError) -> SecretKey {
        let path = "slot \(slot.id)"
        var salt: [UInt8] = []
        var stretching: Argon2Members?
        do throws(ConfigError) {
            if slot.text("kdf") == Self.fast {
                salt = try slot.bytes("salt", count: Argon2id.saltCount, path: path)
            } else {
                stretching = try Argon2Members(of: slot, path: path)
            }
        } catch {
            throw .config(error)
        }
        if let stretching { return try Self.stretched(file, stretching) }
        return try Self.hashed(file, salt: salt)
    }

    fileprivate static func stretched(_ file: KeyFile, _ parameters: Argon2Members) throws(KeysError) -> SecretKey {
        var secret = file.digest.withBytes { Array($0) }
        defer { wipe(&secret) }
        return try parameters.key(of: secret)
    }

    fileprivate static func hashed(_ file: KeyFile, salt: [UInt8]) throws(KeysError) -> SecretKey {
        do {
            return try file.digest.derived("coffer.slot.keyfile", salt)
        } catch {
            throw KeysError(error)
        }
    }
}

/// A new key file.
public struct NewKeyFile: SlotMaker {
    /// Which slots this makes.
    public typealias Slot = KeyFileSlot

    private let file: KeyFile
    private let cost: Argon2Cost

    /// A file, and what one guess at it is to cost where it could be guessed.
    public init(_ file: KeyFile, cost: Argon2Cost) {
        self.file = file
        self.cost = cost
    }

    /// Its members, and the key that they and the secret yield.
    public func newMembers() throws(KeysError) -> (members: [KeySlot.Member], key: SecretKey) {
        if !file.isStrong {
            let parameters = Argon2Members(cost: cost)
            return (parameters.members, try KeyFileSlot.stretched(file, parameters))
        }
        let salt = Random.bytes(Argon2id.saltCount)
        let members: [KeySlot.Member] = [
            .init(name: "kdf", value: .text("blake2b")), .init(name: "salt", value: .text(Base64URL.text(salt))),
        ]
        return (members, try KeyFileSlot.hashed(file, salt: salt))
    }
}
