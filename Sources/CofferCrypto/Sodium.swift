import CSodium

/// libsodium's one-time set-up.
enum Sodium {
    /// True once `sodium_init` has run; it is safe to call from any thread and only fails where no random source exists.
    static let ready: Bool = sodium_init() >= 0

    /// Stops the process where the library has no random source: going on would mean predictable nonces.
    @inline(__always)
    static func require() {
        precondition(ready, "libsodium found no source of randomness")
    }
}
