import CofferCrypto
import CofferFormat
import Synchronization

/// Sealing what is added to a file before it is its turn.
///
/// A file grows by one request at a time: each is stored behind the one before, and is the last only until the next. But what its blocks look like depends on neither; so who has to
/// wait seals them meanwhile, and only stores them in its turn.
extension FileContents {
    /// What a thread's room holds of sealed blocks that were not stored yet.
    struct SealedAhead {
        /// The key that the file had: no other key, of this or another file, has its number.
        var keyNumber: UInt64
        var offset: Int
        var count: Int
    }

    /// The file's key as it is handed to who holds no lock on blocks.
    struct NumberedKey {
        /// Which it is of all keys that this process has had.
        var number: UInt64 = 0
        var cipher: CipherSuite
    }

    /// Bytes of one write from which on it pays to seal them ahead.
    public static let worthSealingAhead = 1 << 16

    /// Seals the blocks of a write that has to wait for others. ``write(_:count:at:_:)`` of the same bytes, which has to be the next that is done with `scratch`, stores them if it
    /// begins with the block behind the last one, and if the file has the same key still; else it does what it would have done without.
    public func sealAhead(_ data: UnsafeRawPointer, count: Int, at offset: Int, _ scratch: Scratch) {
        scratch.ahead = nil
        guard company == .alone, count > 0, offset >= 0, offset % BlockGeometry.plainCount == 0,
            count <= (Scratch.blockLimit - 2) * BlockGeometry.plainCount,
            count <= BlockGeometry.maximumPlainSize - offset
        else { return }
        // Cutting the file to nothing gives it another key meanwhile, so this is one that it had as a whole.
        let key = numberedKey.withLock { key in
            scratch.cipher(key.cipher).setSealingKey(fileKey)
            return key
        }
        sealRun(data, count: count, at: offset, gap: 0, with: scratch.cipher(key.cipher), scratch)
        scratch.ahead = SealedAhead(keyNumber: key.number, offset: offset, count: count)
    }

    /// Whether `scratch.cipherText` has the blocks of this write already. Only under a lock to the end of time. What is there is used once at most.
    func takeSealedAhead(count: Int, at offset: Int, gap: Int, _ scratch: Scratch) -> Bool {
        guard let ahead = scratch.ahead else { return false }
        scratch.ahead = nil
        return gap == 0 && ahead.offset == offset && ahead.count == count
            && ahead.keyNumber == numberedKey.withLock { $0.number }
    }

    private static let keyCount = Atomic<UInt64>(0)

    /// Changes the file's key, 32 bytes at ``fileKey``. Only under a lock on everything, or while nobody else has the object.
    func changeKey(_ body: () throws(VaultError) -> Void) throws(VaultError) {
        try numberedKey.withLock { key throws(VaultError) in
            key.number = Self.keyCount.add(1, ordering: .relaxed).newValue
            try body()
            key.cipher = header.cipher
        }
    }

    /// Seals the blocks of a request that begins beyond the last block, the last of them final, to `scratch.cipherText`.
    func sealRun(
        _ data: UnsafeRawPointer, count: Int, at offset: Int, gap: Int, with contexts: BlockContexts, _ scratch: Scratch
    ) {
        let end = offset + count
        let first = offset / BlockGeometry.plainCount
        let last = (end - 1) / BlockGeometry.plainCount
        let lead = offset - first * BlockGeometry.plainCount
        drawNonces(last - first + 1, scratch)
        for block in first...last {
            var plain = data + (block * BlockGeometry.plainCount - offset)
            if block == first && lead > 0 {
                scratch.headBlock.initializeMemory(as: UInt8.self, repeating: 0, count: lead)
                (scratch.headBlock + lead).copyMemory(
                    from: data, byteCount: min(count, BlockGeometry.plainCount - lead))
                plain = UnsafeRawPointer(scratch.headBlock)
            }
            seal(
                plain, count: BlockGeometry.plainCount(ofBlock: block, plainSize: end), block: block,
                info: BlockInfo(final: block == last, gap: block == first ? gap : 0),
                nonce: scratch.nonces + (block - first) * BlockCipher.nonceCount,
                to: scratch.cipherText + (block - first) * BlockGeometry.storedCount, with: contexts, scratch)
        }
    }
}
