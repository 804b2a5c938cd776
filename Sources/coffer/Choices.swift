import ArgumentParser
import CofferCrypto
import CofferKeys

/// What `--cipher` takes: the names that coffer.json uses.
enum CipherChoice: String, ExpressibleByArgument, CaseIterable {
    case aes256GCM = "aes-256-gcm"
    case chacha20Poly1305 = "chacha20-poly1305"

    var suite: CipherSuite {
        switch self {
        case .aes256GCM: .aes256GCM
        case .chacha20Poly1305: .chacha20Poly1305
        }
    }
}

/// What `--kdf` takes.
enum KDFChoice: String, ExpressibleByArgument, CaseIterable {
    case interactive
    case moderate
    case sensitive

    var cost: Argon2Cost {
        switch self {
        case .interactive: .interactive
        case .moderate: .moderate
        case .sensitive: .sensitive
        }
    }
}
