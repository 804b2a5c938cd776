import CofferFormat
import SystemPackage

/// What this machine remembers of seals: of each key that signs them the newest seal that it has seen, so that a copy which was put back as a whole is noticed.
public struct KnownSeals: Sendable {
    /// A seal that was seen.
    public struct Sighting: Codable, Equatable, Sendable {
        /// The seal's counter.
        public let counter: UInt64
        /// When it was made; nanoseconds since 1970.
        public let time: Int64
        /// Its root's hash, 64 hexadecimal digits.
        public let root: String

        /// A sighting of a genuine seal.
        public init(_ head: SealHead) {
            counter = head.counter
            time = head.time
            root = Hex.encode(head.root)
        }
    }

    struct Contents: Memory, Equatable, Sendable {
        static let currentVersion = 1
        var version = currentVersion
        /// By public key, as text.
        var seals: [String: Sighting] = [:]
    }

    private let file: MemoryFile<Contents>?

    /// The memory in `stateDirectory`; nil for none.
    public init(stateDirectory: String?) {
        file = stateDirectory.map { MemoryFile(directory: $0, name: "known-seals") }
    }

    /// The newest seal by one of these keys that this machine has seen; nil for none.
    public func newest(publicKeys: [[UInt8]]) throws(KeysError) -> Sighting? {
        guard let file else { return nil }
        let memory = try file.read()
        return publicKeys.compactMap { memory.seals[SealKey.text($0)] }.max { $0.counter < $1.counter }
    }

    /// What this machine knows that speaks against a copy whose newest genuine seal is `head`.
    public enum Doubt: Sendable {
        /// It has seen a newer one.
        case older(than: Sighting)
        /// It has seen another one with the same number: the vault was sealed in two places.
        case other
    }

    /// Whether a newer seal, or another one of the same number, by one of these keys was seen.
    public func doubt(about head: SealHead, publicKeys: [[UInt8]]) throws(KeysError) -> Doubt? {
        guard let newest = try newest(publicKeys: publicKeys) else { return nil }
        if newest.counter > head.counter { return .older(than: newest) }
        return newest.counter == head.counter && newest.root != Hex.encode(head.root) ? .other : nil
    }

    /// Remembers a genuine seal, unless a newer one was seen.
    ///
    /// - Returns: a warning where it could not be remembered, else nil.
    public func remember(_ head: SealHead) throws(KeysError) -> String? {
        guard let file else {
            return "no home directory and no COFFER_STATE_DIR: an older copy will not be noticed next time"
        }
        let lock = file.lock()
        defer { lock.release() }
        var memory = try file.read()
        let key = SealKey.text(head.publicKey)
        if let known = memory.seals[key], known.counter >= head.counter { return nil }
        memory.seals[key] = Sighting(head)
        do throws(Errno) {
            try lock.requireHeld()
            try file.write(memory)
            return nil
        } catch {
            return "\(file.path) cannot be written (\(error)): an older copy will not be noticed next time"
        }
    }
}
