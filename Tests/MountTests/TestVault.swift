import Glibc
import SystemPackage
import Testing

/// A vault of a test's own, in a temporary directory that also has the passphrase (`key`), the log, the mountpoint (`mnt`) and whatever the test's scripts
/// put there.
final class TestVault: Sendable {
    static let passphrase = "correct horse battery staple"

    /// Where scripts run: they say `vault`, `mnt`, `log`.
    let directory: String
    private let temporary: TemporaryDirectory

    /// Makes a vault with `coffer init`.
    init(_ options: [String] = []) throws {
        temporary = try TemporaryDirectory()
        directory = temporary.path
        try MountTests.shell("echo '\(Self.passphrase)' > key; mkdir mnt", in: directory)
        let cipher = options.contains("--cipher") ? [] : Machine.cipher
        let made = try CofferProgram.run(
            ["init", "--kdf", "interactive", "--passphrase-file", "key"] + cipher + options + ["vault"], in: directory)
        guard made.status == 0 else { throw made }
    }

    /// The path of the vault itself.
    var path: String { directory + "/vault" }

    /// Mounts the vault, or a copy of it in the same directory.
    func mount(_ options: [String] = [], vault: String = "vault", at mountpoint: String = "mnt") throws -> MountedVault
    {
        try MountedVault(vault, at: mountpoint, options: options, in: self)
    }

    /// Runs `coffer` in the test's directory.
    func coffer(_ words: String..., input: String = "") throws -> Outcome {
        try CofferProgram.run(words, in: directory, input: input)
    }

    /// Runs a script in the test's directory and gives what it prints; it must succeed.
    @discardableResult
    func shell(_ script: String, seconds: Double = 120) throws -> String {
        try MountTests.shell(script, in: directory, seconds: seconds)
    }

    /// Runs a script that may fail.
    func tryShell(_ script: String, seconds: Double = 120) throws -> Outcome {
        try MountTests.tryShell(script, in: directory, seconds: seconds)
    }

    /// What the mounts of this vault have written to their log.
    func log() throws -> [String] {
        try shell("touch log; cat log").split(separator: "\n").map(String.init)
    }

    /// The stored name of the only entry that is Coffer's in a directory of the vault, `.` for the root.
    func storedName(in place: String = ".") throws -> String {
        let names = try storedNames(in: place)
        guard names.count == 1 else { throw Unexpected(description: "\(names) in \(place)") }
        return names[0]
    }

    /// The stored names of all entries of a directory of the vault.
    func storedNames(in place: String = ".") throws -> [String] {
        try shell("cd 'vault/\(place)'; ls -A").split(separator: "\n").map(String.init)
            .filter { !$0.hasPrefix("coffer.") || $0.hasPrefix("coffer.long.") && $0.split(separator: ".").count == 3 }
    }
}

/// What a test found instead of what it needs to go on.
struct Unexpected: Error, CustomStringConvertible {
    let description: String
}
