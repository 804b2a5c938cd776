import Crypto
import FoundationEssentials

/// X-Wing, the key encapsulation that holds as long as either X25519 or ML-KEM-768 does (draft-connolly-cfrg-xwing-kem), by swift-crypto.
///
/// A private key is its 32-byte seed.
public enum XWing {
    /// Bytes of a public key.
    public static let publicKeyCount = 1216
    /// Bytes of what is sent along, from which the private key's holder finds the shared secret.
    public static let encapsulatedCount = 1120

    /// The public key of a seed.
    public static func publicKey(of seed: SecretKey) throws(CryptoError) -> [UInt8] {
        Array(try privateKey(seed).publicKey.rawRepresentation)
    }

    /// A fresh shared secret for whoever has the private key; `invalidParameter` where that is no public key.
    public static func encapsulate(
        to publicKey: [UInt8]
    ) throws(CryptoError) -> (encapsulated: [UInt8], shared: SecretKey) {
        do {
            let key = try XWingMLKEM768X25519.PublicKey(rawRepresentation: publicKey)
            let result = try key.encapsulate()
            return (Array(result.encapsulated), try secret(result.sharedSecret))
        } catch {
            throw .invalidParameter
        }
    }

    /// The shared secret: another one, of no use, where it was made for somebody else.
    public static func decapsulate(_ encapsulated: [UInt8], with seed: SecretKey) throws(CryptoError) -> SecretKey {
        let key = try privateKey(seed)
        do {
            return try secret(try key.decapsulate(Data(encapsulated)))
        } catch {
            throw .invalidParameter
        }
    }

    private static func privateKey(_ seed: SecretKey) throws(CryptoError) -> XWingMLKEM768X25519.PrivateKey {
        // The key's own memory, so that there is no copy to be wiped.
        let key = seed.withBytes { bytes in
            Result { () throws(CryptoError) in
                guard let base = bytes.baseAddress else { throw .invalidParameter }
                let data = Data(
                    bytesNoCopy: UnsafeMutableRawPointer(mutating: base), count: bytes.count, deallocator: .none)
                do {
                    return try XWingMLKEM768X25519.PrivateKey(seedRepresentation: data, publicKey: nil)
                } catch {
                    throw .invalidParameter
                }
            }
        }
        return try key.get()
    }

    private static func secret(_ key: SymmetricKey) throws(CryptoError) -> SecretKey {
        try key.withUnsafeBytes { bytes in
            Result { () throws(CryptoError) in try SecretKey(copying: bytes) }
        }.get()
    }
}
