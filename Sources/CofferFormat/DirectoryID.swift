import CofferCrypto

/// What a directory's entries are bound to: 16 bytes, not secret.
public struct DirectoryID: Hashable, Sendable {
    /// Bytes of an id.
    public static let byteCount = 16

    /// The 16 bytes.
    public let bytes: [UInt8]

    /// An id from its 16 bytes.
    public init(bytes: [UInt8]) {
        precondition(bytes.count == Self.byteCount)
        self.bytes = bytes
    }

    /// A random id: the pin of a directory that is made where ids may repeat.
    public static func random() -> DirectoryID {
        DirectoryID(bytes: Random.bytes(byteCount))
    }

    /// The id of the vault's root.
    public static func root(vaultID: [UInt8]) -> DirectoryID {
        derived(from: vaultID, name: [])
    }

    /// The id that a directory's place derives: its parent's id, under which its name verified, and that name.
    public func child(_ name: [UInt8]) -> DirectoryID {
        Self.derived(from: bytes, name: name)
    }

    private static func derived(from parent: [UInt8], name: [UInt8]) -> DirectoryID {
        var hash = Hash(outputCount: byteCount)
        hash.update("coffer.directory")
        hash.update(parent)
        hash.update(name)
        return DirectoryID(bytes: hash.finish())
    }
}

/// The ids that one directory answers to at its present place.
public struct DirectoryIdentity: Equatable, Sendable {
    /// The id that the place derives.
    public let derived: DirectoryID
    /// The ids that `coffer.dir` pins here, in order.
    public let pins: [DirectoryID]
    /// A directory was renamed away from this one: new directories need a pin of their own.
    public let isMarked: Bool
    /// The derived id may belong to a directory that was here before, so entries do not verify under it.
    public let isClosed: Bool
    /// No record says so yet: one has to be written before an entry is made.
    public let isUnrecorded: Bool

    /// An identity from its parts.
    public init(
        derived: DirectoryID, pins: [DirectoryID] = [], isMarked: Bool = false, isClosed: Bool = false,
        isUnrecorded: Bool = false
    ) {
        self.derived = derived
        self.pins = pins
        self.isMarked = isMarked
        self.isClosed = isClosed
        self.isUnrecorded = isUnrecorded
    }

    /// The same, marked.
    public var marked: DirectoryIdentity {
        DirectoryIdentity(derived: derived, pins: pins, isMarked: true, isClosed: isClosed)
    }

    /// The same, once a record says so.
    public var recorded: DirectoryIdentity {
        DirectoryIdentity(derived: derived, pins: pins, isMarked: isMarked, isClosed: isClosed)
    }

    /// Whether its place alone does not tell all of it.
    public var needsRecord: Bool { isMarked || !(pins.isEmpty || pins == [derived]) }

    /// The id that new entries are made under.
    public var creating: DirectoryID { pins.first ?? derived }

    /// Every id that entries may verify under, the creating one first.
    public var accepted: [DirectoryID] {
        if pins.isEmpty { return [derived] }
        return pins.contains(derived) || isClosed ? pins : pins + [derived]
    }
}
