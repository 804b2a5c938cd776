import ArgumentParser
import CofferCrypto
import CofferDisk
import CofferKeys
import Glibc
import SystemPackage

/// `coffer keygen`.
struct Keygen: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make an identity: a key pair that vaults can be opened with.",
        discussion: """
            Writes the identity to FILE, which must not exist, and prints its public half: one long line that can be given to anybody. 'coffer key add VAULT \
            recipient' with it, or 'coffer init --recipient', makes a vault that the identity opens; whoever makes it needs no secret of yours.

            The key is X-Wing (ML-KEM-768 and X25519), so that what is stored today stays closed to quantum computers.

            Examples:
              coffer keygen ~/.config/coffer/identity > me.pub
              coffer keygen --lock /media/safe/identity     with a passphrase
              coffer mount --identity ~/.config/coffer/identity photos ~/Photos
            """)

    @Argument(help: "The file to write the identity to.")
    var file: String

    @Flag(help: "Lock the identity with a passphrase, which is asked for, or comes from --passphrase-file.")
    var lock = false

    @OptionGroup var passphrase: PassphraseOptions

    @Option(help: "What a guess at the passphrase costs.")
    var kdf = KDFChoice.moderate

    func run() throws {
        // Before anybody types a passphrase for nothing.
        guard access(file, F_OK) != 0 else { throw failure(EEXIST) }
        let identity = try CommandError.naming(file) { () throws(KeysError) in try Identity.random() }
        let secret = lock || passphrase.isGiven ? try passphrase.readNew(forVault: file) : nil
        let cost = kdf.cost
        let text = try CommandError.naming(file) { () throws(KeysError) in
            guard let secret else { return identity.text(created: KeyTime.now()) }
            return try identity.text(created: KeyTime.now(), lockedWith: secret, cost: cost)
        }
        try write(text)
        Report.note("identity \(identity.recipient.fingerprint) is in \(quoted(file)); keep it secret, and keep a copy")
        try Report.line(identity.recipient.text)
    }

    private func write(_ text: String) throws(CommandError) {
        let descriptor = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure(errno) }
        defer { close(descriptor) }
        var bytes = Array(text.utf8)
        defer { wipe(&bytes) }
        do throws(Errno) {
            let disk = Disk()
            try disk.write(descriptor, bytes: bytes)
            try disk.sync(descriptor)
            let end = file.lastIndex(of: "/").map { file.index(after: $0) } ?? file.startIndex
            let parent = try disk.open(
                at: AT_FDCWD, end == file.startIndex ? "." : String(file[..<end]), flags: O_RDONLY | O_DIRECTORY)
            defer { disk.close(parent) }
            try disk.syncEntries(parent)
        } catch {
            unlink(file)
            throw failure(error.rawValue)
        }
    }

    private func failure(_ code: Int32) -> CommandError {
        CommandError(.inputOutput, "\(quoted(file)) cannot be written: \(String(cString: strerror(code)))")
    }
}
