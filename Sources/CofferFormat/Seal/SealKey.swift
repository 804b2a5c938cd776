import CofferCrypto

/// What a vault's seals are signed with, and what they are verified by, without any secret.
///
///     seed = BLAKE2b-256(seals key of the newest epoch; "coffer.seal.sign")        Ed25519
///     text = "coffer-seal-1:" ‖ base64url(public key 32 ‖ first 4 bytes of BLAKE2b-128(-; "coffer.seal.check" ‖ public key))
public enum SealKey {
    private static let prefix = "coffer-seal-1:"
    private static let checkCount = 4

    /// The signing key of a ring's newest epoch.
    public static func signing(_ ring: KeyRing) throws(CryptoError) -> SigningKey {
        try SigningKey(seed: try ring.newestSubkey(.seals).derived("coffer.seal.sign", []))
    }

    /// The public keys that seals of a vault may be signed by: of every epoch, the newest first.
    public static func publicKeys(_ ring: KeyRing) throws(CryptoError) -> [[UInt8]] {
        var keys: [[UInt8]] = []
        for epoch in ring.epochsNewestFirst {
            guard let key = ring.subkey(.seals, epoch: epoch) else { continue }
            keys.append(try SigningKey(seed: try key.derived("coffer.seal.sign", [])).publicKey)
        }
        return keys
    }

    /// A public key as text.
    public static func text(_ publicKey: [UInt8]) -> String {
        prefix + Base64URL.text(publicKey + check(publicKey))
    }

    /// The public key in a text: the first line that begins as such a key does. `malformed` where there is none.
    public static func parse(_ text: String) throws(FormatError) -> [UInt8] {
        guard let line = text.split(whereSeparator: { $0.isWhitespace }).first(where: { $0.hasPrefix(prefix) }),
            let bytes = Base64URL.decode(String(line.dropFirst(prefix.count))),
            bytes.count == SigningKey.publicKeyCount + checkCount
        else { throw .malformed }
        let publicKey = Array(bytes[..<SigningKey.publicKeyCount])
        guard bytes[SigningKey.publicKeyCount...].elementsEqual(check(publicKey)) else { throw .malformed }
        return publicKey
    }

    private static func check(_ publicKey: [UInt8]) -> [UInt8] {
        var hash = Hash(outputCount: 16)
        hash.update("coffer.seal.check")
        hash.update(publicKey)
        return Array(hash.finish()[..<checkCount])
    }
}
