import ArgumentParser
import CofferFormat
import CofferKeys

/// `coffer init`.
struct Init: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a new, empty vault.",
        discussion: """
            VAULT is an empty directory, or a new one that is made. The passphrase is asked for on the terminal, twice. With --key-file or --recipient there is none, \
            unless --passphrase-file or --passphrase-command gives one.

            Without anything that opens the vault, or without the file coffer.json, what the vault holds is lost for good. So have more than one way in: with \
            --recovery-code a code is made and shown once, to be printed and put away. 'coffer key' lists, adds and removes ways in.

            A guess at the passphrase costs whoever tries what --kdf says: interactive 64 MiB of memory and a fraction of a second, \
            moderate 256 MiB, sensitive 1 GiB and several seconds. So does each mount.

            --name-max is for places that do not take names of 255 bytes; longer names are then stored in pieces. It cannot be \
            changed later.

            Examples:
              coffer init photos
              coffer init --cipher chacha20-poly1305 photos   no AES instructions ('coffer speed' tells)
              coffer init --name-max 143 /mnt/nas/photos      eCryptfs on a NAS
              coffer init --passphrase-command 'pass show photos' photos
              coffer init --recovery-code photos              and a code to print
              coffer init --recipient ada.pub --recipient bob.pub photos
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

    @Flag(help: "Make a recovery code, too, and show it once.")
    var recoveryCode = false

    @Option(
        help: ArgumentHelp(
            "Let all of FILE's content open the vault, or of standard input if FILE is '-'.", valueName: "file"))
    var keyFile: String?

    @Option(
        help: ArgumentHelp(
            "Let an identity open the vault: its public half or a file with it; may be given more than once.",
            valueName: "who"))
    var recipient: [String] = []

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
        let (makers, code) = try ways()
        var creation = VaultCreation()
        creation.cipher = cipher.suite
        creation.nameMax = nameMax
        let made = try CommandError.naming(vault) { () throws(KeysError) in try creation.make(makers) }
        let directory = try existing ?? VaultDirectory.make(vault)
        try CommandError.naming(vault) { () throws(KeysError) in try directory.configStore.create(made.file) }
        remember(made)
        try Report.line(
            """
            made vault \(quoted(vault)), id \(Hex.encode(made.config.vaultID)), \(cipher.rawValue)
            it is opened by \(Self.listed(made.config.slots)): without \(made.config.slots.count == 1 ? "that" : "one of them") what it holds is lost for good, and nobody can help
            the same is true of coffer.json in the vault: every backup must include it
            \(code == nil && made.config.slots.count == 1 ? Self.advice(vault) : "")now mount it: coffer mount \(quoted(vault)) MOUNTPOINT
            """)
        if let code { try NewSecret.show(code, vault) }
    }

    /// What is to open the vault, and the recovery code that is to be shown.
    private func ways() throws(CommandError) -> ([(maker: any SlotMaker, label: String)], RecoveryCode?) {
        var makers: [(maker: any SlotMaker, label: String)] = []
        if passphrase.isGiven || keyFile == nil && recipient.isEmpty {
            makers.append((NewPassphrase(try passphrase.readNew(forVault: vault), cost: kdf.cost), label))
        }
        if let keyFile { makers.append((NewKeyFile(try SecretFile.keyFile(keyFile), cost: kdf.cost), label)) }
        for who in recipient { makers.append((NewRecipient(try SecretFile.recipient(who)), label)) }
        guard recoveryCode else { return (makers, nil) }
        let code = try CommandError.naming(vault) { () throws(KeysError) in try RecoveryCode.random() }
        makers.append((RecoverySlot(code), "recovery"))
        return (makers, code)
    }

    private static func listed(_ slots: [KeySlot]) -> String {
        let names = slots.map { slot in
            switch slot.type {
            case PassphraseSlot.typeName: "the passphrase"
            case KeyFileSlot.typeName: "the key file"
            case RecoverySlot.typeName: "the recovery code"
            default: "identity \(RecipientSlot.recipient(of: slot)?.fingerprint ?? slot.id)"
            }
        }
        return names.count < 2
            ? names.joined() : names.dropLast().joined(separator: ", ") + " or \(names[names.count - 1])"
    }

    private static func advice(_ vault: String) -> String {
        "have a second way in: coffer key add \(quoted(vault)) recovery-code   (a code to print and put away)\n"
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
