/// The contents of the memory file.
struct VaultMemory: Memory, Equatable, Sendable {
    static let currentVersion = 1

    /// What is known of one vault.
    struct Vault: Codable, Equatable, Sendable {
        /// By epoch, in decimal.
        var fingerprints: [String: String]
        /// The highest that was seen.
        var counter: UInt64
    }

    /// The layout of this file.
    var version = currentVersion
    /// By vault id.
    var vaults: [String: Vault] = [:]
    /// Which vault an absolute real path held.
    var locations: [String: String] = [:]

    /// How a sighting differs from what is remembered, the gravest difference first; nil where it agrees or is new.
    func change(to sighting: KnownVaults.Sighting) -> VaultChange? {
        if let known = vaults[sighting.vaultID] {
            // A rotation adds an epoch and later drops an old one, so epochs that only one side has say nothing. Where
            // the sides share none, nothing shows that it is the same vault.
            let shared = sighting.fingerprints.filter { known.fingerprints[String($0.key)] != nil }
            let agree = shared.allSatisfy { known.fingerprints[String($0.key)] == $0.value }
            // The newest that was seen must be there: whoever has the keys of before a rotation could else undo it.
            let newest = known.fingerprints.keys.compactMap { UInt8($0) }.max()
            let hasNewest = newest.map { sighting.fingerprints[$0] != nil } ?? true
            if shared.isEmpty || !agree || !hasNewest { return .keys(vaultID: sighting.vaultID) }
        }
        if let knownID = locations[sighting.location], knownID != sighting.vaultID {
            return .vault(location: sighting.location, knownID: knownID, foundID: sighting.vaultID)
        }
        if let known = vaults[sighting.vaultID], sighting.counter < known.counter {
            return .older(knownCounter: known.counter, foundCounter: sighting.counter)
        }
        return nil
    }

    /// Takes a sighting in; `replacing` forgets what the vault's id stood for before.
    mutating func remember(_ sighting: KnownVaults.Sighting, replacing: Bool) {
        let found = Dictionary(
            uniqueKeysWithValues: sighting.fingerprints.map { (String($0.key), $0.value) })
        var vault = replacing ? nil : vaults[sighting.vaultID]
        // Dropped epochs stay known: a copy from before the rotation must not bring other keys in under an old epoch's
        // number.
        vault?.fingerprints.merge(found) { _, new in new }
        vault?.counter = sighting.counter
        vaults[sighting.vaultID] = vault ?? Vault(fingerprints: found, counter: sighting.counter)
        locations[sighting.location] = sighting.vaultID
    }
}
