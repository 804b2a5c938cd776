import CofferCrypto

/// Extended attributes: names and values, plaintext to stored and back.
public struct AttributeCodec: Sendable {
    /// What a stored attribute's name says by its form alone.
    public enum Kind: Equatable, Sendable {
        /// The sealed name.
        case short(sealed: [UInt8])
        /// The sealed name's tag; the name itself is in the value.
        case long(tag: [UInt8])
        /// None of Coffer's.
        case foreign
    }

    /// The stored prefix on files and directories.
    public static let userPrefix: [UInt8] = Array("user.coffer.".utf8)
    /// The stored prefix on objects that cannot carry `user.` attributes.
    public static let trustedPrefix: [UInt8] = Array("trusted.coffer.".utf8)
    /// The owner id of everything that is not a regular file.
    public static let noOwner = [UInt8](repeating: 0, count: FileHeader.fileIDCount)
    private static let longMark: [UInt8] = Array("long.".utf8)
    private static let maximumStoredName = 255

    private struct Epoch: Sendable {
        let number: UInt8
        let names: SIV
        let values: SmallAEAD
    }

    /// Newest first.
    private let epochs: [Epoch]

    /// Attributes under the ring's keys.
    public init(ring: KeyRing) {
        epochs = ring.epochsNewestFirst.compactMap { number in
            guard let mac = ring.subkey(.xattrNameMAC, epoch: number),
                let encryption = ring.subkey(.xattrNameEncryption, epoch: number),
                let values = ring.subkey(.xattrValues, epoch: number)
            else { return nil }
            return Epoch(
                number: number, names: SIV(macKey: mac, encryptionKey: encryption), values: SmallAEAD(key: values))
        }
    }

    /// The stored names that `name` may have, the newest epoch's first. `owner` is the file id or `noOwner`.
    public func storedNames(of name: [UInt8], owner: [UInt8], prefix: [UInt8]) -> [StoredName] {
        epochs.map { epoch in
            let sealed = epoch.names.seal(name, associatedData: owner)
            if prefix.count + Base64URL.encodedCount(sealed.count) <= Self.maximumStoredName {
                return StoredName(prefix + Base64URL.encode(sealed))
            }
            return StoredName(prefix + Self.longMark + Base64URL.encode(sealed[..<SIV.tagCount]))
        }
    }

    /// The stored value: epoch ‖ nonce ‖ ciphertext ‖ tag, with the name inside where the stored name does not carry it.
    public func seal(
        _ value: [UInt8], name: [UInt8], owner: [UInt8], prefix: [UInt8]
    ) throws(FormatError) -> [UInt8] {
        try seal(value, name: name, owner: owner, prefix: prefix, nonce: Random.bytes(24))
    }

    /// As above with a given 24-byte nonce: for test vectors only.
    public func seal(
        _ value: [UInt8], name: [UInt8], owner: [UInt8], prefix: [UInt8], nonce: [UInt8]
    ) throws(FormatError) -> [UInt8] {
        guard let epoch = epochs.first else { throw .notAuthentic }
        let isLong = Self.isLong(name, prefix: prefix)
        let bound = isLong ? Self.tag(of: name, owner: owner, epoch) : name
        let plaintext = isLong ? Self.lengthPrefixed(name) + value : value
        return [epoch.number] + epoch.values.seal(plaintext, associatedData: owner + bound, nonce: nonce)
    }

    /// The plaintext of a stored value.
    public func open(
        _ stored: [UInt8], name: [UInt8], owner: [UInt8], prefix: [UInt8]
    ) throws(FormatError) -> [UInt8] {
        guard let epoch = epoch(of: stored) else { throw .notAuthentic }
        if Self.isLong(name, prefix: prefix) {
            let tag = Self.tag(of: name, owner: owner, epoch)
            guard let (found, value) = openLong(stored, tag: tag, owner: owner), found == name else {
                throw .notAuthentic
            }
            return value
        }
        do throws(CryptoError) {
            return try epoch.values.open(Array(stored.dropFirst()), associatedData: owner + name)
        } catch {
            throw .notAuthentic
        }
    }

    /// The name that a long attribute's stored value carries, or nil where value, name and tag do not belong together.
    public func longName(in stored: [UInt8], tag: [UInt8], owner: [UInt8]) -> [UInt8]? {
        openLong(stored, tag: tag, owner: owner)?.name
    }

    private func openLong(_ stored: [UInt8], tag: [UInt8], owner: [UInt8]) -> (name: [UInt8], value: [UInt8])? {
        guard let epoch = epoch(of: stored),
            let plaintext = try? epoch.values.open(Array(stored.dropFirst()), associatedData: owner + tag),
            plaintext.count >= 2
        else { return nil }
        let count = Int(plaintext[0]) | Int(plaintext[1]) << 8
        guard plaintext.count >= 2 + count else { return nil }
        let name = Array(plaintext[2..<(2 + count)])
        guard constantTimeEqual(Self.tag(of: name, owner: owner, epoch), tag) else { return nil }
        return (name, Array(plaintext[(2 + count)...]))
    }

    private func epoch(of stored: [UInt8]) -> Epoch? {
        stored.first.flatMap { number in epochs.first { $0.number == number } }
    }

    private static func tag(of name: [UInt8], owner: [UInt8], _ epoch: Epoch) -> [UInt8] {
        Array(epoch.names.seal(name, associatedData: owner)[..<SIV.tagCount])
    }

    /// What a stored attribute's name is by its form.
    public static func kind(of stored: [UInt8]) -> Kind {
        for prefix in [userPrefix, trustedPrefix] where stored.starts(with: prefix) {
            let rest = stored.dropFirst(prefix.count)
            if rest.starts(with: longMark) {
                if let tag = Base64URL.decode(rest.dropFirst(longMark.count)), tag.count == SIV.tagCount {
                    return .long(tag: tag)
                }
            } else if let sealed = Base64URL.decode(rest), sealed.count > SIV.tagCount {
                return .short(sealed: sealed)
            }
        }
        return .foreign
    }

    /// The plaintext of a sealed name, or nil where it is not this owner's.
    public func openName(_ sealed: [UInt8], owner: [UInt8]) -> [UInt8]? {
        for epoch in epochs {
            if let name = try? epoch.names.open(sealed, associatedData: owner) { return name }
        }
        return nil
    }

    private static func isLong(_ name: [UInt8], prefix: [UInt8]) -> Bool {
        prefix.count + Base64URL.encodedCount(name.count + SIV.tagCount) > maximumStoredName
    }

    private static func lengthPrefixed(_ name: [UInt8]) -> [UInt8] {
        [UInt8(truncatingIfNeeded: name.count), UInt8(truncatingIfNeeded: name.count >> 8)] + name
    }
}
