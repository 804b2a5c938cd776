/// Where a file's blocks are, and how plaintext and ciphertext sizes follow from each other.
///
///     ciphertext:  header 32 │ block 0: 32 + 4096 │ block 1 │ … │ last block: 32 + (1 … 4096), or 32 + 0 in an empty file
public enum BlockGeometry {
    /// Bytes of the header.
    public static let headerCount = 32
    /// Bytes of plaintext in every block but the last.
    public static let plainCount = 4096
    /// Bytes before a block's ciphertext: nonce 12, info 4.
    public static let prefixCount = 16
    /// Bytes after it.
    public static let tagCount = 16
    /// Bytes that sealing a block adds.
    public static let overhead = prefixCount + tagCount
    /// Bytes of a stored whole block.
    public static let storedCount = plainCount + overhead
    /// Bytes of the smallest file: header and an empty final block.
    public static let emptyFileCount = headerCount + overhead
    /// The longest run of holes that one block vouches for.
    public static let maximumGap = 1 << 30 - 1

    /// The largest plaintext size whose ciphertext still has a valid 63-bit size.
    public static let maximumPlainSize = (Int.max - headerCount) / storedCount * plainCount

    /// Where block `index` begins in the ciphertext.
    @inline(__always)
    public static func offset(ofBlock index: Int) -> Int {
        headerCount + storedCount * index
    }

    /// How many blocks a file of `plainSize` bytes has: none where it is empty (its one empty block holds no plaintext).
    @inline(__always)
    public static func blockCount(plainSize: Int) -> Int {
        (plainSize + plainCount - 1) / plainCount
    }

    /// Plaintext bytes in block `index` of a file of `plainSize` bytes.
    @inline(__always)
    public static func plainCount(ofBlock index: Int, plainSize: Int) -> Int {
        min(plainCount, plainSize - index * plainCount)
    }

    /// The ciphertext size of a file of `plainSize` bytes.
    @inline(__always)
    public static func cipherSize(plainSize: Int) -> Int {
        plainSize == 0 ? emptyFileCount : headerCount + overhead * blockCount(plainSize: plainSize) + plainSize
    }

    /// The plaintext size of a file of `cipherSize` bytes; nil for sizes that no file can have.
    @inline(__always)
    public static func plainSize(cipherSize: Int) -> Int? {
        if cipherSize == emptyFileCount { return 0 }
        if cipherSize < emptyFileCount { return nil }
        let body = cipherSize - headerCount
        let remainder = body % storedCount
        if remainder == 0 { return body / storedCount * plainCount }
        if remainder <= overhead { return nil }
        return body / storedCount * plainCount + remainder - overhead
    }

    /// What a size to be shown is where the true one is damaged: the plaintext that the whole blocks would hold.
    public static func plausibleSize(cipherSize: Int) -> Int {
        plainSize(cipherSize: cipherSize) ?? max(0, cipherSize - headerCount) / storedCount * plainCount
    }
}

/// A block's info word: what the block may be in its file.
///
///     bit 31 final │ bit 30 reconstructed │ bits 0–29 gap
public struct BlockInfo: Equatable, Sendable {
    /// The word as it is stored.
    public var rawValue: UInt32

    /// The word as it is stored.
    @inline(__always)
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// A word from its parts. `gap` is at most `BlockGeometry.maximumGap`.
    @inline(__always)
    public init(final: Bool, gap: Int) {
        precondition(gap >= 0 && gap <= BlockGeometry.maximumGap)
        rawValue = (final ? 1 << 31 : 0) | UInt32(gap)
    }

    /// The word of an end that recovery set.
    public init(reconstructedWithGap gap: Int) {
        self.init(final: true, gap: gap)
        rawValue |= 1 << 30
    }

    /// The block may be the file's last.
    @inline(__always)
    public var isFinal: Bool { rawValue & (1 << 31) != 0 }

    /// Recovery set this end, not a program.
    @inline(__always)
    public var isReconstructed: Bool { rawValue & (1 << 30) != 0 }

    /// How many blocks directly before this one may be holes.
    @inline(__always)
    public var gap: Int { Int(rawValue & (1 << 30 - 1)) }
}
