import Foundation
import Testing

/// `coffer init`, `coffer info` and what stands around them, as a person types them.
@Suite(.mounts) struct InitCommandTests {
    private let directory: TemporaryDirectory

    init() throws {
        directory = try TemporaryDirectory()
        try shell("echo pass > key", in: directory.path)
    }

    private func coffer(_ line: String, input: String = "") throws -> Outcome {
        try CofferProgram.run(line.split(separator: " ").map(String.init), in: directory.path, input: input)
    }

    private func sh(_ script: String) throws -> String { try shell(script, in: directory.path) }

    @Test func initMakesAVault() throws {
        let made = try coffer("init --kdf interactive --passphrase-file key photos")
        #expect(made.status == 0 && made.errors == "", "\(made)")
        #expect(
            made.output.hasPrefix("made vault 'photos', id ")
                && made.output.contains("coffer mount 'photos' MOUNTPOINT"))
        #expect(try sh("ls -A photos; stat -c %a photos") == "coffer.json\n700")
    }

    @Test func initTakesAnEmptyDirectoryOnly() throws {
        _ = try sh("mkdir empty full; echo x > full/x; echo x > file")
        #expect(try coffer("init --kdf interactive --passphrase-file key empty").status == 0)
        let again = try coffer("init --kdf interactive --passphrase-file key empty")
        #expect(again.status == 13 && again.errors.contains("already a vault; nothing was changed"), "\(again)")
        let full = try coffer("init --kdf interactive --passphrase-file key full")
        #expect(full.status == 13 && full.errors.contains("not empty"), "\(full)")
        #expect(try sh("ls -A full") == "x")
        #expect(try coffer("init --passphrase-file key file").status == 3)
        let lost = try coffer("init --kdf interactive --passphrase-file key no/such/place")
        #expect(lost.status == 11 && lost.errors.hasPrefix("coffer: 'no/such/place'"), "\(lost)")
    }

    @Test func initRefusesNonsense() throws {
        for words in [
            "--name-max 63", "--name-max 256", "--cipher rot13", "--kdf none",
            "--label \(String(repeating: "x", count: 1025))",
        ] {
            let outcome = try coffer("init --passphrase-file key \(words) v")
            #expect(outcome.status == 2, "\(outcome)")
        }
        #expect(try coffer("init --passphrase-file none v").status == 12)
        #expect(try coffer("init --passphrase-command false v").status == 12)
        #expect(try coffer("init --passphrase-file - v", input: "\n").status == 12)
        #expect(try sh("ls -A") == "key", "nothing is made where nothing can be")
    }

    @Test func passphrasesFromElsewhere() throws {
        #expect(
            try coffer("init --kdf interactive --passphrase-file - v", input: "from input\nsecond line").status == 0)
        #expect(try coffer("info --passphrase-file - v", input: "from input").status == 0)
        #expect(try coffer("info --passphrase-file - v", input: "from input \n").status == 4)
        let command = try CofferProgram.run(
            ["info", "--passphrase-command", "echo from input; echo more", "v"], in: directory.path)
        #expect(command.status == 0, "\(command)")
    }

    @Test func infoTellsWhatAVaultIs() throws {
        _ = try coffer(
            "init --kdf interactive --label home --cipher chacha20-poly1305 --name-max 143 --passphrase-file key v")
        let unverified = try coffer("info v")
        #expect(unverified.status == 0 && unverified.errors == "")
        for text in ["chacha20-poly1305", "143 bytes", "passphrase", "home"] {
            #expect(unverified.output.contains(text), "\(text)")
        }
        let verified = try coffer("info --json --passphrase-file key v")
        #expect(verified.status == 0)
        _ = try shell("cat > out.json <<'END'\n\(verified.output)\nEND", in: directory.path)
        #expect(
            try sh(
                """
                python3 -c '
                import json
                i = json.load(open("out.json"))
                print(i["verified"], i["cipher"], i["name_max"], i["format"], i["counter"], len(i["slots"]), list(i["fingerprints"]))'
                """) == "True chacha20-poly1305 143 1 1 1 ['0']")
        #expect(verified.output.contains(try sh("grep -o '\"vault\": \"[0-9a-f]*' v/coffer.json | cut -d'\"' -f4")))
    }

    @Test func infoRefusesWhatItCannotVerify() throws {
        _ = try coffer("init --kdf interactive --passphrase-file key v")
        _ = try sh(
            "echo wrong > wrong; mkdir plain; cp -r v damaged; sed -i 's/aes-256-gcm/chacha20-poly1305/' damaged/coffer.json"
        )
        #expect(try coffer("info --passphrase-file wrong v").status == 4)
        #expect(try coffer("info plain").status == 3)
        #expect(try coffer("info none").status == 3)
        #expect(try coffer("info --passphrase-file key damaged").status == 5)
        #expect(try coffer("info damaged").output.contains("chacha20"), "without a passphrase nothing is verified")
        _ = try sh("rm damaged/coffer.json")
        #expect(try coffer("info damaged").status == 3)
    }

    @Test func speedTellsOfEachCipher() throws {
        let text = try coffer("speed").output
        #expect(
            text.split(separator: "\n").count == 2 && text.contains("aes-256-gcm") && text.contains("chacha20-poly1305")
        )
        let json = try JSONSerialization.jsonObject(with: Data(try coffer("speed --json").output.utf8))
        let rates = try #require(json as? [[String: Any]])
        #expect(rates.compactMap { $0["cipher"] as? String } == ["aes-256-gcm", "chacha20-poly1305"])
        for rate in rates {
            for key in ["seal_mb_per_second", "open_mb_per_second"] { #expect(rate[key] as? Int ?? 0 > 0, "\(key)") }
        }
    }

    @Test func helpNamesTheExitCodes() throws {
        for words in ["--help", "help", "help mount", "init --help"] {
            let help = try coffer(words)
            #expect(help.status == 0 && help.errors == "" && help.output.contains("USAGE"), "\(words)")
        }
        let help = try coffer("--help").output
        for line in [" 0  done", " 4  wrong passphrase", " 8  the vault is in use", "14  "] {
            #expect(help.contains(line), "\(line)")
        }
        #expect(try coffer("--version").output.split(separator: ".").count == 3)
        #expect(try coffer("").status == 0 || coffer("").status == 2)
    }
}
