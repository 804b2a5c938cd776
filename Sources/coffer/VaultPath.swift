import CofferVault
import Glibc

/// What `VAULT[:PATH]` on the command line means.
struct VaultPath {
    /// The vault's directory.
    let directory: VaultDirectory
    /// The plaintext path in it; the root where none was given.
    let path: TreePath

    /// An argument that is a directory is a vault; else it is split at the first colon that has a directory before it.
    init(_ argument: String) throws(CommandError) {
        if Self.isDirectory(argument) {
            directory = try VaultDirectory.open(argument)
            path = try Self.path([], argument)
            return
        }
        for colon in argument.utf8.indices where argument.utf8[colon] == UInt8(ascii: ":") {
            let vault = String(argument[..<colon])
            guard Self.isDirectory(vault) else { continue }
            directory = try VaultDirectory.open(vault)
            // By bytes, because a name in the vault may be anything.
            path = try Self.path(RawArgument.bytes(of: argument).dropFirst(vault.utf8.count + 1), argument)
            return
        }
        throw CommandError(
            .notAVault,
            argument.contains(":")
                ? "\(quoted(argument)): there is no directory before any of its colons"
                : "\(quoted(argument)) is not a directory; for something in a vault write VAULT:PATH")
    }

    private static func path(_ bytes: some Sequence<UInt8>, _ argument: String) throws(CommandError) -> TreePath {
        do throws(VaultError) {
            return try TreePath(bytes)
        } catch {
            throw CommandError(.usage, "\(quoted(argument)): a path in a vault has no '..'")
        }
    }

    private static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }
}

/// Arguments as bytes. Text as Swift has it cannot carry what is not UTF-8, which file names may be.
enum RawArgument {
    /// The bytes of the argument that became `text`.
    static func bytes(of text: String) -> [UInt8] {
        for index in 0..<Int(CommandLine.argc) {
            guard let argument = CommandLine.unsafeArgv[index] else { continue }
            if String(cString: argument) == text {
                return Array(UnsafeRawBufferPointer(start: argument, count: strlen(argument)))
            }
        }
        return Array(text.utf8)
    }
}
