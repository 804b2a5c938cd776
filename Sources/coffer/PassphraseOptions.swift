import ArgumentParser
import CofferCrypto
import CofferKeys
import Glibc

/// Where the passphrase comes from: never from an argument or the environment, which other programs can read.
struct PassphraseOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Read the passphrase from the first line of FILE, or of standard input if FILE is '-'.", valueName: "file"))
    var passphraseFile: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Run CMD with 'sh -c' and take the first line that it prints as the passphrase.", valueName: "cmd"))
    var passphraseCommand: String?

    /// Whether the command line says where the passphrase is, so that nobody need be asked.
    var isGiven: Bool { passphraseFile != nil || passphraseCommand != nil }

    func validate() throws {
        if passphraseFile != nil && passphraseCommand != nil {
            throw ValidationError("--passphrase-file and --passphrase-command exclude each other")
        }
    }

    /// The passphrase of an existing vault.
    func read(forVault path: String) throws(CommandError) -> Passphrase {
        if let given = try readGiven() { return given }
        return try Terminal.askSecret("passphrase for \(quoted(path)): ")
    }

    /// A new passphrase, asked for twice where a person types it.
    func readNew(forVault path: String) throws(CommandError) -> Passphrase {
        if let given = try readGiven() { return given }
        let first = try Terminal.askSecret("new passphrase for \(quoted(path)): ")
        let second = try Terminal.askSecret("the same again: ")
        guard first.isEqual(to: second) else {
            throw CommandError(.noPassphrase, "the two passphrases differ; nothing was done, try again")
        }
        return first
    }

    // Nil where the command line does not say where the passphrase is.
    private func readGiven() throws(CommandError) -> Passphrase? {
        if let file = passphraseFile { return try Self.firstLine(ofFile: file) }
        if let command = passphraseCommand { return try PassphraseCommand.run(command) }
        return nil
    }

    private static func firstLine(ofFile path: String) throws(CommandError) -> Passphrase? {
        if path == "-" { return try SecretLine.read(STDIN_FILENO) }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw CommandError(
                .noPassphrase, "passphrase file \(quoted(path)) cannot be opened: \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        return try SecretLine.read(descriptor)
    }
}
