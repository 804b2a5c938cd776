import CSodium

/// The key-committing wrap of the format document: XChaCha20 under one half of a 64-byte derived key, then a 32-byte keyed
/// BLAKE2b under the other. A blob opens under one key only, because the tag is a collision-resistant hash of it.
///
///     n 24 ‖ c ‖ t 32
public struct KeyWrap: Sendable {
    /// Bytes that wrapping adds.
    public static let overhead = 56
    private static let nonceCount = 24
    private static let tagCount = 32

    private let encryptionKey: SecretKey
    private let macKey: SecretKey

    /// Derives both halves from `key` and a label that separates uses.
    public init(key: SecretKey, label: StaticString) throws(CryptoError) {
        var hash = Hash(key: key, outputCount: 64)
        hash.update(label)
        var both = hash.finish()
        defer { wipe(&both) }
        encryptionKey = try SecretKey { target in target.copyBytes(from: both[..<32]) }
        macKey = try SecretKey { target in target.copyBytes(from: both[32...]) }
    }

    /// Wraps `secret`, bound to `associatedData`.
    public func wrap(_ secret: [UInt8], associatedData: [UInt8]) -> [UInt8] {
        wrap(secret, associatedData: associatedData, nonce: Random.bytes(Self.nonceCount))
    }

    /// As above with a given nonce: for test vectors only.
    public func wrap(_ secret: [UInt8], associatedData: [UInt8], nonce: [UInt8]) -> [UInt8] {
        precondition(nonce.count == Self.nonceCount)
        let body = nonce + stream(secret, nonce: nonce)
        return body + tag(of: body, associatedData: associatedData)
    }

    /// The secret in `blob`, or `notAuthentic`. The caller wipes what it gets.
    public func unwrap(_ blob: [UInt8], associatedData: [UInt8]) throws(CryptoError) -> [UInt8] {
        guard blob.count >= Self.overhead else { throw .notAuthentic }
        let body = Array(blob[..<(blob.count - Self.tagCount)])
        let expected = tag(of: body, associatedData: associatedData)
        guard constantTimeEqual(expected, Array(blob[body.count...])) else { throw .notAuthentic }
        return stream(Array(body[Self.nonceCount...]), nonce: Array(body[..<Self.nonceCount]))
    }

    private func tag(of body: [UInt8], associatedData: [UInt8]) -> [UInt8] {
        var hash = Hash(key: macKey, outputCount: Self.tagCount)
        hash.update(associatedData)
        hash.update(body)
        return hash.finish()
    }

    private func stream(_ input: [UInt8], nonce: [UInt8]) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: input.count)
        crypto_stream_xchacha20_xor(&output, input, UInt64(input.count), nonce, encryptionKey.pointer)
        return output
    }
}
