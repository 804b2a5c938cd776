import CofferKeys
import CofferVault

/// What a vault's directories hold besides entries that can be read: left out of listings or unreadable there, and told by `info`.
enum ForeignFiles {
    /// Counts them through the whole vault.
    static func count(in vault: UnlockedVault, _ directory: VaultDirectory) throws(CommandError) -> TreeCensus {
        let tree = Tree(try vault.content(of: directory))
        return try CommandError.reading([], vault: directory.path) { () throws(VaultError) in
            try TreeCensus(of: tree)
        }
    }
}
