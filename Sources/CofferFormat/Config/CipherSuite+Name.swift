import CofferCrypto

extension CipherSuite {
    /// What coffer.json and the command line call the cipher.
    public var name: String {
        switch self {
        case .aes256GCM: "aes-256-gcm"
        case .chacha20Poly1305: "chacha20-poly1305"
        }
    }

    /// The cipher of this name, or nil.
    public init?(name: String) {
        guard let suite = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = suite
    }
}
