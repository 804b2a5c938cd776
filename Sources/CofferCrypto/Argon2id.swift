import CSodium

/// Argon2id 1.3 as libsodium computes it (one lane).
public enum Argon2id {
    /// Bytes of salt.
    public static let saltCount = 16

    /// The 32-byte key of a passphrase. `memoryLimit` in bytes; an empty passphrase is refused. Bounds are the caller's to check first.
    public static func key(
        passphrase: [UInt8], salt: [UInt8], operationsLimit: UInt64, memoryLimit: Int
    ) throws(CryptoError) -> SecretKey {
        guard salt.count == saltCount, !passphrase.isEmpty else { throw .invalidParameter }
        return try SecretKey { target throws(CryptoError) in
            let status = passphrase.withUnsafeBytes { secret -> Int32 in
                guard let output = target.baseAddress, let input = secret.baseAddress else { return -1 }
                return crypto_pwhash_argon2id(
                    output.assumingMemoryBound(to: UInt8.self), UInt64(target.count),
                    input.assumingMemoryBound(to: CChar.self), UInt64(secret.count), salt,
                    operationsLimit, memoryLimit, crypto_pwhash_argon2id_alg_argon2id13())
            }
            guard status == 0 else { throw .outOfMemory }
        }
    }
}
