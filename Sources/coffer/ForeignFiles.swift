import CofferKeys

/// Entries of a vault's directories that are none of Coffer's: left out of listings, and told by `info`.
enum ForeignFiles {
    /// How many there are, or nil where they were not counted.
    static func count(in vault: UnlockedVault, _ directory: VaultDirectory) throws(CommandError) -> Int? {
        nil
    }
}
