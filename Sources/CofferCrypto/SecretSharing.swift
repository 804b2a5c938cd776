import CShares

/// Pieces of a secret, any few of which give it back while fewer say nothing of it (Shamir, in GF(256)), by libgfshare.
public enum SecretSharing {
    private static let ready: Void = {
        Sodium.require()
        coffer_give_gfshare_randomness()
    }()

    /// Pieces with the numbers 1 … `count` of the first `byteCount` bytes of a secret, any `threshold` of which give them back. The caller wipes them.
    ///
    /// `invalidParameter` unless 2 ≤ `threshold` ≤ `count` ≤ 255.
    public static func split(
        _ secret: SecretKey, byteCount: Int, threshold: Int, count: Int
    ) throws(CryptoError) -> [[UInt8]] {
        guard threshold >= 2, threshold <= count, count <= 255, (1...SecretKey.byteCount).contains(byteCount) else {
            throw .invalidParameter
        }
        _ = ready
        var numbers = (1...count).map { UInt8($0) }
        guard let context = gfshare_ctx_init_enc(&numbers, UInt32(count), UInt8(threshold), UInt32(byteCount)) else {
            throw .outOfMemory
        }
        defer { gfshare_ctx_free(context) }
        secret.withBytes { bytes in
            // The library takes it without `const`, and copies it.
            guard let base = bytes.baseAddress else { return }
            gfshare_ctx_enc_setsecret(
                context, UnsafeMutableRawPointer(mutating: base).assumingMemoryBound(to: UInt8.self))
        }
        return (0..<count).map { index in
            var share = [UInt8](repeating: 0, count: byteCount)
            gfshare_ctx_enc_getshare(context, UInt8(index), &share)
            return share
        }
    }

    /// What pieces of equal length, with different numbers of 1 … 255, give back: something of no use where they are too few or of different secrets. The caller wipes it.
    public static func join(_ pieces: [(number: UInt8, bytes: [UInt8])]) throws(CryptoError) -> [UInt8] {
        guard let first = pieces.first, pieces.count <= 255, !first.bytes.isEmpty,
            pieces.allSatisfy({ $0.bytes.count == first.bytes.count && $0.number > 0 }),
            Set(pieces.map(\.number)).count == pieces.count
        else { throw .invalidParameter }
        _ = ready
        var numbers = pieces.map(\.number)
        guard let context = gfshare_ctx_init_dec(&numbers, UInt32(pieces.count), UInt32(first.bytes.count)) else {
            throw .outOfMemory
        }
        defer { gfshare_ctx_free(context) }
        for (index, piece) in pieces.enumerated() {
            piece.bytes.withUnsafeBufferPointer { bytes in
                gfshare_ctx_dec_giveshare(context, UInt8(index), UnsafeMutablePointer(mutating: bytes.baseAddress))
            }
        }
        var secret = [UInt8](repeating: 0, count: first.bytes.count)
        gfshare_ctx_dec_extract(context, &secret)
        return secret
    }
}
