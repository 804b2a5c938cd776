import Glibc
import Testing

/// A mount that cannot be had: one clear line, a documented exit code, nothing mounted and nothing changed.
@Suite(.mounts) struct MountErrorTests {
    private let vault: TestVault
    private let before: String

    init() throws {
        vault = try TestVault()
        before = try vault.shell("cat vault/coffer.json")
    }

    private func expectRefusal(
        _ status: Int32, _ text: String, _ words: [String], sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let outcome = try CofferProgram.run(["mount", "--log-file", "log"] + words, in: vault.directory)
        #expect(outcome.status == status, "\(outcome)", sourceLocation: sourceLocation)
        #expect(outcome.errors.contains(text), "\(outcome)", sourceLocation: sourceLocation)
        #expect(outcome.errors.hasPrefix("coffer: "), sourceLocation: sourceLocation)
        #expect(outcome.output == "", sourceLocation: sourceLocation)
        #expect(try vault.shell("mount").contains(vault.directory) == false, sourceLocation: sourceLocation)
        #expect(try vault.shell("cat vault/coffer.json") == before, sourceLocation: sourceLocation)
    }

    @Test func aWrongPassphrase() throws {
        try vault.shell("echo wrong > wrong; : > empty")
        try expectRefusal(4, "wrong passphrase", ["--passphrase-file", "wrong", "vault", "mnt"])
        try expectRefusal(12, "empty", ["--passphrase-file", "empty", "vault", "mnt"])
        try expectRefusal(12, "none", ["--passphrase-file", "none", "vault", "mnt"])
        try expectRefusal(12, "failed", ["--passphrase-command", "false", "vault", "mnt"])
        let mount = try vault.mount()
        try mount.unmount()
    }

    @Test func noTerminalToAskOn() throws {
        let outcome = try vault.tryShell(
            "env -u INVOCATION_ID -u COFFER_ASKPASS -u SSH_ASKPASS setsid '\(CofferProgram.path ?? "")' mount vault mnt < /dev/null"
        )
        #expect(outcome.status == 12 && outcome.errors.contains("--passphrase-file"), "\(outcome)")
    }

    @Test func whatIsNoVault() throws {
        try vault.shell("mkdir plain; echo x > file")
        try expectRefusal(3, "'plain' is not a vault", ["--passphrase-file", "key", "plain", "mnt"])
        try expectRefusal(3, "'none' does not exist", ["--passphrase-file", "key", "none", "mnt"])
        try expectRefusal(3, "'file' is not a directory", ["--passphrase-file", "key", "file", "mnt"])
    }

    @Test func aNewerFormat() throws {
        try vault.shell("cp -r vault newer; sed -i 's/\"format\": 1/\"format\": 2/' newer/coffer.json")
        try expectRefusal(6, "newer version of coffer", ["--passphrase-file", "key", "newer", "mnt"])
    }

    @Test func mountpointsThatCannotBeUsed() throws {
        try vault.shell("mkdir full vault/inside; echo x > full/x; echo x > file; ln -s vault/inside link")
        for (place, text) in [
            ("none", "mkdir"), ("full", "not empty"), ("file", "not a directory"), ("vault", "not empty"),
            ("vault/inside", "inside the vault"), ("link", "inside the vault"),
        ] {
            try expectRefusal(9, text, ["--passphrase-file", "key", "vault", place])
        }
    }

    @Test(.root, .programs("unshare")) func noFUSE() throws {
        let binary = CofferProgram.path ?? ""
        let mount = "COFFER_STATE_DIR=state '\(binary)' mount --log-file log --passphrase-file key vault mnt"
        let without = try vault.tryShell("unshare -m bash -c \"mount -t tmpfs none /dev; \(mount)\"")
        #expect(without.status == 10, "\(without)")
        #expect(without.errors.hasPrefix("coffer: there is no /dev/fuse"))
        let broken = try vault.tryShell("unshare -m bash -c \"mount --bind /dev/null /dev/fuse; \(mount)\"")
        #expect(broken.status == 10, "\(broken)")
        #expect(broken.errors.contains("could not be mounted"))
        #expect(!isMounted(vault.directory + "/mnt"))
    }

    @Test func aSecondWriterIsRefused() throws {
        try vault.shell("mkdir second third")
        let writer = try vault.mount()
        for options in [[], ["--read-only"]] {
            let outcome = try CofferProgram.run(
                ["mount", "--passphrase-file", "key"] + options + ["vault", "second"], in: vault.directory)
            #expect(outcome.status == 8, "\(outcome)")
        }
        try writer.unmount()
        let reader = try vault.mount(["--read-only"])
        let another = try vault.mount(["--read-only"], at: "second")
        let outcome = try CofferProgram.run(
            ["mount", "--passphrase-file", "key", "vault", "third"], in: vault.directory)
        #expect(outcome.status == 8, "\(outcome)")
        try reader.unmount()
        try another.unmount()
        try vault.mount().unmount()
    }

    @Test func anotherVaultInItsPlace() throws {
        try vault.mount().unmount()
        try vault.shell("mv vault gone")
        let made = try CofferProgram.run(
            ["init", "--kdf", "interactive", "--passphrase-file", "key", "other"], in: vault.directory)
        #expect(made.status == 0)
        try vault.shell("mv other vault")
        let refused = try vault.coffer("mount", "--passphrase-file", "key", "vault", "mnt")
        #expect(refused.status == 7 && refused.errors.contains("--accept-changed-vault"), "\(refused)")
        let accepted = try vault.mount(["--accept-changed-vault"])
        try accepted.unmount()
        try vault.mount().unmount()
    }

    @Test func aMemoryThatIsDamaged() throws {
        try vault.mount().unmount()
        try vault.shell("echo '{' > state/known-vaults.json")
        try expectRefusal(14, "known-vaults.json", ["--passphrase-file", "key", "vault", "mnt"])
    }

    @Test(arguments: [
        ["mount"], ["mount", "vault"], ["mount", "--no-such-option", "vault", "mnt"],
        ["mount", "-o", "nonsense", "vault", "mnt"],
        ["mount", "--idle", "soon", "vault", "mnt"], ["mount", "--idle", "0", "vault", "mnt"],
        ["mount", "--passphrase-file", "a", "--passphrase-command", "b", "vault", "mnt"], ["frobnicate"], ["unmount"],
    ])
    func wrongCommandLines(_ words: [String]) throws {
        let outcome = try CofferProgram.run(words, in: vault.directory)
        #expect(outcome.status == 2, "\(outcome)")
        #expect(outcome.output == "" && outcome.errors.contains("coffer"))
    }
}
