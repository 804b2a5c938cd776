/// What one guess at a passphrase costs.
public struct Argon2Cost: Equatable, Sendable {
    /// Passes over the memory.
    public let operationsLimit: UInt64
    /// Bytes of memory.
    public let memoryLimit: Int

    /// A cost, which `PassphraseSlot` checks against its bounds.
    public init(operationsLimit: UInt64, memoryLimit: Int) {
        self.operationsLimit = operationsLimit
        self.memoryLimit = memoryLimit
    }

    /// For small machines: 64 MiB, a fraction of a second.
    public static let interactive = Argon2Cost(operationsLimit: 2, memoryLimit: 64 << 20)
    /// The default: 256 MiB, about a second.
    public static let moderate = Argon2Cost(operationsLimit: 3, memoryLimit: 256 << 20)
    /// For secrets that must outlast better hardware: 1 GiB, several seconds.
    public static let sensitive = Argon2Cost(operationsLimit: 4, memoryLimit: 1 << 30)
    /// The least that the format allows: 8 MiB, for tests.
    public static let least = Argon2Cost(operationsLimit: 1, memoryLimit: 8 << 20)
}
