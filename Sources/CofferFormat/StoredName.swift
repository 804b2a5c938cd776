/// A name as it is on disk: one entry of the ciphertext directory, as a C string.
public struct StoredName: Hashable, Sendable, CustomStringConvertible {
    /// The bytes with a closing NUL, to be handed to a system call as they are.
    public let cString: [CChar]

    /// A name from its bytes, which hold no NUL.
    public init(_ bytes: some Sequence<UInt8>) {
        cString =
            bytes.withContiguousStorageIfAvailable { Self.characters($0) }
            ?? Array(bytes).withUnsafeBufferPointer {
                Self.characters($0)
            }
    }

    /// One letter, and bytes as text behind it.
    init(_ first: UInt8, encoding bytes: [UInt8]) {
        let textCount = Base64URL.encodedCount(bytes.count)
        cString = [CChar](unsafeUninitializedCapacity: 1 + textCount + 1) { characters, count in
            characters[0] = CChar(bitPattern: first)
            let text = UnsafeMutableRawBufferPointer(
                start: characters.baseAddress.map { UnsafeMutableRawPointer($0 + 1) }, count: textCount)
            _ = bytes.withUnsafeBytes { Base64URL.encode($0, into: text) }
            characters[1 + textCount] = 0
            count = 1 + textCount + 1
        }
    }

    private static func characters(_ bytes: UnsafeBufferPointer<UInt8>) -> [CChar] {
        [CChar](unsafeUninitializedCapacity: bytes.count + 1) { characters, count in
            UnsafeMutableRawBufferPointer(characters).copyMemory(from: UnsafeRawBufferPointer(bytes))
            characters[bytes.count] = 0
            count = bytes.count + 1
        }
    }

    /// A name from a constant.
    public init(_ text: String) {
        self.init(text.utf8)
    }

    /// The bytes without the NUL.
    public var bytes: [UInt8] { cString.withUnsafeBytes { Array($0.dropLast()) } }

    /// How many bytes the name has.
    public var count: Int { cString.count - 1 }

    /// The name as text, for messages.
    public var description: String { String(decoding: bytes, as: UTF8.self) }
}

/// Names that are Coffer's own in a ciphertext directory.
public enum ReservedName {
    /// The configuration, in the root.
    public static let configuration = StoredName("coffer.json")
    /// The configuration before its last change.
    public static let previousConfiguration = StoredName("coffer.json.previous")
    /// The configuration while it is being written.
    public static let newConfiguration = StoredName("coffer.json.new")
    /// A renamed directory's records.
    public static let directory = StoredName("coffer.dir")
    /// The records while they are being written.
    public static let newDirectory = StoredName("coffer.dir.new")

    /// What a rotation of the vault's key has in hand, a directory in the root.
    public static let rotation = StoredName("coffer.rotation")

    /// What a repair has changed, as it was before, a directory in the root.
    public static let lostAndFound = StoredName("coffer.lost+found")

    /// The seals, a directory in the root.
    public static let seals = StoredName("coffer.seals")

    /// The intent log's directory, in the root.
    public static let log = StoredName("coffer.log")

    static let prefix: [UInt8] = Array("coffer.".utf8)
    static let longPrefix: [UInt8] = Array("coffer.long.".utf8)
    static let linkPrefix: [UInt8] = Array("coffer.link.".utf8)
    static let makingPrefix: [UInt8] = Array("coffer.new.".utf8)

    /// The entry of the long name that has this tag.
    public static func longEntry(tag: [UInt8]) -> [UInt8] { longPrefix + Base64URL.encode(tag) }

    /// Whether a name is one of ``making(random:)``.
    public static func isMaking(_ name: StoredName) -> Bool { name.bytes.starts(with: makingPrefix) }

    /// The random bytes of a link's overflow file, where a name is one's.
    public static func overflowCompanion(_ name: [UInt8]) -> [UInt8]? {
        guard name.starts(with: linkPrefix), let random = Base64URL.decode(name.dropFirst(linkPrefix.count)),
            random.count == 16
        else { return nil }
        return random
    }

    /// A fresh name for what is made first and named later.
    public static func making(random: [UInt8]) -> StoredName {
        StoredName(makingPrefix + Base64URL.encode(random))
    }
}
