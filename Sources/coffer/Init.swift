import ArgumentParser
import CofferFormat
import CofferKeys

/// `coffer init`.
struct Init: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a new, empty vault.",
        discussion: """
            VAULT is an empty directory, or a new one that is made. The passphrase is asked for on the terminal, twice.

            The passphrase is the only way in. Without it, or without the file coffer.json, what the vault holds is lost for good.

            A guess at the passphrase costs whoever tries what --kdf says: interactive 64 MiB of memory and a fraction of a second, \
            moderate 256 MiB, sensitive 1 GiB and several seconds. So does each mount.

            --name-max is for places that do not take names of 255 bytes; longer names are then stored in pieces. It cannot be \
            changed later.

            Examples:
              coffer init photos
              coffer init --cipher chacha20-poly1305 photos   no AES instructions
              coffer init --name-max 143 /mnt/nas/photos      eCryptfs on a NAS
              coffer init --passphrase-command 'pass show photos' photos
            """)

    @Argument(help: "The directory to make the vault in.")
    var vault: String

    @Option(help: "What file contents are encrypted with.")
    var cipher = CipherChoice.aes256GCM

    @Option(help: ArgumentHelp("The longest stored name in bytes, 64 to 255.", valueName: "bytes"))
    var nameMax = VaultConfig.nameMaxRange.upperBound

    @Option(help: "What a guess at the passphrase costs.")
    var kdf = KDFChoice.moderate

    @Option(
        help: ArgumentHelp("Text that tells this passphrase from others; everybody can read it.", valueName: "text"))
    var label = ""

    @OptionGroup var passphrase: PassphraseOptions

    func validate() throws {
        guard VaultConfig.nameMaxRange.contains(nameMax) else {
            throw ValidationError("--name-max is 64 to 255, not \(nameMax)")
        }
        guard label.utf8.count <= 1024 else { throw ValidationError("--label is at most 1024 bytes") }
    }

    func run() throws {
        let existing = try VaultDirectory.openIfThere(vault)
        // Before anybody types a passphrase for nothing.
        if let existing {
            try CommandError.naming(vault) { () throws(KeysError) in try existing.configStore.requireNothing() }
        }
        let passphrase = try passphrase.readNew(forVault: vault)
        var creation = VaultCreation()
        creation.cipher = cipher.suite
        creation.nameMax = nameMax
        creation.cost = kdf.cost
        creation.label = label
        let made = try CommandError.naming(vault) { () throws(KeysError) in try creation.make(passphrase: passphrase) }
        let directory = try existing ?? VaultDirectory.make(vault)
        try CommandError.naming(vault) { () throws(KeysError) in try directory.configStore.create(made.file) }
        remember(made)
        try Report.line(
            """
            made vault \(quoted(vault)), id \(Hex.encode(made.config.vaultID)), \(cipher.rawValue)
            the passphrase is the only way in: without it what the vault holds is lost for good, and nobody can help
            the same is true of coffer.json in the vault: every backup must include it
            now mount it: coffer mount \(quoted(vault)) MOUNTPOINT
            """)
    }

    // The vault is made by now, so what goes wrong here is no failure.
    private func remember(_ made: UnlockedVault) {
        do throws(KeysError) {
            let sighting = made.sighting(at: try VaultOpening.location(of: vault))
            // Whatever was here before, a vault was made here knowingly.
            let warning = try KnownVaults.forThisUser.meet(sighting, acceptingChange: true)
            if let warning { Report.warning(warning) }
        } catch {
            Report.warning(error.description)
        }
    }
}
