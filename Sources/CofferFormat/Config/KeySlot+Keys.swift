import CofferCrypto

extension KeySlot {
    private static let label: StaticString = "coffer.slot.wrap"

    /// This slot with the ring key wrapped under the slot's key-encryption key.
    ///
    /// The tag covers every member but `name`, `wrap` and `mac`, so they must be final by now. The name, which stands for the label where there is one, can be given
    /// by whoever has opened the vault, without the slot's secret; the slot's MAC covers it.
    public func wrapping(_ ringKey: SecretKey, under key: SecretKey) throws(CryptoError) -> KeySlot {
        try wrapping(ringKey, under: key, nonce: Random.bytes(24))
    }

    /// As above with a given 24-byte nonce: for test vectors only.
    public func wrapping(
        _ ringKey: SecretKey, under key: SecretKey, nonce: [UInt8]
    ) throws(CryptoError) -> KeySlot {
        var secret = ringKey.withBytes { Array($0) }
        defer { wipe(&secret) }
        let blob = try KeyWrap(key: key, label: Self.label)
            .wrap(secret, associatedData: canonicalBytes(without: "name", "mac", "wrap"), nonce: nonce)
        var slot = self
        slot.set("wrap", to: .text(Base64URL.text(blob)))
        return slot
    }

    /// The ring key in this slot; `notAuthentic` where the key-encryption key is another or the slot was changed.
    public func ringKey(under key: SecretKey) throws(CryptoError) -> SecretKey {
        guard let text = text("wrap"), let blob = Base64URL.decode(text) else { throw .notAuthentic }
        var secret = try KeyWrap(key: key, label: Self.label)
            .unwrap(blob, associatedData: canonicalBytes(without: "name", "mac", "wrap"))
        defer { wipe(&secret) }
        guard secret.count == SecretKey.byteCount else { throw .notAuthentic }
        return try SecretKey(copying: secret)
    }

    /// The MAC that this slot should have in a vault with this ring, as 64 hexadecimal digits.
    ///
    /// It lets copies of a configuration that were changed apart be merged slot by slot.
    public func mac(under ring: KeyRing) -> String {
        var hash = Hash(key: ring.newestSubkey(.configuration), outputCount: 32)
        hash.update("coffer.slot.mac")
        hash.update(canonicalBytes(without: "mac"))
        return Hex.encode(hash.finish())
    }
}
