internal import CCryptoBoringSSL

/// The AEAD that seals blocks. The raw value is the header's cipher byte.
public enum CipherSuite: UInt8, CaseIterable, Sendable {
    /// AES-256 in Galois/Counter Mode.
    case aes256GCM = 1
    /// ChaCha20 with Poly1305.
    case chacha20Poly1305 = 2
}

/// One thread's cipher contexts for one suite: set a key once a request, then seal or open block after block without allocating.
///
/// By the BoringSSL that swift-crypto has. What swift-crypto itself offers allocates for each block; OpenSSL 3.0 takes twice the time for AES on processors with VAES (figures in Speed.md).
///
/// Not thread-safe: each thread owns its own.
public final class BlockCipher {
    /// Bytes in a nonce.
    public static let nonceCount = 12
    /// Bytes in a tag.
    public static let tagCount = 16

    /// What does the work.
    public let contexts: BlockContexts

    /// Contexts for `suite`.
    public init(_ suite: CipherSuite) throws(CryptoError) {
        let cipher =
            switch suite {
            case .aes256GCM: CCryptoBoringSSL_EVP_aead_aes_256_gcm()
            case .chacha20Poly1305: CCryptoBoringSSL_EVP_aead_chacha20_poly1305()
            }
        guard let cipher, CCryptoBoringSSL_EVP_AEAD_nonce_length(cipher) == Self.nonceCount,
            CCryptoBoringSSL_EVP_AEAD_max_tag_len(cipher) == Self.tagCount
        else { throw .invalidParameter }
        contexts = BlockContexts(cipher: cipher)
    }

    deinit { contexts.end() }
}

/// A ``BlockCipher``'s contexts, to be used while that is there: a plain value, so that passing it on counts no references.
public struct BlockContexts {
    // Raw pointers, so that whoever uses this need not know BoringSSL.
    private let cipher: OpaquePointer
    private let sealing: UnsafeMutableRawPointer
    private let opening: UnsafeMutableRawPointer

    fileprivate init(cipher: OpaquePointer) {
        self.cipher = cipher
        sealing = Self.make()
        opening = Self.make()
    }

    private static func make() -> UnsafeMutableRawPointer {
        let context = UnsafeMutablePointer<EVP_AEAD_CTX>.allocate(capacity: 1)
        CCryptoBoringSSL_EVP_AEAD_CTX_zero(context)
        return UnsafeMutableRawPointer(context)
    }

    fileprivate func end() {
        for context in [sealing, opening] {
            CCryptoBoringSSL_EVP_AEAD_CTX_cleanup(context.assumingMemoryBound(to: EVP_AEAD_CTX.self))
            wipe(context, count: MemoryLayout<EVP_AEAD_CTX>.size)
            context.assumingMemoryBound(to: EVP_AEAD_CTX.self).deallocate()
        }
    }

    /// Sets the key for the blocks to be sealed next: 32 bytes.
    public func setSealingKey(_ key: UnsafeRawPointer) { set(key, in: sealing) }

    /// Sets the key for the blocks to be opened next: 32 bytes.
    public func setOpeningKey(_ key: UnsafeRawPointer) { set(key, in: opening) }

    private func set(_ key: UnsafeRawPointer, in context: UnsafeMutableRawPointer) {
        let context = context.assumingMemoryBound(to: EVP_AEAD_CTX.self)
        CCryptoBoringSSL_EVP_AEAD_CTX_cleanup(context)
        let status = CCryptoBoringSSL_EVP_AEAD_CTX_init(
            context, cipher, key.assumingMemoryBound(to: UInt8.self), 32, BlockCipher.tagCount, nil)
        precondition(status == 1, "BoringSSL refused a key")
    }

    /// Encrypts `count` bytes to `output` and writes the 16-byte tag. Failure of the library stops the process: there is
    /// nothing true to store.
    public func seal(
        _ input: UnsafeRawPointer, count: Int, nonce: UnsafeRawPointer, associatedData: UnsafeRawPointer,
        associatedDataCount: Int, output: UnsafeMutableRawPointer, tag: UnsafeMutableRawPointer
    ) {
        var written = 0
        let status = CCryptoBoringSSL_EVP_AEAD_CTX_seal_scatter(
            sealing.assumingMemoryBound(to: EVP_AEAD_CTX.self), output.assumingMemoryBound(to: UInt8.self),
            tag.assumingMemoryBound(to: UInt8.self), &written, BlockCipher.tagCount,
            nonce.assumingMemoryBound(to: UInt8.self), BlockCipher.nonceCount,
            input.assumingMemoryBound(to: UInt8.self), count, nil, 0,
            associatedData.assumingMemoryBound(to: UInt8.self), associatedDataCount)
        precondition(status == 1 && written == BlockCipher.tagCount, "BoringSSL could not encrypt")
    }

    /// Decrypts `count` bytes to `output`; true if the tag verifies. On false the output holds nothing to be used.
    public func open(
        _ input: UnsafeRawPointer, count: Int, nonce: UnsafeRawPointer, associatedData: UnsafeRawPointer,
        associatedDataCount: Int, tag: UnsafeRawPointer, output: UnsafeMutableRawPointer
    ) -> Bool {
        CCryptoBoringSSL_EVP_AEAD_CTX_open_gather(
            opening.assumingMemoryBound(to: EVP_AEAD_CTX.self), output.assumingMemoryBound(to: UInt8.self),
            nonce.assumingMemoryBound(to: UInt8.self), BlockCipher.nonceCount,
            input.assumingMemoryBound(to: UInt8.self), count, tag.assumingMemoryBound(to: UInt8.self),
            BlockCipher.tagCount, associatedData.assumingMemoryBound(to: UInt8.self), associatedDataCount) == 1
    }
}
