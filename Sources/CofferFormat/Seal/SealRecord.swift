import Glibc

/// What a seal says of one entry of the ciphertext.
///
///     kind 1 ‖ flags 1 ‖ u16(name's length) ‖ name ‖ u32(mode) ‖ u32(owner) ‖ u32(group) ‖ i64(time) ‖ [attributes 32] ‖ more
public struct SealRecord: Equatable, Sendable {
    /// What is particular to a type.
    public enum Kind: Equatable, Sendable {
        /// A directory; what is in it follows, and then an end.
        case directory
        /// A regular file, its stored size and what its contents hash to.
        case file(size: UInt64, contents: [UInt8])
        /// A symbolic link's text.
        case link([UInt8])
        /// A fifo, a socket or a device.
        case other(device: UInt64)
    }

    /// A record takes no more bytes than this.
    public static let maximumCount = 2 + 2 + 65535 + 20 + 32 + 2 + 65535
    /// The byte that ends a directory.
    public static let end: UInt8 = 0

    /// The stored name; empty for the root.
    public var name: [UInt8]
    /// Type and permissions.
    public var mode: UInt32
    /// The owner's number.
    public var owner: UInt32
    /// The group's number.
    public var group: UInt32
    /// The time of modification in nanoseconds since 1970; 0 for directories.
    public var time: Int64
    /// What the extended attributes hash to, 32 bytes; nil for none.
    public var attributes: [UInt8]?
    /// What is particular to the type.
    public var kind: Kind
    /// It was written to all the time: the contents' hash is zeros.
    public var isUnsure = false
    /// It did not verify when it was sealed.
    public var isDamaged = false

    /// A record from its parts; what the mode says of the type is the kind's.
    public init(
        name: [UInt8], mode: UInt32, owner: UInt32, group: UInt32, time: Int64, attributes: [UInt8]? = nil, kind: Kind
    ) {
        self.name = name
        self.mode = mode
        self.owner = owner
        self.group = group
        self.time = time
        self.attributes = attributes
        self.kind = kind
    }

    /// The record's bytes.
    public var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.bytes.reserveCapacity(name.count + 112)
        let number: UInt8 =
            switch kind {
            case .directory: 1
            case .file: 2
            case .link: 3
            case .other: 4
            }
        writer.append(number)
        writer.append(UInt8((attributes == nil ? 0 : 1) | (isUnsure ? 2 : 0) | (isDamaged ? 4 : 0)))
        writer.append(UInt16(truncatingIfNeeded: name.count))
        writer.bytes += name
        writer.append(mode)
        writer.append(owner)
        writer.append(group)
        writer.append(UInt64(bitPattern: time))
        if let attributes { writer.bytes += attributes }
        switch kind {
        case .directory: break
        case .file(let size, let contents):
            writer.append(size)
            writer.bytes += contents
        case .link(let text):
            writer.append(UInt16(truncatingIfNeeded: text.count))
            writer.bytes += text
        case .other(let device): writer.append(device)
        }
        return writer.bytes
    }

    /// The record at the beginning of `bytes`, and how many it takes; nil for an end. `malformed` where there is none, or not all of it.
    public static func parse(_ bytes: ArraySlice<UInt8>) throws(FormatError) -> (record: SealRecord?, count: Int) {
        var reader = ByteReader(bytes)
        let number: UInt8 = try reader.integer()
        if number == end { return (nil, 1) }
        let flags: UInt8 = try reader.integer()
        guard flags & ~7 == 0 else { throw .malformed }
        let nameCount: UInt16 = try reader.integer()
        let name = try reader.take(Int(nameCount))
        guard !name.contains(0), !name.contains(0x2F), name != [0x2E], name != [0x2E, 0x2E] else { throw .malformed }
        let (mode, owner, group): (UInt32, UInt32, UInt32) = (
            try reader.integer(), try reader.integer(), try reader.integer()
        )
        let time = Int64(bitPattern: try reader.integer())
        let attributes = flags & 1 != 0 ? try reader.take(32) : nil
        let kind: Kind
        switch number {
        case 1: kind = .directory
        case 2: kind = .file(size: try reader.integer(), contents: try reader.take(32))
        case 3:
            let count: UInt16 = try reader.integer()
            kind = .link(try reader.take(Int(count)))
        case 4: kind = .other(device: try reader.integer())
        default: throw .malformed
        }
        var record = SealRecord(
            name: name, mode: mode, owner: owner, group: group, time: time, attributes: attributes, kind: kind)
        record.isUnsure = flags & 2 != 0
        record.isDamaged = flags & 4 != 0
        guard record.hasFittingMode else { throw .malformed }
        return (record, reader.position - bytes.startIndex)
    }

    /// Whether the mode's type is the kind's.
    private var hasFittingMode: Bool {
        let type = mode & S_IFMT
        return switch kind {
        case .directory: type == S_IFDIR
        case .file: type == S_IFREG
        case .link: type == S_IFLNK
        case .other: [S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK].contains(type)
        }
    }

    /// Whether it is a directory.
    public var isDirectory: Bool { kind == .directory }
}
