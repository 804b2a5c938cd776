import CofferCrypto

/// A name as the vault stores it: the entry, and the companions that carry a long name's encoding.
public struct EncodedName: Equatable, Sendable {
    /// The entry itself.
    public let entry: StoredName
    /// Zero-byte files beside it; empty but for long names.
    public let companions: [StoredName]

    /// A name from its parts.
    public init(entry: StoredName, companions: [StoredName]) {
        self.entry = entry
        self.companions = companions
    }
}

/// What a stored name turns out to be by its form alone.
public enum StoredNameKind: Equatable, Sendable {
    /// `.` or `..`
    case dots
    /// An entry whose sealed name is in its own name.
    case short(sealed: [UInt8])
    /// An entry whose sealed name begins with this tag and goes on in companions.
    case long(tag: [UInt8])
    /// A piece of a long name's ciphertext, as text.
    case companion(tag: [UInt8], index: Int, piece: [UInt8])
    /// One of Coffer's own files, which is no entry.
    case reserved
    /// None of Coffer's.
    case foreign
}

/// Names: plaintext to stored and back.
///
///     stored = "c" ‖ base64url(tag 16 ‖ ciphertext)        at most `limit` bytes, else
///     stored = "coffer.long." ‖ base64url(tag)             with companions "….nn.piece"
public struct NameCodec: Sendable {
    /// The longest plaintext name, in bytes.
    public static let maximumPlainCount = 255
    /// The name limits that a vault may have.
    public static let limits = 64...255
    private static let firstLetter = UInt8(ascii: "c")
    private static let padMark: UInt8 = 0x80
    private static let tagTextCount = 22
    /// What a companion's name holds besides the piece: the entry's name, two dots and two digits.
    private static let companionOverhead = 38

    private let limit: Int
    /// Newest epoch first.
    private let ciphers: [SIV]

    /// Names under the ring's keys; `limit` is the vault's.
    public init(ring: KeyRing, limit: Int) {
        precondition(Self.limits.contains(limit))
        self.limit = limit
        ciphers = ring.epochsNewestFirst.compactMap { epoch in
            guard let mac = ring.subkey(.nameMAC, epoch: epoch),
                let encryption = ring.subkey(.nameEncryption, epoch: epoch)
            else { return nil }
            return SIV(macKey: mac, encryptionKey: encryption)
        }
    }

    /// How many epochs a name may be stored under: with one, and a directory with one id, an encoding is the only one.
    public var epochCount: Int { ciphers.count }

    /// The stored forms of `name` (1 to 255 bytes) under one directory id, the newest epoch's first. `tooLong` above 255 bytes,
    /// `malformed` for what is no name.
    public func encodings(of name: [UInt8], in directory: DirectoryID) throws(FormatError) -> [EncodedName] {
        guard name.count <= Self.maximumPlainCount else { throw .tooLong }
        guard !name.isEmpty, name != [0x2E], name != [0x2E, 0x2E], !name.contains(0), !name.contains(0x2F) else {
            throw .malformed
        }
        let padded = Self.pad(name)
        return ciphers.map { encode(sealed: $0.seal(padded, associatedData: directory.bytes)) }
    }

    /// Whether a name is stored with companions.
    public func mayBeLong(_ name: [UInt8]) -> Bool {
        1 + Base64URL.encodedCount(SIV.tagCount + (name.count / 16 + 1) * 16) > limit
    }

    /// The form that a new entry gets.
    public func encoding(of name: [UInt8], in directory: DirectoryID) throws(FormatError) -> EncodedName {
        guard let first = try encodings(of: name, in: directory).first else { throw .notAuthentic }
        return first
    }

    /// The plaintext of a sealed name and the id that it verified under, or nil where none of `ids` is its directory's.
    public func open(_ sealed: [UInt8], in ids: [DirectoryID]) -> (name: [UInt8], id: DirectoryID)? {
        for cipher in ciphers {
            for id in ids {
                if let padded = try? cipher.open(sealed, associatedData: id.bytes), let name = Self.unpad(padded) {
                    return (name, id)
                }
            }
        }
        return nil
    }

    /// What a sealed name decrypts to under some epoch, whatever directory it is of; nil where that is not UTF-8, or no name. Nothing has verified it.
    public func unverified(_ sealed: [UInt8]) -> [UInt8]? {
        for cipher in ciphers {
            if let name = Self.unpad(cipher.unverifiedPlaintext(of: sealed)),
                String(validating: name, as: UTF8.self) != nil
            {
                return name
            }
        }
        return nil
    }

    /// What a stored name is by its form; no key is needed for that.
    public static func kind(of stored: [UInt8]) -> StoredNameKind {
        if stored.first == UInt8(ascii: ".") {
            let isDots = stored.count <= 2 && stored.allSatisfy { $0 == UInt8(ascii: ".") }
            return isDots ? .dots : .foreign
        }
        if stored.starts(with: ReservedName.prefix) {
            return reservedKind(of: stored)
        }
        guard stored.first == firstLetter, stored.count >= 44,
            let sealed = Base64URL.decode(stored.dropFirst()), sealed.count % 16 == 0, sealed.count <= 272
        else { return .foreign }
        return .short(sealed: sealed)
    }

    /// A long name's sealed bytes, put together from its tag and its pieces in order.
    public static func join(tag: [UInt8], pieces: [[UInt8]]) -> [UInt8]? {
        guard let ciphertext = Base64URL.decode(pieces.joined().map { $0 }), !ciphertext.isEmpty,
            ciphertext.count % 16 == 0
        else { return nil }
        return tag + ciphertext
    }

    private static func reservedKind(of stored: [UInt8]) -> StoredNameKind {
        guard stored.starts(with: ReservedName.longPrefix) else { return .reserved }
        let rest = stored.dropFirst(ReservedName.longPrefix.count)
        let parts = rest.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard let first = parts.first, first.count == tagTextCount, let tag = Base64URL.decode(first) else {
            return .reserved
        }
        if parts.count == 1 { return .long(tag: tag) }
        let isDigits = parts.count == 3 && parts[1].count == 2 && parts[1].allSatisfy { (0x30...0x39).contains($0) }
        guard isDigits, let index = Int(String(decoding: parts[1], as: UTF8.self)), !parts[2].isEmpty,
            parts[2].allSatisfy({ Base64URL.isDigit($0) })
        else {
            return .reserved
        }
        return .companion(tag: tag, index: index, piece: Array(parts[2]))
    }

    private func encode(sealed: [UInt8]) -> EncodedName {
        if 1 + Base64URL.encodedCount(sealed.count) <= limit {
            return EncodedName(entry: StoredName(Self.firstLetter, encoding: sealed), companions: [])
        }
        let entry = ReservedName.longPrefix + Base64URL.encode(sealed[..<SIV.tagCount])
        let text = Base64URL.encode(sealed[SIV.tagCount...])
        let pieceCount = limit - Self.companionOverhead
        let companions = stride(from: 0, to: text.count, by: pieceCount).enumerated().map { index, start in
            let digits = [UInt8(ascii: "0") + UInt8(index / 10), UInt8(ascii: "0") + UInt8(index % 10)]
            let dot = UInt8(ascii: ".")
            return StoredName(entry + [dot] + digits + [dot] + text[start..<min(start + pieceCount, text.count)])
        }
        return EncodedName(entry: StoredName(entry), companions: companions)
    }

    /// ISO 7816-4 to a multiple of 16.
    static func pad(_ name: [UInt8]) -> [UInt8] {
        let padded = (name.count / 16 + 1) * 16
        return [UInt8](unsafeUninitializedCapacity: padded) { bytes, count in
            _ = bytes.initialize(from: name)
            bytes[name.count] = padMark
            for index in (name.count + 1)..<padded { bytes[index] = 0 }
            count = padded
        }
    }

    /// Undoes `pad`; nil where the padding is not exact or what is left is no name.
    static func unpad(_ padded: [UInt8]) -> [UInt8]? {
        guard padded.count % 16 == 0, let mark = padded.lastIndex(where: { $0 != 0 }), padded[mark] == padMark,
            padded.count - mark <= 16
        else { return nil }
        let name = Array(padded[..<mark])
        let isName = !name.isEmpty && name.count <= maximumPlainCount && !name.contains(0) && !name.contains(0x2F)
        return isName && name != [0x2E] && name != [0x2E, 0x2E] ? name : nil
    }
}
