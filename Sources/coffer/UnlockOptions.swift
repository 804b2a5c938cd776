import ArgumentParser
import CofferDisk
import CofferFormat
import CofferKeys

/// What every command that opens a vault takes.
struct UnlockOptions: ParsableArguments {
    @OptionGroup var passphrase: PassphraseOptions

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Unlock with a key file: all of FILE's content, or of standard input if FILE is '-'.", valueName: "file"))
    var keyFile: String?

    @Option(
        name: .long, help: ArgumentHelp("Unlock with the identity in FILE; see 'coffer keygen'.", valueName: "file"))
    var identity: String?

    @Flag(name: .long, help: "Unlock with a recovery code, which is asked for.")
    var recoveryCode = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Unlock with the recovery code in FILE, or in standard input if FILE is '-'.", valueName: "file"))
    var recoveryCodeFile: String?

    @Flag(name: .long, help: "Unlock with pieces of a recovery secret, which are asked for.")
    var shares = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Unlock with the piece of a recovery secret in FILE; given as often as pieces are needed.",
            valueName: "file"))
    var shareFile: [String] = []

    @Flag(
        name: .long,
        help: "Go on though the vault is not the one that this machine remembers, and remember it as it is now.")
    var acceptChangedVault = false

    /// Whether the command line says what to unlock with, so that nobody need be asked which.
    var isGiven: Bool {
        ways.contains(true)
    }

    private var ways: [Bool] {
        [
            passphrase.isGiven, keyFile != nil, identity != nil, recoveryCode, recoveryCodeFile != nil, shares,
            !shareFile.isEmpty,
        ]
    }

    func validate() throws {
        guard ways.filter({ $0 }).count <= 1 else {
            throw ValidationError(
                "passphrases, --key-file, --identity, recovery codes and pieces exclude each other: one of them is enough"
            )
        }
    }

    /// Unlocks the vault: reads coffer.json before it asks for anything, so that a wrong directory is told at once.
    /// `given` is to be used in its place.
    func open(
        _ directory: VaultDirectory, file given: ConfigFile? = nil, acceptingOlder: Bool = false
    ) throws(CommandError) -> UnlockedVault {
        let (file, location) = try CommandError.naming(directory.path) { () throws(KeysError) in
            (
                given == nil ? try directory.configStore.load() : given, try VaultOpening.location(of: directory.path)
            )
        }
        let opening = VaultOpening(
            known: .forThisUser, acceptingChange: acceptChangedVault, acceptingOlder: acceptingOlder)
        let (vault, warning) = try open(directory.path) { secret throws(KeysError) in
            guard let file else { throw .notAVault }
            return try opening.open(file, location: location, secret: secret)
        }
        if let warning { Report.warning(warning) }
        return vault
    }

    /// Tries the secret; a passphrase in the form in which it was typed, too, where that is another.
    private func open<Result>(
        _ path: String, _ body: (any SlotType) throws(KeysError) -> Result
    ) throws(CommandError) -> Result {
        guard !isGiven || passphrase.isGiven else {
            let secret = try secret(forVault: path)
            return try CommandError.naming(path) { () throws(KeysError) in try body(secret) }
        }
        let passphrase = try passphrase.read(forVault: path)
        return try CommandError.naming(path) { () throws(KeysError) in
            do throws(KeysError) {
                return try body(PassphraseSlot(passphrase))
            } catch {
                guard case .wrongSecret = error, let typed = passphrase.asTyped else { throw error }
                return try body(PassphraseSlot(typed))
            }
        }
    }

    /// What the vault is unlocked with, but for passphrases.
    private func secret(forVault path: String) throws(CommandError) -> any SlotType {
        if let keyFile { return KeyFileSlot(try SecretFile.keyFile(keyFile)) }
        if let identity { return RecipientSlot(try SecretFile.identity(identity)) }
        if recoveryCode || recoveryCodeFile != nil {
            return RecoverySlot(try SecretFile.recoveryCode(recoveryCodeFile))
        }
        if shares || !shareFile.isEmpty { return try SecretFile.shares(shareFile) }
        return PassphraseSlot(try passphrase.read(forVault: path))
    }
}
