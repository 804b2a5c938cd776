import CofferCrypto

/// What a rotation that is cut short leaves to be done before the vault is written to: `coffer.rotation/pending`.
///
///     kind u8 ‖ epoch u8 ‖ nonce 24 ‖ XChaCha20-Poly1305(log key of the epoch; AD = "coffer.rotation" ‖ kind, text)
public enum RotationRecord: Equatable, Sendable {
    /// A file of several names: each of these paths, stored names from the root down, that leads to a file with this header, and with the size and
    /// time of modification of `coffer.rotation/file`, gets that instead.
    case names(header: [UInt8], paths: [[StoredName]])
    /// A symbolic link of several names: each path that leads to a link with this inode number gets `coffer.rotation/file` instead.
    case links(inode: UInt64, paths: [[StoredName]])
    /// A directory whose owner gets the permissions of this mode back, which are fewer.
    case mode(UInt32, path: [StoredName])

    /// The largest record that is read: a million names of moderate length.
    public static let byteLimit = 256 << 20
    private static let label: [UInt8] = Array("coffer.rotation".utf8)
    private static let namesKind: UInt8 = 1
    private static let modeKind: UInt8 = 2
    private static let linksKind: UInt8 = 3

    /// The record's bytes, under the ring's newest epoch.
    public func sealed(under ring: KeyRing) -> [UInt8] { sealed(under: ring, nonce: Random.bytes(24)) }

    /// As above with a given 24-byte nonce: for test vectors only.
    func sealed(under ring: KeyRing, nonce: [UInt8]) -> [UInt8] {
        let (kind, text) =
            switch self {
            case .names(let header, let paths): (Self.namesKind, header + paths.flatMap { Self.text($0) })
            case .links(let inode, let paths):
                (
                    Self.linksKind,
                    withUnsafeBytes(of: inode.littleEndian) { Array($0) } + paths.flatMap { Self.text($0) }
                )
            case .mode(let mode, let path):
                (Self.modeKind, withUnsafeBytes(of: mode.littleEndian) { Array($0) } + Self.text(path))
            }
        let sealed = SmallAEAD(key: ring.newestSubkey(.log)).seal(
            text, associatedData: Self.label + [kind], nonce: nonce)
        return [kind, ring.newest] + sealed
    }

    /// Reads a record. `notAuthentic` where it was not made with these keys, `malformed` where it says nothing that can be done.
    public init(opening bytes: [UInt8], under ring: KeyRing) throws(FormatError) {
        guard bytes.count >= 2, let key = ring.subkey(.log, epoch: bytes[1]) else { throw .notAuthentic }
        let text: [UInt8]
        do {
            text = try SmallAEAD(key: key).open(Array(bytes[2...]), associatedData: Self.label + [bytes[0]])
        } catch {
            throw .notAuthentic
        }
        let headCount = [Self.namesKind: FileHeader.byteCount, Self.linksKind: 8][bytes[0]] ?? 4
        guard text.count >= headCount else { throw .malformed }
        let paths = try Self.paths(text[headCount...])
        switch bytes[0] {
        case Self.namesKind: self = .names(header: Array(text[..<headCount]), paths: paths)
        case Self.linksKind: self = .links(inode: Self.number(text[..<headCount]), paths: paths)
        case Self.modeKind:
            guard paths.count == 1, let path = paths.first else { throw .malformed }
            self = .mode(UInt32(Self.number(text[..<headCount]) & 0o7777), path: path)
        default: throw .malformed
        }
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func text(_ path: [StoredName]) -> [UInt8] {
        path.flatMap { $0.bytes + [0] } + [0]
    }

    private static func paths(_ text: ArraySlice<UInt8>) throws(FormatError) -> [[StoredName]] {
        var paths: [[StoredName]] = []
        var path: [StoredName] = []
        var rest = text
        while let end = rest.firstIndex(of: 0) {
            let name = Array(rest[..<end])
            rest = rest[(end + 1)...]
            if name.isEmpty {
                paths.append(path)
                path = []
            } else {
                guard name.count <= 255, !name.contains(0x2F), name != [0x2E], name != [0x2E, 0x2E] else {
                    throw .malformed
                }
                path.append(StoredName(name))
            }
        }
        guard rest.isEmpty, path.isEmpty else { throw .malformed }
        return paths
    }
}
