import SystemPackage

/// Something that an extraction could not bring out as it is in the vault.
public struct TreeProblem: Sendable {
    /// What went wrong.
    public enum Reason: Sendable {
        /// The stored bytes are not what was stored; nothing was written for it.
        case damaged(Damage)
        /// The file is damaged, from this place on; what verifies was written under `name`, without `lost` bytes that read as zeros there.
        case salvaged(Damage, name: [UInt8], lost: Int)
        /// The vault could not be read.
        case unreadable(Errno)
        /// The destination could not be written.
        case unwritable(Errno)
        /// It takes root, and trust in the vault's types, to make a device node.
        case skippedDevice
        /// It went away while the vault was read.
        case vanished
        /// It was brought out, but for one of its properties.
        case incomplete(String, Errno)
        /// It was brought out, but for an extended attribute that does not verify.
        case damagedAttribute(Damage)
    }

    /// Where in the tree.
    public let place: TreePlace
    /// What went wrong.
    public let reason: Reason
}

/// What an extraction has done so far.
public struct TreeTotals: Sendable {
    /// Regular files, without further names of the same file.
    public var files = 0
    /// Directories, without the destination itself.
    public var directories = 0
    /// Symbolic links.
    public var links = 0
    /// Further names of what was brought out before.
    public var hardLinks = 0
    /// Fifos, sockets and device nodes.
    public var nodes = 0
    /// Bytes written to files; holes are not written.
    public var bytes = 0
    /// Entries with damage, salvaged ones among them.
    public var damaged = 0
    /// Files of which what verifies was written.
    public var salvaged = 0
    /// Entries that could not be read or written.
    public var failed = 0
    /// Entries left out because they cannot be made here, or vanished.
    public var skipped = 0
    /// Properties that could not be set.
    public var incomplete = 0

    /// Nothing yet.
    public init() {}

    mutating func count(_ reason: TreeProblem.Reason) {
        switch reason {
        case .damaged, .damagedAttribute: damaged += 1
        case .salvaged:
            damaged += 1
            salvaged += 1
        case .unreadable, .unwritable: failed += 1
        case .skippedDevice, .vanished: skipped += 1
        case .incomplete: incomplete += 1
        }
    }
}
