import ArgumentParser
import CLinux
import CofferKeys

/// The root command.
struct Coffer: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "coffer",
        abstract: "Keep files encrypted in ordinary files that any program can back up.",
        discussion: """
            A vault is a directory of encrypted files. Mounted, it shows their contents in another directory, where every program \
            works with them as usual. Whatever copies the vault itself makes an encrypted backup; to restore one, copy it back and \
            mount it.

            Examples:
              coffer init photos           make a vault in the directory 'photos'
              coffer mount photos ~/Photos work with it
              coffer unmount ~/Photos      close it
              coffer info photos           show what it is
              coffer extract photos copy   take everything out, without FUSE
              coffer seal photos           sign what it is now
              coffer verify /mnt/photos    tell whether a copy is that

            Files:
              VAULT/coffer.json            the vault's keys, locked; nothing can be
                                           read without it
              VAULT/coffer.json.previous   the version before the last change
              VAULT/coffer.seals           what was signed by 'coffer seal'
              ~/.local/state/coffer/known-vaults.json, known-seals.json
                                           the vaults and seals that this machine has
                                           seen, to notice one that was exchanged or
                                           put back

            Environment:
              COFFER_STATE_DIR             where known-vaults.json is instead; else
                                           XDG_STATE_HOME/coffer where that is set
              COFFER_ASKPASS               a program that asks for passphrases where there is
                                           no terminal; SSH_ASKPASS with a desktop

            Exit status:
            \(ExitStatus.table)
            """,
        version: Version.string,
        groupedSubcommands: [
            // A new command is one more type in one of these groups.
            CommandGroup(name: "Vaults", subcommands: [Init.self, Mount.self, Unmount.self, Info.self, Speed.self]),
            CommandGroup(
                name: "Proving and mending", subcommands: [Seal.self, Verify.self, Check.self, Repair.self]),
            CommandGroup(name: "Keys", subcommands: [Key.self, Keygen.self]),
            CommandGroup(
                name: "Reading without a mount", subcommands: [List.self, Cat.self, Extract.self]),
        ]
    )
}

extension Coffer {
    /// What errors of the command line begin with, as all others do.
    static var _errorLabel: String { "coffer" }

    /// What may stand first on the command line.
    static var commandNames: Set<String> {
        let groups = configuration.groupedSubcommands.flatMap(\.subcommands)
        return Set((configuration.subcommands + groups).map { $0._commandName } + ["help"])
    }

    /// Runs a command line, program name first, and gives the exit status.
    ///
    /// Starts no thread before a command does.
    static func run(arguments: [String]) -> ExitStatus {
        // Whatever goes wrong, no secret is written to a file.
        _ = coffer_forbid_crash_reports()
        do {
            var command = try parseAsRoot(Array(arguments.dropFirst()))
            try command.run()
            return .success
        } catch let error as CommandError {
            Report.failure(error)
            return error.status
        } catch {
            // Help and version arrive here too, as errors that mean success.
            let status: ExitStatus = exitCode(for: error) == .success ? .success : .usage
            Report.usage(fullMessage(for: error), asked: status == .success)
            return status
        }
    }
}
