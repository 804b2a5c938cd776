import CofferKeys
import SystemPackage

/// A failure as the person sees it: one line in lower case that says what happened and what to do, and the exit status.
struct CommandError: Error, CustomStringConvertible {
    let status: ExitStatus
    let description: String

    init(_ status: ExitStatus, _ description: String) {
        self.status = status
        self.description = description
    }

    /// A failure with the vault at `path`, as the person wrote it.
    init(_ error: KeysError, vault path: String) {
        let name = quoted(path)
        switch error {
        case .wrongSecret("passphrase"):
            self.init(.wrongPassphrase, "wrong passphrase for \(name); try again, minding upper and lower case")
        case .wrongSecret(let type):
            let names = [
                "keyfile": "key file", "recovery": "recovery code", "recipient": "identity", "shares": "pieces",
            ]
            self.init(
                .wrongPassphrase,
                "wrong \(names[type] ?? type) for \(name): \(type == "shares" ? "they open" : "it opens") none of its slots"
            )
        case .notAVault:
            self.init(.notAVault, "\(name) is not a vault: it has no coffer.json; make one with 'coffer init'")
        case .onlyOtherConfig: self.init(.notAVault, "\(name): \(error)")
        case .alreadyAVault: self.init(.notEmpty, "\(name) is already a vault; nothing was changed")
        case .notEmpty: self.init(.notEmpty, "\(name) is \(error)")
        case .changedMeanwhile: self.init(.busy, "\(name): \(error)")
        case .config(.newerFormat):
            self.init(.newerFormat, "\(name): \(error); use a newer version of coffer")
        case .config(.outOfMemory), .outOfMemory: self.init(.other, "\(name): \(error)")
        case .config:
            self.init(
                .damagedConfig,
                "\(name): \(error); coffer.json.previous or a copy of the vault may hold a good one")
        case .noSlot: self.init(.wrongPassphrase, "\(name): \(error)")
        case .emptyPassphrase, .emptyKeyFile: self.init(.noPassphrase, "\(error); nothing was done")
        case .mistypedCode, .unusableShare: self.init(.wrongPassphrase, "\(error)")
        case .badRecipient, .badIdentity: self.init(.noPassphrase, "\(error)")
        case .noSuchSlot, .lastSlot, .tooManySlots, .unrenewable, .noEpochLeft:
            self.init(.other, "\(name): \(error); nothing was changed")
        case .system: self.init(.inputOutput, "\(name): \(error)")
        case .vaultChanged:
            self.init(
                .vaultChanged,
                "\(name): \(error); if you know why, accept it with --accept-changed-vault, else do not use it")
        case .damagedMemory: self.init(.damagedMemory, "\(error)")
        }
    }

    /// A system call that failed on the vault at `path`.
    init(_ error: Errno, _ deed: String, vault path: String) {
        self.init(.inputOutput, "\(quoted(path)): cannot \(deed): \(error)")
    }
}

extension CommandError {
    /// Runs `body` and names the vault at `path`, as the person wrote it, in what it throws.
    static func naming<Result>(
        _ path: String, _ body: () throws(KeysError) -> Result
    ) throws(CommandError) -> Result {
        do {
            return try body()
        } catch {
            throw CommandError(error, vault: path)
        }
    }
}

/// A name between quotes, with whatever could steer a terminal made visible.
func quoted(_ name: String) -> String {
    "'" + printable(name) + "'"
}

/// A text from a file, with whatever could steer a terminal made visible.
func printable(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
        if scalar.properties.generalCategory == .control || scalar.properties.generalCategory == .format {
            result += "\\u{\(String(scalar.value, radix: 16))}"
        } else {
            result.unicodeScalars.append(scalar)
        }
    }
    return result
}
