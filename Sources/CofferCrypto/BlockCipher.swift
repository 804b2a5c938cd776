import CCrypto

/// The AEAD that seals blocks. The raw value is the header's cipher byte.
public enum CipherSuite: UInt8, CaseIterable, Sendable {
    /// AES-256 in Galois/Counter Mode.
    case aes256GCM = 1
    /// ChaCha20 with Poly1305.
    case chacha20Poly1305 = 2
}

/// One thread's cipher contexts for one suite: set a key once a request, then seal or open block after block without allocating.
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
        guard let sealing = EVP_CIPHER_CTX_new() else { throw .outOfMemory }
        guard let opening = EVP_CIPHER_CTX_new() else {
            EVP_CIPHER_CTX_free(sealing)
            throw .outOfMemory
        }
        contexts = BlockContexts(sealing: sealing, opening: opening)
        let cipher =
            switch suite {
            case .aes256GCM: EVP_aes_256_gcm()
            case .chacha20Poly1305: EVP_chacha20_poly1305()
            }
        guard EVP_EncryptInit_ex(sealing, cipher, nil, nil, nil) == 1,
            EVP_DecryptInit_ex(opening, cipher, nil, nil, nil) == 1
        else { throw .invalidParameter }
    }

    deinit {
        EVP_CIPHER_CTX_free(contexts.sealing)
        EVP_CIPHER_CTX_free(contexts.opening)
    }
}

/// A ``BlockCipher``'s contexts, to be used while that is there: a plain value, so that passing it on counts no references.
public struct BlockContexts {
    fileprivate let sealing: OpaquePointer
    fileprivate let opening: OpaquePointer

    /// Sets the key for the blocks to be sealed next: 32 bytes.
    public func setSealingKey(_ key: UnsafeRawPointer) {
        let status = EVP_EncryptInit_ex(sealing, nil, nil, key.assumingMemoryBound(to: UInt8.self), nil)
        precondition(status == 1, "libcrypto refused a key")
    }

    /// Sets the key for the blocks to be opened next: 32 bytes.
    public func setOpeningKey(_ key: UnsafeRawPointer) {
        let status = EVP_DecryptInit_ex(opening, nil, nil, key.assumingMemoryBound(to: UInt8.self), nil)
        precondition(status == 1, "libcrypto refused a key")
    }

    /// Encrypts `count` bytes to `output` and writes the 16-byte tag. Failure of the library stops the process: there is
    /// nothing true to store.
    public func seal(
        _ input: UnsafeRawPointer, count: Int, nonce: UnsafeRawPointer, associatedData: UnsafeRawPointer,
        associatedDataCount: Int, output: UnsafeMutableRawPointer, tag: UnsafeMutableRawPointer
    ) {
        var written: Int32 = 0
        var status = EVP_EncryptInit_ex(sealing, nil, nil, nil, nonce.assumingMemoryBound(to: UInt8.self))
        status &= EVP_EncryptUpdate(
            sealing, nil, &written, associatedData.assumingMemoryBound(to: UInt8.self), Int32(associatedDataCount))
        let bytes = output.assumingMemoryBound(to: UInt8.self)
        if count > 0 {
            status &= EVP_EncryptUpdate(
                sealing, bytes, &written, input.assumingMemoryBound(to: UInt8.self), Int32(count))
        }
        status &= EVP_EncryptFinal_ex(sealing, bytes + count, &written)
        status &= coffer_evp_get_tag(sealing, tag)
        precondition(status == 1, "libcrypto could not encrypt")
    }

    /// Decrypts `count` bytes to `output`; true if the tag verifies. On false the output holds nothing to be used.
    public func open(
        _ input: UnsafeRawPointer, count: Int, nonce: UnsafeRawPointer, associatedData: UnsafeRawPointer,
        associatedDataCount: Int, tag: UnsafeRawPointer, output: UnsafeMutableRawPointer
    ) -> Bool {
        var written: Int32 = 0
        var status = EVP_DecryptInit_ex(opening, nil, nil, nil, nonce.assumingMemoryBound(to: UInt8.self))
        status &= EVP_DecryptUpdate(
            opening, nil, &written, associatedData.assumingMemoryBound(to: UInt8.self), Int32(associatedDataCount))
        let bytes = output.assumingMemoryBound(to: UInt8.self)
        if count > 0 {
            status &= EVP_DecryptUpdate(
                opening, bytes, &written, input.assumingMemoryBound(to: UInt8.self), Int32(count))
        }
        status &= coffer_evp_set_tag(opening, tag)
        return status == 1 && EVP_DecryptFinal_ex(opening, bytes + count, &written) == 1
    }
}
