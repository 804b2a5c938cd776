import ArgumentParser
import CofferDisk
import CofferKeys

/// What every command that opens a vault takes.
struct UnlockOptions: ParsableArguments {
    @OptionGroup var passphrase: PassphraseOptions

    @Flag(
        name: .long,
        help: "Go on though the vault is not the one that this machine remembers, and remember it as it is now.")
    var acceptChangedVault = false

    /// Unlocks the vault: reads coffer.json before it asks for the passphrase, so that a wrong directory is told at
    /// once.
    func open(_ directory: VaultDirectory) throws(CommandError) -> UnlockedVault {
        let (file, location) = try CommandError.naming(directory.path) { () throws(KeysError) in
            (try directory.configStore.load(), try VaultOpening.location(of: directory.path))
        }
        let secret = PassphraseSlot(try passphrase.read(forVault: directory.path))
        let opening = VaultOpening(known: .forThisUser, acceptingChange: acceptChangedVault)
        let (vault, warning) = try CommandError.naming(directory.path) { () throws(KeysError) in
            try opening.open(file, location: location, secret: secret)
        }
        if let warning { Report.warning(warning) }
        return vault
    }
}
