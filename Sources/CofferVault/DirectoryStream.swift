import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// One plaintext entry of a directory being listed.
public struct ListedEntry: Sendable {
    /// The plaintext name, or a placeholder's.
    public let name: [UInt8]
    /// The stored name.
    public let stored: StoredName
    /// The id that the name verified under; nil for dots and placeholders.
    public let id: DirectoryID?
    /// `DT_DIR` and so on, as the backing file system says it.
    public let type: UInt8
    /// The backing object's inode number.
    public let inode: UInt64
    /// Where the stream goes on after this entry.
    public let nextPosition: Int
    /// A well-formed name that does not verify here: listed, so that nothing vanishes silently, and unreadable.
    public let isPlaceholder: Bool
}

/// A directory being listed: the backing directory's own order and positions, so that what stays is listed exactly once however much comes and
/// goes meanwhile. Not for several threads at once.
public final class DirectoryStream {
    /// What placeholders' names begin with.
    public static let placeholderPrefix: [UInt8] = Array("coffer.unreadable.".utf8)

    private let vault: Vault
    /// Opened for reading; closed with the stream.
    public let descriptor: Int32
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65536, alignment: 16)
    private var filled = 0
    private var consumed = 0
    /// Behind the entry that was handed out last.
    private var position = 0
    /// Where `consumed` and `position` were before that one.
    private var before = (consumed: 0, position: 0)
    /// Read when the first long name is met.
    private var pieces: LongNamePieces?

    /// Long names met whose pieces were not there.
    private var missing = 0
    /// After so many of them the directory is not looked through again until the next listing.
    private static let patience = 4

    /// A stream over `descriptor`, owned from here on.
    public init(vault: Vault, descriptor: Int32) {
        self.vault = vault
        self.descriptor = descriptor
    }

    deinit {
        buffer.deallocate()
        vault.disk.close(descriptor)
    }

    /// Goes to a position that an entry's `nextPosition` gave, or to 0.
    public func seek(to target: Int) throws(VaultError) {
        if target == position && (target != 0 || filled == 0) { return }
        try system { () throws(Errno) in try vault.disk.seekDirectory(descriptor, to: target) }
        position = target
        filled = 0
        consumed = 0
        if target == 0 {
            pieces = nil
            missing = 0
        }
    }

    /// The next entry that is a person's, or nil at the end. `identity` is what the directory answers to now.
    public func next(_ identity: DirectoryIdentity) throws(VaultError) -> ListedEntry? {
        before = (consumed, position)
        while true {
            if consumed >= filled {
                filled = try system { () throws(Errno) in try vault.disk.readDirectory(descriptor, into: buffer) }
                consumed = 0
                before.consumed = 0
                if filled == 0 { return nil }
            }
            let raw = RawEntry(buffer, at: consumed)
            // One that fails comes again, and fails again.
            let entry = try entry(raw, identity)
            consumed += raw.recordCount
            if let entry {
                position = raw.nextPosition
                return entry
            }
        }
    }

    /// What was read ahead is read again. To be followed by ``seek(to:)``.
    public func refresh() {
        position = -1
        filled = 0
        consumed = 0
        pieces = nil
        missing = 0
    }

    /// The last entry comes once more.
    public func stepBack() {
        (consumed, position) = before
    }

    private func entry(_ raw: RawEntry, _ identity: DirectoryIdentity) throws(VaultError) -> ListedEntry? {
        let sealed: [UInt8]?
        switch NameCodec.kind(of: raw.name) {
        case .dots:
            return ListedEntry(
                name: raw.name, stored: StoredName(raw.name), id: nil, type: raw.type, inode: raw.inode,
                nextPosition: raw.nextPosition, isPlaceholder: false)
        case .companion, .reserved, .foreign: return nil
        case .short(let bytes): sealed = bytes
        case .long(let tag): sealed = try longName(tag)
        }
        if let sealed, let (name, id) = vault.names.open(sealed, in: identity.accepted) {
            return ListedEntry(
                name: name, stored: StoredName(raw.name), id: id, type: raw.type, inode: raw.inode,
                nextPosition: raw.nextPosition, isPlaceholder: false)
        }
        return ListedEntry(
            name: Self.placeholder(for: raw.name), stored: StoredName(raw.name), id: nil, type: raw.type,
            inode: raw.inode, nextPosition: raw.nextPosition, isPlaceholder: true)
    }

    /// A name of at most 255 bytes that tells the stored one, or its beginning and its hash.
    static func placeholder(for stored: [UInt8]) -> [UInt8] {
        if placeholderPrefix.count + stored.count <= NameCodec.maximumPlainCount { return placeholderPrefix + stored }
        let hash = DirectoryID.root(vaultID: stored).bytes
        return placeholderPrefix + stored.prefix(200) + [UInt8(ascii: ".")] + Base64URL.encode(hash)
    }

    private func longName(_ tag: [UInt8]) throws(VaultError) -> [UInt8]? {
        if let sealed = pieces?.sealed(tag) { return sealed }
        // Not seen yet, or made since: look through the whole directory, but not for each of many that have lost their pieces.
        if missing >= Self.patience { return nil }
        try readPieces()
        if let sealed = pieces?.sealed(tag) { return sealed }
        missing += 1
        return nil
    }

    private func readPieces() throws(VaultError) {
        let other = try system { () throws(Errno) in
            // Not by the name ".", which takes the permission to search.
            try vault.disk.reopen(descriptor, flags: O_RDONLY | O_DIRECTORY)
        }
        defer { vault.disk.close(other) }
        var all = LongNamePieces()
        try RawDirectory(disk: vault.disk, descriptor: other).forEach { bytes, _ in
            all.add(NameCodec.kind(of: bytes))
            return true
        }
        pieces = all
    }
}
