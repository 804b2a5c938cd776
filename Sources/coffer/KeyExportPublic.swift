import ArgumentParser
import CofferCrypto
import CofferFormat
import CofferKeys

/// `coffer key export-public`.
struct KeyExportPublic: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export-public", abstract: "Print the public key by which the vault's seals are verified.",
        discussion: """
            Whoever has it can tell whether a copy of the vault is one that was sealed, and cannot read a byte of it. It is another one after the vault's key was rotated.

            Example:
              coffer key export-public photos > photos.pub
            """)

    @Argument(help: "The vault's directory.")
    var vault: String

    @OptionGroup var unlock: UnlockOptions

    func run() throws {
        let opened = try unlock.open(try VaultDirectory.open(vault))
        let key = try CommandError.memory { () throws(CryptoError) in try SealKey.signing(opened.ring) }
        try Report.line(
            """
            # verifies the seals of the vault with the id \(Hex.encode(opened.config.vaultID)), key \(opened.ring.newest)
            \(SealKey.text(key.publicKey))
            """)
    }
}
