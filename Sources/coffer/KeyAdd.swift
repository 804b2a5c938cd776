import ArgumentParser
import CofferKeys

/// What `coffer key add` adds.
enum NewKeyKind: String, ExpressibleByArgument, CaseIterable {
    case passphrase
    case keyFile = "key-file"
    case recoveryCode = "recovery-code"
    case shares
    case recipient
}

/// `coffer key add`.
struct KeyAdd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Add a slot, so that another secret opens the vault, too.",
        discussion: """
            KIND is one of
              passphrase       asked for twice, or from --new-passphrase-file
              key-file FILE    all of the content of a file of up to 64 MiB. What nobody
                               can guess, such as 32 random bytes, opens the vault at
                               once; text is stretched like a passphrase
              recovery-code    made by coffer and shown once, to be printed and put away
              shares           pieces of a secret, made by coffer and shown once, for
                               several people or places: any --threshold of --count of
                               them open the vault together, and fewer say nothing
              recipient WHO    whoever has the identity: WHO is its public half, as
                               'coffer keygen' prints it, or a file with it

            Examples:
              coffer key add photos recovery-code
              head -c 32 /dev/urandom > /media/usb/key
              coffer key add photos key-file /media/usb/key
              coffer key add --label Ada photos recipient ada.pub
            """)

    @Argument(help: "The vault's directory.")
    var vault: String

    @Argument(help: "What to add.")
    var kind: NewKeyKind

    @Argument(help: "The key file or the recipient.")
    var source: String?

    @Option(
        help: ArgumentHelp(
            "Read the new passphrase from the first line of FILE, or of standard input if FILE is '-'.",
            valueName: "file"))
    var newPassphraseFile: String?

    @Option(help: ArgumentHelp("How many pieces there are to be, with shares (default: 3).", valueName: "n"))
    var count: Int?

    @Option(help: ArgumentHelp("How many of them open the vault (default: 2).", valueName: "k"))
    var threshold: Int?

    @Option(help: "What a guess costs, where guessing is possible.")
    var kdf = KDFChoice.moderate

    @Option(help: ArgumentHelp("Text that tells this slot from others; everybody can read it.", valueName: "text"))
    var label = ""

    @OptionGroup var unlock: UnlockOptions

    func validate() throws {
        guard label.utf8.count <= 1024 else { throw ValidationError("--label is at most 1024 bytes") }
        switch kind {
        case .keyFile: guard source != nil else { throw ValidationError("which key file?") }
        case .recipient: guard source != nil else { throw ValidationError("which recipient?") }
        case .passphrase, .recoveryCode, .shares:
            guard source == nil else { throw ValidationError("a \(kind.rawValue) takes no further argument") }
        }
        guard kind == .shares || count == nil && threshold == nil else {
            throw ValidationError("--count and --threshold go with shares")
        }
        let (threshold, count) = (threshold ?? 2, count ?? 3)
        guard threshold >= 2, threshold <= count, count <= 255 else {
            throw ValidationError("--threshold is 2 to --count, and --count at most 255")
        }
        guard kind == .passphrase || newPassphraseFile == nil else {
            throw ValidationError("--new-passphrase-file goes with passphrase")
        }
    }

    func run() throws {
        var code: RecoveryCode?
        var pieces: [RecoveryShare] = []
        let directory = try VaultDirectory.open(vault)
        let opened = try unlock.open(directory)
        let maker: any SlotMaker
        switch kind {
        case .passphrase:
            maker = NewPassphrase(try NewSecret.passphrase(vault, file: newPassphraseFile), cost: kdf.cost)
        case .keyFile: maker = NewKeyFile(try SecretFile.keyFile(source ?? ""), cost: kdf.cost)
        case .recipient: maker = NewRecipient(try SecretFile.recipient(source ?? ""))
        case .recoveryCode:
            let made = try CommandError.naming(vault) { () throws(KeysError) in try RecoveryCode.random() }
            code = made
            maker = RecoverySlot(made)
        case .shares:
            let (threshold, count) = (threshold ?? 2, count ?? 3)
            let made = try CommandError.naming(vault) { () throws(KeysError) in
                try NewShares(threshold: threshold, count: count)
            }
            pieces = made.shares
            maker = made
        }
        let label = label
        try KeyEditing.change(vault, directory, opened) { changes throws(KeysError) in
            "added slot \(try changes.add(maker, label: label).id)"
        }
        if let code { try NewSecret.show(code, vault) }
        if !pieces.isEmpty { try NewSecret.show(pieces, vault) }
    }
}

/// `coffer key change-passphrase`.
struct ChangePassphrase: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "change-passphrase", abstract: "Put another passphrase in the place of one.",
        discussion: """
            The old one opens the vault no longer, but does open copies of coffer.json that were made before, such as those in backups.
            """)

    @Argument(help: "The vault's directory.")
    var vault: String

    @Option(
        help: ArgumentHelp(
            "The slot, where the old passphrase is not at hand and the vault is unlocked by other means.",
            valueName: "slot"))
    var slot: String?

    @Option(
        help: ArgumentHelp(
            "Read the new passphrase from the first line of FILE, or of standard input if FILE is '-'.",
            valueName: "file"))
    var newPassphraseFile: String?

    @Option(help: "What a guess at the passphrase costs.")
    var kdf = KDFChoice.moderate

    @OptionGroup var unlock: UnlockOptions

    func run() throws {
        let directory = try VaultDirectory.open(vault)
        let opened = try unlock.open(directory)
        let old = try CommandError.naming(vault) { () throws(KeysError) in
            let found = try slot.map { name throws(KeysError) in try KeyChanges.find(name, in: opened.config.slots) }
            guard let old = found ?? opened.openedSlot else { throw .noSuchSlot(slot ?? "") }
            return old
        }
        guard old.type == PassphraseSlot.typeName else {
            throw CommandError(
                .usage, "slot \(old.id) is no passphrase; name one with --slot ('coffer key list' shows them)")
        }
        let new = NewPassphrase(try NewSecret.passphrase(vault, file: newPassphraseFile), cost: kdf.cost)
        try KeyEditing.change(vault, directory, opened) { changes throws(KeysError) in
            let made = try changes.replace(old, with: new)
            return "slot \(made.id) is in the place of \(old.id)"
        }
    }
}

/// Secrets that did not exist before.
enum NewSecret {
    /// A passphrase from a file, or asked for twice.
    static func passphrase(_ vault: String, file: String?) throws(CommandError) -> Passphrase {
        var options = PassphraseOptions()
        options.passphraseFile = file
        options.passphraseCommand = nil
        return try options.readNew(forVault: vault)
    }

    /// Shows a recovery code, this once.
    static func show(_ code: RecoveryCode, _ vault: String) throws(CommandError) {
        try Report.line(
            """

            the recovery code of \(quoted(vault)):

                \(code.text)

            Print it or write it down now: it is not shown again, and it is in no file. Whoever has it can open the vault.
            To open the vault with it: coffer mount --recovery-code \(quoted(vault)) MOUNTPOINT
            """)
    }

    /// Shows pieces, this once.
    static func show(_ pieces: [RecoveryShare], _ vault: String) throws(CommandError) {
        guard let first = pieces.first else { return }
        try Report.line("\nany \(first.threshold) of these \(pieces.count) pieces open \(quoted(vault)) together:")
        for piece in pieces {
            try Report.line(
                "\npiece \(piece.number) of \(pieces.count), set \(piece.setName), \(piece.threshold) are needed:\n\n    \(piece.text)"
            )
        }
        try Report.line(
            """

            Print each or write it down now, and give it away or put it in a place of its own: they are not shown again, and are in no file.
            To open the vault with them: coffer mount --shares \(quoted(vault)) MOUNTPOINT
            """)
    }
}
