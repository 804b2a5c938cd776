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
        try bytes.withUnsafeBytes { raw in
            Result { () throws(FormatError) -> (record: SealRecord?, count: Int) in
                guard let view = try SealRecordView(raw) else { return (nil, 1) }
                return (view.record, view.bytes.count)
            }
        }.get()
    }

    /// Whether it is a directory.
    public var isDirectory: Bool {
        if case .directory = kind { true } else { false }
    }
}
