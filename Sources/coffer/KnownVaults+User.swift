import CofferKeys
import Glibc

extension KnownVaults {
    /// The memory of the user who runs the program.
    static var forThisUser: KnownVaults {
        var environment: [String: String] = [:]
        for name in ["COFFER_STATE_DIR", "XDG_STATE_HOME", "HOME"] {
            if let value = getenv(name) { environment[name] = String(cString: value) }
        }
        return standard(environment: environment)
    }
}
