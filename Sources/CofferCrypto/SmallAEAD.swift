import CSodium

/// XChaCha20-Poly1305 with a random nonce, for what is small and not a block: link targets and attribute values.
///
///     sealed = nonce 24 ‖ ciphertext ‖ tag 16
public struct SmallAEAD: Sendable {
    /// Bytes that sealing adds.
    public static let overhead = 40
    private static let nonceCount = 24
    private static let tagCount = 16

    private let key: SecretKey

    /// The construction under one sub-key.
    public init(key: SecretKey) {
        self.key = key
    }

    /// nonce ‖ ciphertext ‖ tag under a fresh random nonce.
    public func seal(_ plaintext: [UInt8], associatedData: [UInt8]) -> [UInt8] {
        seal(plaintext, associatedData: associatedData, nonce: Random.bytes(Self.nonceCount))
    }

    /// As above with a given nonce: for test vectors only.
    public func seal(_ plaintext: [UInt8], associatedData: [UInt8], nonce: [UInt8]) -> [UInt8] {
        precondition(nonce.count == Self.nonceCount)
        var output = [UInt8](repeating: 0, count: plaintext.count + Self.tagCount)
        var written: UInt64 = 0
        crypto_aead_xchacha20poly1305_ietf_encrypt(
            &output, &written, plaintext, UInt64(plaintext.count), associatedData, UInt64(associatedData.count), nil,
            nonce, key.pointer)
        return nonce + output
    }

    /// The plaintext of `sealed`, or `notAuthentic`.
    public func open(_ sealed: [UInt8], associatedData: [UInt8]) throws(CryptoError) -> [UInt8] {
        guard sealed.count >= Self.overhead else { throw .notAuthentic }
        let nonce = Array(sealed[..<Self.nonceCount])
        let body = Array(sealed[Self.nonceCount...])
        var output = [UInt8](repeating: 0, count: body.count - Self.tagCount)
        var written: UInt64 = 0
        let status = output.withUnsafeMutableBufferPointer { target in
            crypto_aead_xchacha20poly1305_ietf_decrypt(
                target.baseAddress, &written, nil, body, UInt64(body.count), associatedData,
                UInt64(associatedData.count), nonce, key.pointer)
        }
        guard status == 0 else { throw .notAuthentic }
        return output
    }
}
