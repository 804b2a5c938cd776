import CofferCrypto

/// A vault's keys, one per epoch, with every sub-key derived once.
///
/// No I/O and nothing that changes after `init`, so any thread may use it. New data is written under `newest`; what
/// does not name its epoch is tried in the order of `epochsNewestFirst`.
public final class KeyRing: Sendable {
    /// Bytes of a ring entry before it is wrapped: epoch 1 ‖ key 32.
    static let entryCount = 1 + SecretKey.byteCount

    /// The epochs that the ring holds, highest first; never empty.
    public let epochsNewestFirst: [UInt8]
    /// The epoch that new data is written under.
    public let newest: UInt8

    private let keys: [UInt8: SecretKey]
    // At [epoch][purpose - 1], empty for epochs that the ring does not hold: a look-up on the hot path is two
    // indexings.
    private let subkeys: [[SecretKey]]
    private let newestSubkeys: [SecretKey]

    /// The ring of these vault keys; `invalidParameter` if there are none.
    public init(keys: [UInt8: SecretKey]) throws(CryptoError) {
        guard let newest = keys.keys.max() else { throw .invalidParameter }
        var table = [[SecretKey]](repeating: [], count: Int(newest) + 1)
        for (epoch, key) in keys {
            for purpose in KeyPurpose.allCases {
                table[Int(epoch)].append(try key.subkey(purpose))
            }
        }
        self.keys = keys
        self.newest = newest
        epochsNewestFirst = keys.keys.sorted(by: >)
        newestSubkeys = table[Int(newest)]
        subkeys = table
    }

    /// A new vault's ring: one random key, epoch 0.
    public static func random() throws(CryptoError) -> KeyRing {
        try KeyRing(keys: [0: SecretKey.random()])
    }

    /// The ring with one more key, a random one under the next epoch; nil where there is no epoch left.
    public func withAnotherEpoch() throws(CryptoError) -> KeyRing? {
        guard newest < UInt8.max else { return nil }
        var keys = keys
        keys[newest + 1] = try SecretKey.random()
        return try KeyRing(keys: keys)
    }

    /// The ring of the newest epoch alone.
    public func newestOnly() throws(CryptoError) -> KeyRing {
        try KeyRing(keys: keys.filter { $0.key == newest })
    }

    /// The sub-key for one purpose, or nil where the ring does not hold the epoch.
    public func subkey(_ purpose: KeyPurpose, epoch: UInt8) -> SecretKey? {
        guard Int(epoch) < subkeys.count else { return nil }
        let row = subkeys[Int(epoch)]
        return row.isEmpty ? nil : row[Self.index(of: purpose)]
    }

    /// The sub-key of the newest epoch for one purpose.
    public func newestSubkey(_ purpose: KeyPurpose) -> SecretKey {
        newestSubkeys[Self.index(of: purpose)]
    }

    /// What stands for an epoch's vault key where the key must not be told: 32 hexadecimal digits, or nil where the
    /// ring does not hold the epoch.
    public func fingerprint(epoch: UInt8) -> String? {
        guard let key = subkey(.configuration, epoch: epoch) else { return nil }
        var hash = Hash(key: key, outputCount: 16)
        hash.update("coffer.fingerprint")
        return Hex.encode(hash.finish())
    }

    /// The `ring` member of coffer.json: the vault keys wrapped under the ring key, bound to the vault's id (16 bytes).
    public func wrapped(under ringKey: SecretKey, vaultID: [UInt8]) throws(CryptoError) -> [UInt8] {
        var plaintext = self.plaintext()
        defer { wipe(&plaintext) }
        return try KeyWrap(key: ringKey, label: Self.label).wrap(plaintext, associatedData: vaultID)
    }

    /// As above with a given 24-byte nonce: for test vectors only.
    public func wrapped(under ringKey: SecretKey, vaultID: [UInt8], nonce: [UInt8]) throws(CryptoError) -> [UInt8] {
        var plaintext = self.plaintext()
        defer { wipe(&plaintext) }
        return try KeyWrap(key: ringKey, label: Self.label).wrap(plaintext, associatedData: vaultID, nonce: nonce)
    }

    /// The ring in `blob`; `notAuthentic` where it was not wrapped under this ring key for this vault or is not well
    /// formed.
    public convenience init(unwrapping blob: [UInt8], under ringKey: SecretKey, vaultID: [UInt8]) throws(CryptoError) {
        var plaintext = try KeyWrap(key: ringKey, label: Self.label).unwrap(blob, associatedData: vaultID)
        defer { wipe(&plaintext) }
        guard !plaintext.isEmpty, plaintext.count % Self.entryCount == 0 else { throw .notAuthentic }
        var keys: [UInt8: SecretKey] = [:]
        var last = -1
        for start in stride(from: 0, to: plaintext.count, by: Self.entryCount) {
            let epoch = plaintext[start]
            guard Int(epoch) > last else { throw .notAuthentic }
            last = Int(epoch)
            keys[epoch] = try SecretKey { target throws(CryptoError) in
                target.copyBytes(from: plaintext[(start + 1)..<(start + Self.entryCount)])
            }
        }
        try self.init(keys: keys)
    }

    private static let label: StaticString = "coffer.ring.wrap"

    private static func index(of purpose: KeyPurpose) -> Int { Int(purpose.rawValue) - 1 }

    // Room for every entry is taken at once: an array that grew would leave unwiped copies of keys behind.
    private func plaintext() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(keys.count * Self.entryCount)
        for (epoch, key) in keys.sorted(by: { $0.key < $1.key }) {
            bytes.append(epoch)
            key.withBytes { bytes.append(contentsOf: $0) }
        }
        return bytes
    }
}
