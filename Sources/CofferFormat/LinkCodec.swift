import CofferCrypto

/// Symbolic link targets: plaintext to link text and back.
public struct LinkCodec: Sendable {
    /// The longest plaintext target, in bytes.
    public static let maximumPlainCount = 4095
    /// Bytes of an overflow link's text; no inline text is so short.
    public static let overflowTextCount = 39
    /// Bytes that an inline target adds before its text encoding: epoch, nonce and tag.
    private static let overhead = 1 + SmallAEAD.overhead
    private static let label: [UInt8] = Array("coffer.symlink".utf8)

    private let ciphers: [UInt8: SmallAEAD]
    private let newest: UInt8

    /// Targets under the ring's keys.
    public init(ring: KeyRing) {
        newest = ring.newest
        var ciphers: [UInt8: SmallAEAD] = [:]
        for epoch in ring.epochsNewestFirst {
            if let key = ring.subkey(.symlinks, epoch: epoch) { ciphers[epoch] = SmallAEAD(key: key) }
        }
        self.ciphers = ciphers
    }

    /// The sealed target: epoch ‖ nonce ‖ ciphertext ‖ tag. With `companion`, bound to the overflow file's 16 random bytes.
    public func seal(_ target: [UInt8], companion: [UInt8] = []) throws(FormatError) -> [UInt8] {
        guard let cipher = ciphers[newest] else { throw .notAuthentic }
        return [newest] + cipher.seal(target, associatedData: Self.label + companion)
    }

    /// The target in sealed bytes.
    public func open(_ sealed: [UInt8], companion: [UInt8] = []) throws(FormatError) -> [UInt8] {
        guard let epoch = sealed.first, let cipher = ciphers[epoch] else { throw .notAuthentic }
        do throws(CryptoError) {
            return try cipher.open(Array(sealed.dropFirst()), associatedData: Self.label + companion)
        } catch {
            throw .notAuthentic
        }
    }

    /// The plaintext length that an inline link text of `textCount` bytes stands for; 0 where it can be none.
    public static func plainCount(textCount: Int) -> Int {
        max(0, Base64URL.decodedCount(textCount) - overhead)
    }

    /// The text of an overflowing link and the name of the file that carries its target. `companion` has 16 bytes.
    public static func overflow(companion: [UInt8], plainCount: Int) -> (text: StoredName, file: StoredName) {
        let file = ReservedName.linkPrefix + Base64URL.encode(companion)
        var digits = Array(String(plainCount).utf8)
        digits = [UInt8](repeating: UInt8(ascii: "0"), count: max(0, 4 - digits.count)) + digits
        return (StoredName(file + [UInt8(ascii: ".")] + digits), StoredName(file))
    }

    /// The companion's 16 bytes, its file's name and the plaintext length, where `text` is an overflowing link's.
    public static func parseOverflow(_ text: [UInt8]) -> (companion: [UInt8], file: StoredName, plainCount: Int)? {
        guard text.count == overflowTextCount, text.starts(with: ReservedName.linkPrefix) else { return nil }
        let parts = text.dropFirst(ReservedName.linkPrefix.count).split(
            separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 2, let companion = Base64URL.decode(parts[0]), companion.count == 16,
            parts[1].allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }),
            let plainCount = Int(String(decoding: parts[1], as: UTF8.self))
        else { return nil }
        return (companion, StoredName(text.dropLast(5)), plainCount)
    }
}
