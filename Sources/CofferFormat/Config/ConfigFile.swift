import CofferCrypto

/// The bytes of a coffer.json and what they say.
///
/// The file ends in `"mac": "` ‖ 64 lowercase hexadecimal digits ‖ `"` ‖ newline ‖ `}` ‖ newline; the MAC covers every
/// byte before the digits. So the bytes themselves are kept: what is verified is what was read, not what a parser made
/// of it.
public struct ConfigFile: Equatable, Sendable {
    /// The file's name in the vault's root.
    public static let name = "coffer.json"
    /// The most bytes that a configuration may have.
    public static let byteLimit = 1 << 20

    private static let beforeMAC = Array("\"mac\": \"".utf8)
    private static let afterMAC = Array("\"\n}\n".utf8)
    private static let macDigits = 64

    /// The file's bytes.
    public let bytes: [UInt8]

    /// What the file says, within bounds but not verified: enough to unlock with and to show as unverified, and not to
    /// be acted on.
    public let unverified: VaultConfig

    /// Reads a file's bytes: bounds and shape only.
    public init(parsing bytes: [UInt8]) throws(ConfigError) {
        guard bytes.count <= Self.byteLimit else { throw .tooLarge }
        // Before anything else, because a later version may have changed everything else.
        if let format = ConfigParser.leadingFormat(bytes), format > VaultConfig.currentFormat {
            throw .newerFormat(format)
        }
        let config = try VaultConfig(parsing: bytes)
        let digits = bytes.dropLast(Self.afterMAC.count).suffix(Self.macDigits)
        let mac = String(decoding: digits, as: UTF8.self)
        guard bytes.suffix(Self.afterMAC.count).elementsEqual(Self.afterMAC),
            Hex.decode(mac)?.count == Self.macDigits / 2,
            bytes[..<digits.startIndex].suffix(Self.beforeMAC.count).elementsEqual(Self.beforeMAC)
        else { throw .field("mac", problem: "is not at the end of the file in the fixed form") }
        self.bytes = bytes
        unverified = config
    }

    /// The file of `config`, with every slot's MAC and the file's MAC computed under the ring's newest epoch.
    public init(sealing config: VaultConfig, with ring: KeyRing) throws(ConfigError) {
        var config = config
        for index in config.slots.indices {
            config.slots[index].set("mac", to: .text(config.slots[index].mac(under: ring)))
        }
        try config.check()
        let covered = Array(config.textBeforeMAC.utf8)
        let bytes = covered + Array(Hex.encode(Self.mac(of: covered, under: ring)).utf8) + Self.afterMAC
        guard bytes.count <= Self.byteLimit else { throw .tooLarge }
        self.bytes = bytes
        unverified = config
    }

    /// What the file says, now that its MAC and its slots' MACs verify under `ring`.
    public func verified(with ring: KeyRing) throws(ConfigError) -> VaultConfig {
        let end = bytes.count - Self.afterMAC.count - Self.macDigits
        let digits = String(decoding: bytes[end...].prefix(Self.macDigits), as: UTF8.self)
        guard let mac = Hex.decode(digits), constantTimeEqual(mac, Self.mac(of: Array(bytes[..<end]), under: ring))
        else {
            throw .macMismatch
        }
        for (index, slot) in unverified.slots.enumerated() {
            guard slot.text("mac") == slot.mac(under: ring) else {
                throw .slotMACMismatch(path: "slots[\(index)]")
            }
        }
        return unverified
    }

    private static func mac(of covered: [UInt8], under ring: KeyRing) -> [UInt8] {
        var hash = Hash(key: ring.newestSubkey(.configuration), outputCount: 32)
        hash.update("coffer.config.mac")
        hash.update(covered)
        return hash.finish()
    }
}
