import CSodium

/// An Ed25519 key pair from a seed; the private half is in guarded, locked memory that is wiped when the last reference goes.
public final class SigningKey: @unchecked Sendable {
    /// Bytes of a public key.
    public static let publicKeyCount = 32
    /// Bytes of a signature.
    public static let signatureCount = 64

    /// The public half.
    public let publicKey: [UInt8]
    // Written only during initialisation.
    private let storage: UnsafeMutablePointer<UInt8>

    /// The pair of a 32-byte seed.
    public init(seed: SecretKey) throws(CryptoError) {
        Sodium.require()
        guard let memory = sodium_malloc(Int(crypto_sign_SECRETKEYBYTES)) else { throw .outOfMemory }
        storage = memory.bindMemory(to: UInt8.self, capacity: Int(crypto_sign_SECRETKEYBYTES))
        var publicKey = [UInt8](repeating: 0, count: Self.publicKeyCount)
        let status = crypto_sign_seed_keypair(&publicKey, storage, seed.pointer)
        precondition(status == 0, "libsodium refused a seed")
        self.publicKey = publicKey
        sodium_mprotect_readonly(memory)
    }

    deinit {
        sodium_free(storage)
    }

    /// The signature of a message.
    public func sign(_ message: [UInt8]) -> [UInt8] {
        var signature = [UInt8](repeating: 0, count: Self.signatureCount)
        crypto_sign_detached(&signature, nil, message, UInt64(message.count), storage)
        return signature
    }

    /// Whether a signature of a message is one of the holder of this public key.
    public static func verify(_ signature: [UInt8], of message: [UInt8], by publicKey: [UInt8]) -> Bool {
        Sodium.require()
        guard signature.count == signatureCount, publicKey.count == publicKeyCount else { return false }
        return crypto_sign_verify_detached(signature, message, UInt64(message.count), publicKey) == 0
    }
}
