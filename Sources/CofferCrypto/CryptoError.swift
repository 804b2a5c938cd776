/// Why a cryptographic operation did not succeed.
public enum CryptoError: Error, Equatable, Sendable {
    /// The ciphertext, its associated data or its key are not what was sealed.
    case notAuthentic
    /// Locked memory, a cipher context or the memory that a KDF asks for could not be had.
    case outOfMemory
    /// The library refused parameters that the caller should have checked.
    case invalidParameter
}
