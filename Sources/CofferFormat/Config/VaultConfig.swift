import CofferCrypto

/// What coffer.json says.
public struct VaultConfig: Equatable, Sendable {
    /// The format that this version of Coffer reads and writes.
    public static let currentFormat = 1
    /// Bytes in a vault's id.
    public static let vaultIDCount = 16
    /// What `nameMax` may be, in bytes.
    public static let nameMaxRange = 64...255
    /// How many slots there may be.
    public static let slotLimit = 64

    /// The format's version.
    public let format: Int
    /// 16 random bytes that stay for the vault's life.
    public let vaultID: [UInt8]
    /// What new files are encrypted with.
    public var cipher: CipherSuite
    /// The longest stored name, in bytes.
    public var nameMax: Int
    /// Grows by one with each change of the configuration.
    public var counter: UInt64
    /// The vault keys, wrapped under the ring key.
    public var ring: [UInt8]
    /// The ways in; never empty.
    public var slots: [KeySlot]

    /// A configuration of the current format.
    public init(
        vaultID: [UInt8], cipher: CipherSuite, nameMax: Int, counter: UInt64, ring: [UInt8], slots: [KeySlot]
    ) {
        format = Self.currentFormat
        self.vaultID = vaultID
        self.cipher = cipher
        self.nameMax = nameMax
        self.counter = counter
        self.ring = ring
        self.slots = slots
    }

    /// Throws the first field that is out of its bounds: what reading refuses, writing must not make.
    func check() throws(ConfigError) {
        guard vaultID.count == Self.vaultIDCount else { throw .field("vault", problem: "is not 32 hexadecimal digits") }
        guard Self.nameMaxRange.contains(nameMax) else { throw .field("name_max", problem: "is not within 64 to 255") }
        guard counter >= 1, counter <= ConfigParser.numberLimit else {
            throw .field("counter", problem: "is not within 1 to 2^53")
        }
        let entries = ring.count - KeyWrap.overhead
        guard entries > 0, entries % KeyRing.entryCount == 0, entries / KeyRing.entryCount <= 256 else {
            throw .field("ring", problem: "has a length that no ring has")
        }
        guard !slots.isEmpty else { throw .field("slots", problem: "is empty: there is no way in") }
        guard slots.count <= Self.slotLimit else {
            throw .field("slots", problem: "are \(slots.count), more than \(Self.slotLimit)")
        }
        var ids: Set<String> = []
        for (index, slot) in slots.enumerated() {
            try slot.check(path: "slots[\(index)]")
            guard ids.insert(slot.id).inserted else {
                throw .field("slots[\(index)].id", problem: "is another slot's id too")
            }
        }
    }
}
