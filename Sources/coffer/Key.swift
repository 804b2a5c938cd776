import ArgumentParser
import CofferFormat
import CofferKeys

/// `coffer key`.
struct Key: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List and change what opens a vault.",
        discussion: """
            A vault has slots. Each opens it by another secret: a passphrase, a key file, a recovery code, or somebody's identity (see \
            'coffer keygen'). Any one of them opens everything.

            Removing a slot keeps its secret from opening the vault from now on. It does not take away what it has opened before: whoever had it may \
            have kept the vault's keys, or an older copy of coffer.json, which it opens still. 'coffer key rotate' \
            gives the vault another key, for what is in it from then on.
            """,
        subcommands: [
            KeyList.self, KeyAdd.self, KeyRemove.self, KeyLabel.self, ChangePassphrase.self, KeyCheck.self,
            KeyRotate.self, KeyExportPublic.self,
        ])
}

/// `coffer key list`.
struct KeyList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Show what opens a vault.",
        discussion: """
            Without a secret this is what coffer.json says, which anybody with access to the vault may have changed; 'coffer info --verify' checks it.
            """)

    @Argument(help: "The vault's directory.")
    var vault: String

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let directory = try VaultDirectory.open(vault)
        let file = try CommandError.naming(vault) { () throws(KeysError) in try directory.configStore.load() }
        let slots = file.unverified.slots.map { InfoReport.Slot($0) }
        try Report.line(json ? try JSONText.pretty(slots) : slots.map(\.text).joined(separator: "\n"))
    }
}

/// `coffer key label`.
struct KeyLabel: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "label", abstract: "Give a slot a name that tells it from others; everybody can read it.")

    @Argument(help: "The vault's directory.")
    var vault: String

    @Argument(help: "The slot: its id, the first digits of it, or its label.")
    var slot: String

    @Argument(help: "The new label; '' for none.")
    var text: String

    @OptionGroup var unlock: UnlockOptions

    func validate() throws {
        guard text.utf8.count <= 1024 else { throw ValidationError("a label is at most 1024 bytes") }
    }

    func run() throws {
        try KeyEditing.run(vault, unlock) { changes throws(KeysError) in
            let found = try KeyChanges.find(slot, in: changes.vault.config.slots)
            try changes.label(found, text)
            return "labelled slot \(found.id)"
        }
    }
}

/// `coffer key remove`.
struct KeyRemove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Remove a slot, so that its secret opens the vault no longer.",
        discussion: """
            What was opened before with its secret is not taken back: whoever had it may have kept the vault's keys, and it opens every copy of coffer.json \
            that was made before, such as those in backups. coffer.json.previous in the vault is brought up to date.

            The last slot that could be used is not removed without --force.
            """)

    @Argument(help: "The vault's directory.")
    var vault: String

    @Argument(help: "The slot: its id, the first digits of it, or its label.")
    var slot: String

    @Flag(help: "Remove it though no other slot could be used with this version.")
    var force = false

    @OptionGroup var unlock: UnlockOptions

    func run() throws {
        try KeyEditing.run(vault, unlock) { changes throws(KeysError) in
            let found = try KeyChanges.find(slot, in: changes.vault.config.slots)
            try changes.remove(found, evenIfLast: force)
            return "removed slot \(found.id); older copies of coffer.json still have it"
        }
    }
}

/// `coffer key check`.
struct KeyCheck: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Say whether a secret opens a vault, and which slot; nothing is mounted.",
        discussion: "Exit status 0 means that it does, 4 that it does not.")

    @Argument(help: "The vault's directory.")
    var vault: String

    @OptionGroup var unlock: UnlockOptions

    func run() throws {
        let directory = try VaultDirectory.open(vault)
        let opened = try unlock.open(directory)
        guard let slot = opened.openedSlot else { throw CommandError(.other, "\(quoted(vault)): no slot was opened") }
        try Report.line("opens slot \(InfoReport.Slot(slot).text)")
    }
}

/// What all changes of slots do.
enum KeyEditing {
    /// Opens the vault, changes it by `body`, remembers it, and reports what `body` says.
    static func run(
        _ vault: String, _ unlock: UnlockOptions, _ body: (inout KeyChanges) throws(KeysError) -> String
    ) throws(CommandError) {
        let directory = try VaultDirectory.open(vault)
        try change(vault, directory, try unlock.open(directory), body)
    }

    /// As above, for a vault that is open.
    static func change(
        _ vault: String, _ directory: VaultDirectory, _ opened: UnlockedVault,
        _ body: (inout KeyChanges) throws(KeysError) -> String
    ) throws(CommandError) {
        var changes = KeyChanges(directory.configStore, opened)
        let text = try CommandError.naming(vault) { () throws(KeysError) in try body(&changes) }
        remember(changes.vault, vault)
        try Report.line(text)
    }

    /// The change is made by now, so what goes wrong here is no failure.
    static func remember(_ vault: UnlockedVault, _ path: String) {
        do throws(KeysError) {
            let sighting = vault.sighting(at: try VaultOpening.location(of: path))
            if let warning = try KnownVaults.forThisUser.meet(sighting, acceptingChange: false) {
                Report.warning(warning)
            }
        } catch {
            Report.warning(error.description)
        }
    }
}
