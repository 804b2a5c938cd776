import Foundation
import Testing

/// Vaults that an earlier version made, one with each cipher: every later one reads all that is in them, by every secret, and so does the decoder that shares no code with it.
@Suite(.mounts, .programs("python3", "tar", "xz"))
struct FrozenVaultTests {
    static let ciphers = ["aes-256-gcm", "chacha20-poly1305"]
    private static let top = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    private static let frozen = top.appendingPathComponent("Tests/Frozen").path

    private let vault: TestVault

    init() throws {
        vault = try TestVault()
    }

    /// What opens it, each as the decoder takes it, too.
    private static let ways = [
        "--key-file secrets/key-file", "--passphrase-file secrets/passphrase", "--identity secrets/identity",
        "--recovery-code-file secrets/recovery-code", "--share-file secrets/share-2 --share-file secrets/share-0",
    ]

    private func unpack(_ cipher: String) throws {
        try vault.shell(
            "mkdir frozen; tar --xattrs --xattrs-include='user.*' -C frozen -xf '\(Self.frozen)/format-1-\(cipher).tar.xz'"
        )
    }

    private func compare(_ directory: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let differences = try vault.tryShell(
            "python3 '\(Self.frozen)/manifest.py' frozen/\(directory) frozen/manifest.json")
        #expect(differences.status == 0, "\(differences)", sourceLocation: sourceLocation)
    }

    private func coffer(_ words: String) throws -> Outcome {
        try CofferProgram.run(words.split(separator: " ").map(String.init), in: vault.directory + "/frozen")
    }

    @Test(arguments: ciphers) func everySecretBringsEverythingBack(cipher: String) throws {
        try unpack(cipher)
        for (number, way) in Self.ways.enumerated() {
            let outcome = try coffer("extract \(way) vault out\(number)")
            #expect(outcome.status == 0, "\(outcome)")
            try compare("out\(number)")
        }
        #expect(try coffer("check --key-file secrets/key-file vault").status == 0)
    }

    @Test(arguments: ciphers) func aMountShowsItAndChangesIt(cipher: String) throws {
        try unpack(cipher)
        try vault.shell("cp -a frozen/secrets/key-file k")
        let mount = try MountedVault(
            "frozen/vault", at: "mnt", options: ["--key-file", "k"], in: vault, unlockedBy: [])
        try compare("../mnt")
        try vault.shell(
            "cd mnt; echo more >> size-4096; mv moved elsewhere; rm size-1; mkdir new; echo new > new/file; ls -R > /dev/null"
        )
        try mount.unmount()
        #expect(try coffer("cat --recovery-code-file secrets/recovery-code vault:elsewhere/b/c/text").output == "third")
        #expect(try vault.log() == [])
    }

    @Test(arguments: ciphers) func theDecoderReadsIt(cipher: String) throws {
        let python = Self.top.appendingPathComponent(".build/python/bin/python").path
        guard FileManager.default.isExecutableFile(atPath: python) else {
            print("skipped: no Python with PyNaCl and cryptography in .build/python; Tools/test makes one")
            return
        }
        try unpack(cipher)
        let decoder = Self.top.appendingPathComponent("Tools/decode/coffer_decode.py").path
        for (number, way) in Self.ways.enumerated() {
            let outcome = try vault.tryShell(
                "cd frozen; '\(python)' '\(decoder)' \(way) extract vault decoded\(number)")
            #expect(outcome.status == 0, "\(outcome)")
            try compare("decoded\(number)")
        }
    }

    /// A vault that was sealed twice: verified with a secret, with the public key alone, by the anchor of its first seal, and by the verifier that shares no code.
    @Test func itsSealsAreVerified() throws {
        try unpack("seals")
        for way in [
            "--key-file key-file", "--public-key public",
            "--public-key public --strict --anchor \(try vault.shell("cat frozen/anchor"))",
        ] {
            let outcome = try coffer("verify \(way) vault")
            #expect(outcome.status == 0 && outcome.output.contains("seal 2 of"), "\(outcome)")
        }
        let python = Self.top.appendingPathComponent(".build/python/bin/python").path
        let verifier = Self.top.appendingPathComponent("Tools/decode/coffer_verify.py").path
        let hasPython = FileManager.default.isExecutableFile(atPath: python)
        if !hasPython {
            print("skipped in part: no Python with PyNaCl and cryptography in .build/python; Tools/test makes one")
        }
        let ways =
            hasPython
            ? [
                "--key-file key-file", "--public-key public",
                "--public-key public --anchor \(try vault.shell("cat frozen/anchor"))",
            ] : []
        for way in ways {
            let outcome = try vault.tryShell("cd frozen; '\(python)' '\(verifier)' \(way) vault")
            #expect(outcome.status == 0, "\(outcome)")
        }
        // One byte of a file, its size and time kept.
        try vault.shell(
            """
            cd frozen; f=$(find vault -type f -size +16k -name 'c*' | head -1); t=$(stat -c %Y "$f"); printf X | dd of="$f" bs=1 seek=9000 conv=notrunc status=none; touch -d @$t "$f"
            """)
        #expect(try coffer("verify --public-key public vault").status == 15)
        for way in ways {
            #expect(try vault.tryShell("cd frozen; '\(python)' '\(verifier)' \(way) vault").status == 1)
        }
    }
}
