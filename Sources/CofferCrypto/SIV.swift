import CSodium

/// The deterministic construction of the format document: equal input gives equal output, any change is found.
///
///     tag = BLAKE2b-128(MAC key; AD ‖ plaintext), ciphertext = XChaCha20(encryption key, tag ‖ 0⁸) ⊕ plaintext
public struct SIV: Sendable {
    /// Bytes that sealing adds.
    public static let tagCount = 16
    /// Bytes of associated data, always exactly so many: that is what keeps AD ‖ plaintext unambiguous.
    public static let associatedDataCount = 16

    private let macKey: SecretKey
    private let encryptionKey: SecretKey

    /// The construction under a pair of sub-keys.
    public init(macKey: SecretKey, encryptionKey: SecretKey) {
        self.macKey = macKey
        self.encryptionKey = encryptionKey
    }

    /// tag ‖ ciphertext, `plaintext.count + 16` bytes.
    public func seal(_ plaintext: [UInt8], associatedData: [UInt8]) -> [UInt8] {
        precondition(associatedData.count == Self.associatedDataCount)
        let tag = self.tag(of: plaintext, associatedData: associatedData)
        var sealed = tag
        sealed.reserveCapacity(tag.count + plaintext.count)
        sealed.append(contentsOf: keystream(over: plaintext[...], tag: tag))
        return sealed
    }

    /// The plaintext of `sealed`, or `notAuthentic`.
    public func open(_ sealed: [UInt8], associatedData: [UInt8]) throws(CryptoError) -> [UInt8] {
        precondition(associatedData.count == Self.associatedDataCount)
        guard sealed.count >= Self.tagCount else { throw .notAuthentic }
        let tag = Array(sealed[..<Self.tagCount])
        let plaintext = keystream(over: sealed[Self.tagCount...], tag: tag)
        guard constantTimeEqual(tag, self.tag(of: plaintext, associatedData: associatedData)) else {
            throw .notAuthentic
        }
        return plaintext
    }

    /// What `sealed` decrypts to, unverified: for recovering names whose directory id is lost. Never to be believed.
    public func unverifiedPlaintext(of sealed: [UInt8]) -> [UInt8] {
        guard sealed.count >= Self.tagCount else { return [] }
        return keystream(over: sealed[Self.tagCount...], tag: Array(sealed[..<Self.tagCount]))
    }

    private func tag(of plaintext: [UInt8], associatedData: [UInt8]) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: Self.tagCount) { tag, count in
            let inputCount = associatedData.count + plaintext.count
            withUnsafeTemporaryAllocation(byteCount: inputCount, alignment: 16) { input in
                input.copyBytes(from: associatedData)
                UnsafeMutableRawBufferPointer(rebasing: input[associatedData.count...]).copyBytes(from: plaintext)
                Hash.keyed(
                    macKey, UnsafeRawBufferPointer(input),
                    into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(tag)[..<Self.tagCount]))
            }
            count = Self.tagCount
        }
    }

    private func keystream(over input: ArraySlice<UInt8>, tag: [UInt8]) -> [UInt8] {
        if input.isEmpty { return [] }
        return [UInt8](unsafeUninitializedCapacity: input.count) { output, count in
            withUnsafeTemporaryAllocation(of: UInt8.self, capacity: Self.tagCount + 8) { nonce in
                _ = nonce.initialize(from: tag)
                for index in Self.tagCount..<Self.tagCount + 8 { nonce[index] = 0 }
                input.withUnsafeBufferPointer { input in
                    guard let target = output.baseAddress, let source = input.baseAddress, let nonce = nonce.baseAddress
                    else { return }
                    crypto_stream_xchacha20_xor(target, source, UInt64(input.count), nonce, encryptionKey.pointer)
                }
            }
            count = input.count
        }
    }
}
