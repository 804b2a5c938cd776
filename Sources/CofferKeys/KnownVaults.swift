import Glibc
import SystemPackage

/// What this machine remembers of the vaults it has opened: each vault's keys and counter by its id, and which vault a
/// place held.
///
/// A vault's owner cannot see from the vault alone that it was replaced as a whole or put back to an older version; a
/// machine that remembers can. As with ssh's known hosts, the first sight of a vault is believed.
public struct KnownVaults: Sendable {
    /// A vault as it was found: its configuration has verified.
    public struct Sighting: Equatable, Sendable {
        /// 32 hexadecimal digits.
        public let vaultID: String
        /// What stands for each vault key, by epoch.
        public let fingerprints: [UInt8: String]
        /// The configuration's counter.
        public let counter: UInt64
        /// The vault's absolute real path.
        public let location: String

        /// A sighting.
        public init(vaultID: String, fingerprints: [UInt8: String], counter: UInt64, location: String) {
            self.vaultID = vaultID
            self.fingerprints = fingerprints
            self.counter = counter
            self.location = location
        }
    }

    // Nil where there is no place to remember in.
    private let file: MemoryFile<VaultMemory>?
    /// The directory that it is in; nil for none.
    public let stateDirectory: String?

    /// The memory in `stateDirectory`, which is made when there is something to remember; nil for none.
    public init(stateDirectory: String?) {
        self.stateDirectory = stateDirectory
        file = stateDirectory.map { MemoryFile(directory: $0, name: "known-vaults") }
    }

    /// The memory where `COFFER_STATE_DIR`, else `$XDG_STATE_HOME/coffer`, else `~/.local/state/coffer` says.
    public static func standard(environment: [String: String]) -> KnownVaults {
        // The base directory specification has relative paths ignored.
        func absolute(_ name: String) -> String? { environment[name].flatMap { $0.hasPrefix("/") ? $0 : nil } }
        if let directory = environment["COFFER_STATE_DIR"], !directory.isEmpty {
            return KnownVaults(stateDirectory: directory)
        }
        if let base = absolute("XDG_STATE_HOME") { return KnownVaults(stateDirectory: base + "/coffer") }
        return KnownVaults(stateDirectory: absolute("HOME").map { $0 + "/.local/state/coffer" })
    }

    /// Compares what was found with what is remembered, and remembers it.
    ///
    /// - Parameters:
    ///   - sighting: what was found.
    ///   - acceptingChange: the person knows why the vault differs; what is found replaces what was remembered.
    /// - Returns: a warning where it could not be remembered, else nil.
    /// - Throws: `vaultChanged`, or `damagedMemory` where the memory cannot be read.
    public func meet(_ sighting: Sighting, acceptingChange: Bool) throws(KeysError) -> String? {
        guard let file else {
            return "no home directory and no COFFER_STATE_DIR: this vault will not be recognised next time"
        }
        // Without a lock nothing can be written either, but what is remembered still counts.
        let lock = file.lock()
        defer { lock.release() }
        var memory = try file.read()
        let before = memory
        if !acceptingChange, let change = memory.change(to: sighting) { throw .vaultChanged(change) }
        memory.remember(sighting, replacing: acceptingChange)
        guard memory != before else { return nil }
        do {
            try lock.requireHeld()
            try file.write(memory)
            return nil
        } catch {
            return "\(file.path) cannot be written (\(error)): this vault will not be recognised next time"
        }
    }
}
