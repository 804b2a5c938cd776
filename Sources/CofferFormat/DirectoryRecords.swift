import CofferCrypto

/// `coffer.dir`: the ids that a renamed directory keeps, each valid at one place.
///
///     "COFD" │ version 1 │ flags 0 │ count u16 │ record 48 × count
///     record = SIV(AD = id that the place derives; kind u8 ‖ 0¹⁵ ‖ id 16)
public struct DirectoryRecords: Sendable {
    /// The most records that one file holds.
    public static let maximumCount = 64
    private static let recordCount = 48
    private static let magic: [UInt8] = Array("COFD".utf8)
    private static let pinKind: UInt8 = 1
    private static let markKind: UInt8 = 2
    private static let closedKind: UInt8 = 3
    /// The largest file.
    public static let maximumByteCount = 8 + maximumCount * recordCount

    private let ciphers: [SIV]

    /// Records under the ring's keys.
    public init(ring: KeyRing) {
        ciphers = ring.epochsNewestFirst.compactMap { epoch in
            guard let mac = ring.subkey(.directoryMAC, epoch: epoch),
                let encryption = ring.subkey(.directoryEncryption, epoch: epoch)
            else { return nil }
            return SIV(macKey: mac, encryptionKey: encryption)
        }
    }

    /// The file for the given identities, one for each valid place. `malformed` where they are too many.
    public func encode(_ identities: [DirectoryIdentity]) throws(FormatError) -> [UInt8] {
        guard let cipher = ciphers.first else { throw .notAuthentic }
        var records: [[UInt8]] = []
        for identity in identities {
            for pin in identity.pins {
                records.append(Self.record(cipher, Self.pinKind, pin.bytes, at: identity.derived))
            }
            let nothing = [UInt8](repeating: 0, count: DirectoryID.byteCount)
            if identity.isMarked {
                records.append(Self.record(cipher, Self.markKind, nothing, at: identity.derived))
            }
            if identity.isClosed {
                records.append(Self.record(cipher, Self.closedKind, nothing, at: identity.derived))
            }
        }
        guard records.count <= Self.maximumCount else { throw .malformed }
        return Self.magic + [1, 0, UInt8(records.count), 0] + records.joined()
    }

    /// What the file says of the place that derives `derived`. `malformed` or `unsupported` where it is no such file; records
    /// of other places are passed over.
    public func decode(_ bytes: [UInt8], derived: DirectoryID) throws(FormatError) -> DirectoryIdentity {
        guard bytes.count >= 8, Array(bytes[..<4]) == Self.magic else { throw .malformed }
        guard bytes[4] == 1, bytes[5] == 0 else { throw .unsupported }
        let count = Int(bytes[6]) | Int(bytes[7]) << 8
        guard count <= Self.maximumCount, bytes.count == 8 + count * Self.recordCount else { throw .malformed }
        var pins: [DirectoryID] = []
        var isMarked = false
        var isClosed = false
        for index in 0..<count {
            let record = Array(bytes[(8 + index * Self.recordCount)..<(8 + (index + 1) * Self.recordCount)])
            guard let payload = open(record, at: derived) else { continue }
            switch payload[0] {
            case Self.pinKind: pins.append(DirectoryID(bytes: Array(payload[16..<32])))
            case Self.markKind: isMarked = true
            case Self.closedKind: isClosed = true
            default: break
            }
        }
        return DirectoryIdentity(derived: derived, pins: pins, isMarked: isMarked, isClosed: isClosed)
    }

    /// How many of a well-formed file's records do not verify at the place that derives `derived`: they are of another place, or damaged.
    public func strangerCount(_ bytes: [UInt8], derived: DirectoryID) -> Int {
        stride(from: 8, to: bytes.count - Self.recordCount + 1, by: Self.recordCount).count { start in
            open(Array(bytes[start..<(start + Self.recordCount)]), at: derived) == nil
        }
    }

    private func open(_ record: [UInt8], at place: DirectoryID) -> [UInt8]? {
        for cipher in ciphers {
            if let payload = try? cipher.open(record, associatedData: place.bytes) { return payload }
        }
        return nil
    }

    private static func record(_ cipher: SIV, _ kind: UInt8, _ id: [UInt8], at place: DirectoryID) -> [UInt8] {
        cipher.seal([kind] + [UInt8](repeating: 0, count: 15) + id, associatedData: place.bytes)
    }
}
