public import CofferCrypto
public import CofferFormat

/// A slot that some of a number of pieces unlock together.
public struct SharesSlot: SlotType {
    /// The slot's `type` in coffer.json.
    public static let typeName = "shares"
    fileprivate static let derivation: StaticString = "coffer.slot.shares"

    /// 22 bytes, filled up with zeros.
    private let secret: SecretKey

    /// The pieces to try: at least as many as they say are needed. Doubled ones count once. Throws `unusableShare` where they do not go together, or are too few.
    public init(_ shares: [RecoveryShare]) throws(KeysError) {
        guard let first = shares.first else { throw .unusableShare("there is none") }
        for share in shares where share.set != first.set || share.threshold != first.threshold {
            throw .unusableShare(
                "piece \(share.number) of set \(share.setName) does not go with piece \(first.number) of set \(first.setName)"
            )
        }
        var chosen: [UInt8: RecoveryShare] = [:]
        for share in shares {
            if let other = chosen[share.number], !other.piece.isEqual(to: share.piece) {
                throw .unusableShare("two different pieces say that they are number \(share.number)")
            }
            chosen[share.number] = share
        }
        guard chosen.count >= Int(first.threshold) else {
            throw .unusableShare("it takes \(first.threshold) of them, and these are \(chosen.count)")
        }
        // All of them: where one more than needed is not of the same secret, that shows.
        var pieces = chosen.values.map { share in
            (number: share.number, bytes: share.piece.withBytes { Array($0.prefix(RecoveryShare.secretCount)) })
        }
        defer { for index in pieces.indices { wipe(&pieces[index].bytes) } }
        do throws(CryptoError) {
            var joined = try SecretSharing.join(pieces)
            secret = try SecretKey(consuming: &joined)
        } catch {
            throw KeysError(error)
        }
    }

    /// Throws the first member that is not as it should be; a try costs nothing.
    public static func check(_ slot: KeySlot, path: String) throws(ConfigError) -> UInt64 {
        try slot.checkWrap(path: path)
        try slot.checkSalt(path: path)
        guard let set = slot.text("set"), Hex.decode(set)?.count == 3 else {
            throw .field("\(path).set", problem: "is not 6 hexadecimal digits")
        }
        guard let threshold = slot.number("threshold"), (2...255).contains(threshold) else {
            throw .field("\(path).threshold", problem: "is not within 2 to 255")
        }
        guard let count = slot.number("count"), (threshold...255).contains(count) else {
            throw .field("\(path).count", problem: "is not within the threshold to 255")
        }
        return 0
    }

    /// What the joined secret yields with the slot's salt.
    public func key(for slot: KeySlot) throws(KeysError) -> SecretKey {
        try slot.saltedKey(of: secret, Self.derivation)
    }
}

/// A new secret, of which only the pieces are kept.
public struct NewShares: SlotMaker {
    /// Which slots this makes.
    public typealias Slot = SharesSlot

    /// The pieces, to be shown once.
    public let shares: [RecoveryShare]
    private let secret: SecretKey

    /// A random secret in `count` pieces, any `threshold` of which give it back: 2 ≤ `threshold` ≤ `count` ≤ 255.
    public init(threshold: Int, count: Int) throws(KeysError) {
        var bytes = Random.bytes(RecoveryShare.secretCount)
        try self.init(threshold: threshold, count: count, set: Random.bytes(3), consuming: &bytes)
    }

    /// One of given 22 bytes, which are wiped: for test vectors.
    init(threshold: Int, count: Int, set: [UInt8], consuming bytes: inout [UInt8]) throws(KeysError) {
        do throws(CryptoError) {
            secret = try SecretKey(consuming: &bytes)
            var pieces = try SecretSharing.split(
                secret, byteCount: RecoveryShare.secretCount, threshold: threshold, count: count)
            var shares: [RecoveryShare] = []
            for index in pieces.indices {
                shares.append(
                    try RecoveryShare(
                        number: UInt8(index + 1), threshold: UInt8(threshold), set: set, consuming: &pieces[index]))
            }
            self.shares = shares
        } catch {
            throw KeysError(error)
        }
    }

    /// Its members, and the key that they and the secret yield.
    public func newMembers() throws(KeysError) -> (members: [KeySlot.Member], key: SecretKey) {
        guard let first = shares.first else { throw .unusableShare("there is none") }
        let (salted, key) = try KeySlot.newSaltedKey(of: secret, SharesSlot.derivation)
        let members: [KeySlot.Member] = [
            .init(name: "set", value: .text(first.setName)),
            .init(name: "threshold", value: .number(UInt64(first.threshold))),
            .init(name: "count", value: .number(UInt64(shares.count))),
        ]
        return (members + salted, key)
    }
}
