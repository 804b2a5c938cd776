import CofferCrypto

/// The first 32 bytes of every ciphertext file.
///
///     0       4        5       6      7      8         24      32
///     │ COFR  │ version│ cipher│ epoch│ flags│ file id │ salt  │
public struct FileHeader: Equatable, Sendable {
    /// Bytes of a header.
    public static let byteCount = BlockGeometry.headerCount
    /// Bytes of a file id.
    public static let fileIDCount = 16
    private static let magic: [UInt8] = Array("COFR".utf8)

    /// What the blocks are sealed with.
    public let cipher: CipherSuite
    /// Which of the ring's keys the file key comes from.
    public let epoch: UInt8
    /// Random, for the file's life.
    public let fileID: [UInt8]
    /// The 32 bytes: the file key is a hash of exactly these.
    public let bytes: [UInt8]

    /// The header of a new file.
    public init(cipher: CipherSuite, epoch: UInt8) {
        self.init(cipher: cipher, epoch: epoch, fileID: Random.bytes(Self.fileIDCount), salt: Random.bytes(8))
    }

    /// The header of a new file whose id is given.
    public init(cipher: CipherSuite, epoch: UInt8, fileID: [UInt8]) {
        self.init(cipher: cipher, epoch: epoch, fileID: fileID, salt: Random.bytes(8))
    }

    /// A header from its parts; `fileID` has 16 bytes, `salt` 8.
    public init(cipher: CipherSuite, epoch: UInt8, fileID: [UInt8], salt: [UInt8]) {
        precondition(fileID.count == Self.fileIDCount && salt.count == 8)
        self.cipher = cipher
        self.epoch = epoch
        self.fileID = fileID
        var bytes = Self.magic
        bytes.reserveCapacity(Self.byteCount)
        bytes.append(1)
        bytes.append(cipher.rawValue)
        bytes.append(epoch)
        bytes.append(0)
        bytes.append(contentsOf: fileID)
        bytes.append(contentsOf: salt)
        self.bytes = bytes
    }

    /// Reads 32 bytes. `malformed` where they are no header, `unsupported` where they are one of a newer version.
    public init(parsing raw: [UInt8]) throws(FormatError) {
        guard raw.count == Self.byteCount, Array(raw[..<4]) == Self.magic else { throw .malformed }
        guard raw[4] == 1, let cipher = CipherSuite(rawValue: raw[5]), raw[7] == 0 else { throw .unsupported }
        self.cipher = cipher
        epoch = raw[6]
        fileID = Array(raw[8..<24])
        bytes = raw
    }

    /// The same file after it was cut to nothing: a new salt, so that blocks of replaced contents never mix with new ones. The
    /// cipher and the epoch become the vault's present ones.
    public func emptied(cipher: CipherSuite, epoch: UInt8) -> FileHeader {
        FileHeader(cipher: cipher, epoch: epoch, fileID: fileID, salt: Random.bytes(8))
    }

    /// Writes the 32-byte file key to `output`: BLAKE2b-256 of the header under the epoch's contents key.
    public func deriveKey(contentsKey: SecretKey, into output: UnsafeMutableRawBufferPointer) {
        bytes.withUnsafeBytes { Hash.keyed(contentsKey, $0, into: output) }
    }
}
