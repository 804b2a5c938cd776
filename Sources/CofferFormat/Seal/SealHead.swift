import CofferCrypto

/// The signed beginning of a seal.
///
///     0          8         12  16        24     32         48         80     112       120     128          136          168         232
///     │ COFRSEAL │ version │ 0 │ counter │ time │ vault id │ previous │ root │ entries │ bytes │ manifest's │ public key │ signature │ manifest …
///     │    8     │    4    │ 4 │    8    │  8   │    16    │    32    │  32  │    8    │   8   │  length 8  │     32     │    64     │
public struct SealHead: Equatable, Sendable {
    /// Bytes of a head and its signature: where the manifest begins.
    public static let byteCount = signedCount + SigningKey.signatureCount
    /// Bytes that are signed.
    static let signedCount = 168
    /// The version that this writes and reads.
    public static let version: UInt32 = 1
    private static let magic = Array("COFRSEAL".utf8)

    /// Counters are below this.
    public static let counterLimit: UInt64 = 1 << 40

    /// Grows with each seal of a vault; at least 1.
    public let counter: UInt64
    /// When the sealing began, in nanoseconds since 1970 (UTC).
    public let time: Int64
    /// The vault's, 16 bytes.
    public let vaultID: [UInt8]
    /// The hash of the head before this one, 32 bytes; zeros for none.
    public let previous: [UInt8]
    /// What the tree hashes to, 32 bytes.
    public let root: [UInt8]
    /// Records in the manifest but for the root's.
    public let entries: UInt64
    /// The sizes of all files together.
    public let bytes: UInt64
    /// Bytes of the manifest.
    public let manifestCount: UInt64
    /// The key that it is signed by.
    public let publicKey: [UInt8]

    /// A head from its parts.
    public init(
        counter: UInt64, time: Int64, vaultID: [UInt8], previous: [UInt8], root: [UInt8], entries: UInt64,
        bytes: UInt64, manifestCount: UInt64, publicKey: [UInt8]
    ) {
        precondition(vaultID.count == 16 && previous.count == 32 && root.count == 32 && publicKey.count == 32)
        self.publicKey = publicKey
        self.counter = counter
        self.time = time
        self.vaultID = vaultID
        self.previous = previous
        self.root = root
        self.entries = entries
        self.bytes = bytes
        self.manifestCount = manifestCount
    }

    /// The 232 bytes, signed by the holder of the public key.
    public func signed(by key: SigningKey) -> [UInt8] {
        precondition(key.publicKey == publicKey)
        var writer = ByteWriter()
        writer.bytes = Self.magic
        writer.append(Self.version)
        writer.append(UInt32(0))
        writer.append(counter)
        writer.append(UInt64(bitPattern: time))
        writer.bytes += vaultID + previous + root
        writer.append(entries)
        writer.append(bytes)
        writer.append(manifestCount)
        writer.bytes += publicKey
        return writer.bytes + key.sign(writer.bytes)
    }

    /// The head in the first 232 bytes of a seal. `malformed` where it is none, `unsupported` where it is of another version, `notAuthentic` where it was not
    /// signed by the holder of `publicKey`.
    public init(opening raw: [UInt8], publicKey: [UInt8]) throws(FormatError) {
        guard raw.count >= Self.byteCount, raw.starts(with: Self.magic) else { throw .malformed }
        var reader = ByteReader(raw[8...])
        let (version, flags): (UInt32, UInt32) = (try reader.integer(), try reader.integer())
        guard version == Self.version, flags == 0 else { throw .unsupported }
        counter = try reader.integer()
        time = Int64(bitPattern: try reader.integer())
        vaultID = try reader.take(16)
        previous = try reader.take(32)
        root = try reader.take(32)
        entries = try reader.integer()
        bytes = try reader.integer()
        manifestCount = try reader.integer()
        self.publicKey = try reader.take(SigningKey.publicKeyCount)
        let signature = try reader.take(SigningKey.signatureCount)
        guard self.publicKey == publicKey,
            SigningKey.verify(signature, of: Array(raw[..<Self.signedCount]), by: publicKey)
        else { throw .notAuthentic }
        guard counter > 0, counter < Self.counterLimit, manifestCount <= UInt64(Int.max) / 2 else {
            throw .malformed
        }
    }

    /// What the next seal calls this one by: the hash of the 232 bytes.
    public static func hash(_ raw: [UInt8]) -> [UInt8] {
        var hash = Hash(outputCount: 32)
        hash.update(Array(raw.prefix(byteCount)))
        return hash.finish()
    }

    /// The name of the seal's file.
    public static func fileName(_ counter: UInt64) -> StoredName {
        let digits = String(counter)
        return StoredName(String(repeating: "0", count: max(0, 8 - digits.count)) + digits)
    }

    /// The counter that a file's name tells; nil where it is no seal's.
    public static func counter(inFileName name: [UInt8]) -> UInt64? {
        guard let counter = UInt64(String(decoding: name, as: UTF8.self)), counter < counterLimit,
            fileName(counter).bytes == name
        else { return nil }
        return counter
    }
}
