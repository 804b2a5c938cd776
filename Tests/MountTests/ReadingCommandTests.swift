import Testing

/// `coffer ls`, `coffer cat` and `coffer extract`, as a person types them.
@Suite(.mounts) struct ReadingCommandTests {
    private let vault: TestVault

    init() throws {
        vault = try TestVault()
        let mount = try vault.mount()
        try vault.shell(
            """
            cd mnt; mkdir -p d/e; echo hello > d/e/f; head -c 100000 /dev/zero | tr '\\0' z > big; : > empty; ln -s d/e/f link; ln big hard
            mkfifo fifo; touch -d '2001-02-03 04:05:06.789Z' d/e/f; chmod 640 big; echo odd > $'new\\nline'; truncate -s 10M sparse; echo x >> sparse
            """)
        try mount.unmount()
    }

    /// `coffer COMMAND --passphrase-file key WORDS`.
    private func coffer(_ command: String, _ words: String...) throws -> Outcome {
        try CofferProgram.run([command, "--passphrase-file", "key"] + words, in: vault.directory)
    }

    /// Damages the middle of `big`, the largest stored file that is not sparse.
    private func damageBig() throws {
        try vault.shell(
            "f=$(find vault -type f -size +90k -size -110k | head -1); printf x | dd of=$f bs=1 seek=50000 conv=notrunc status=none"
        )
    }

    @Test func listing() throws {
        let root = try coffer("ls", "vault")
        #expect(root.status == 0 && root.errors == "", "\(root)")
        #expect(root.output == "big\nd\nempty\nfifo\nhard\nlink\nnew\nline\nsparse\n")
        #expect(try coffer("ls", "vault:d/e").output == "f\n")
        #expect(try coffer("ls", "vault:d/e/f").status == 0)
        #expect(try coffer("ls", "-R", "vault:d").output.split(separator: "\n").contains { $0.hasSuffix("e/f") })
        let long = try coffer("ls", "-l", "vault").output.split(separator: "\n")
        #expect(long.contains { $0.hasPrefix("-rw-r-----") && $0.contains(" 100000 ") && $0.hasSuffix(" big") })
        #expect(long.contains { $0.hasPrefix("l") && $0.hasSuffix("link -> d/e/f") })
        #expect(long.contains { $0.hasPrefix("p") && $0.hasSuffix(" fifo") })
    }

    @Test(.programs("python3")) func listingForPrograms() throws {
        let binary = CofferProgram.path ?? ""
        let paths = try vault.shell(
            """
            COFFER_STATE_DIR=$PWD/state '\(binary)' ls -R --json --passphrase-file key vault | python3 -c '
            import json, sys
            print(sorted(e["path"] for e in json.load(sys.stdin)))'
            """)
        #expect(
            paths == "['big', 'd', 'd/e', 'd/e/f', 'empty', 'fifo', 'hard', 'link', 'new\\nline', 'sparse']")
    }

    @Test func printing() throws {
        #expect(try coffer("cat", "vault:d/e/f").output == "hello\n")
        #expect(try coffer("cat", "vault:empty").output == "")
        #expect(try coffer("cat", "vault:big").output == String(repeating: "z", count: 100_000))
        for (path, status) in [("d", 11), ("link", 11), ("fifo", 11), ("", 2), ("../x", 2)] as [(String, Int32)] {
            let outcome = try coffer("cat", "vault:\(path)")
            #expect(
                outcome.status == status && outcome.output == "" && outcome.errors.hasPrefix("coffer: "), "\(outcome)")
        }
        let missing = try coffer("cat", "vault:no/such")
        #expect(missing.status != 0 && missing.errors.contains("no/such"), "\(missing)")
    }

    @Test func extracting() throws {
        let outcome = try coffer("extract", "vault", "out")
        #expect(outcome.status == 0 && outcome.errors == "", "\(outcome)")
        let mount = try vault.mount(["--read-only"])
        #expect(try vault.shell("rsync -aHAXnci --modify-window=-1 --delete mnt/ out/") == "")
        #expect(
            try vault.shell("stat -c %h out/big; du -k out/sparse | cut -f1 | grep -x '[0-9]\\{1,2\\}' > /dev/null")
                == "2")
        try mount.unmount()
        #expect(try coffer("extract", "vault:d/e/f", "one").status == 0)
        #expect(try vault.shell("cat one/f; TZ=UTC stat -c %y one/f") == "hello\n2001-02-03 04:05:06.789000000 +0000")
    }

    @Test func placesThatCannotBeExtractedTo() throws {
        try vault.shell("mkdir full; echo x > full/x; echo x > file")
        for place in ["full", "file", "vault", "vault/d", "no/such/place"] {
            let outcome = try coffer("extract", "vault", place)
            #expect(outcome.status != 0 && outcome.errors.hasPrefix("coffer: "), "\(place): \(outcome)")
        }
        #expect(try vault.shell("ls -A full; cat file; ls vault | grep -c '^coffer.json$'") == "x\nx\n1")
    }

    @Test func aDamagedFile() throws {
        try damageBig()
        let cat = try coffer("cat", "vault:big")
        #expect(cat.status == 15 && cat.errors.contains("big"), "\(cat.errors)")
        // Up to the damaged block, and not a byte of it.
        #expect(cat.output == String(repeating: "z", count: 12 * 4096))
        let extract = try coffer("extract", "vault", "out")
        #expect(extract.status == 15 && extract.errors.contains("big"), "\(extract)")
        #expect(
            try vault.shell("ls -A out | xargs -d '\\n'").split(separator: " ").contains { $0 == "big" || $0 == "hard" }
                == false)
        #expect(try vault.shell("cat out/d/e/f; cat out/$'new\\nline'") == "hello\nodd")
        let salvage = try coffer("extract", "--salvage", "vault", "rescued")
        #expect(salvage.status == 15)
        #expect(
            try vault.shell("cat rescued/*.damaged | tr -d z | tr -d '\\0' | wc -c; ls rescued/*.damaged | wc -l")
                .split(separator: "\n").first == "0")
    }

    @Test func aDamagedName() throws {
        try vault.shell(
            "cd vault; f=$(find . -type f -size 2k -o -type f -size 1k | grep -v coffer | head -1); cp $f ./cAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        )
        let listed = try coffer("ls", "vault")
        #expect(listed.status == 15 && listed.output.contains("coffer.unreadable.cAAA"), "\(listed)")
        let extract = try coffer("extract", "vault", "out")
        #expect(extract.status == 15 && extract.errors.contains("cAAA"), "\(extract)")
        #expect(try vault.shell("cat out/d/e/f") == "hello")
    }

    @Test(arguments: ["ls", "cat", "extract"])
    func whatTheyRefuse(_ command: String) throws {
        try vault.shell(
            "echo wrong > wrong; mkdir plain; cp -r vault newer; sed -i 's/\"format\": 1/\"format\": 2/' newer/coffer.json"
        )
        let place = command == "extract" ? ["out"] : []
        func run(_ vault: String, key: String = "key") throws -> Outcome {
            try CofferProgram.run(
                [command, "--passphrase-file", key, command == "cat" ? vault + ":big" : vault] + place,
                in: self.vault.directory)
        }
        #expect(try run("vault", key: "wrong").status == 4)
        #expect(try run("vault", key: "none").status == 12)
        #expect(try run("plain").status == 3)
        #expect(try run("none").status == 3)
        #expect(try run("newer").status == 6)
        #expect(try CofferProgram.run([command], in: vault.directory).status == 2)
        #expect(try vault.shell("ls -d out 2> /dev/null || true") == "")
        // A vault that is mounted can be read, with a word of warning.
        let mount = try vault.mount()
        let note = try run("vault")
        #expect(note.status == 0 && note.errors.contains("'vault' is mounted read-write"), "\(note)")
        try mount.unmount()
    }

    @Test func checkingAndHealing() throws {
        let whole = try coffer("check", "vault")
        #expect(whole.status == 0 && whole.errors == "" && whole.output.contains("everything verifies"), "\(whole)")
        // While it is mounted and written to as well.
        let mount = try vault.mount()
        try vault.shell("(for n in $(seq 300); do echo $n > mnt/busy$n; echo more >> mnt/big; done) & echo $! > pid")
        let busy = try coffer("check", "vault")
        #expect(busy.status == 0, "\(busy)")
        try vault.shell(
            "while kill -0 $(cat pid) 2> /dev/null; do sleep 0.1; done; rm mnt/busy*; truncate -s 100000 mnt/big")
        try mount.unmount()
        try vault.shell("cp -a vault copy")
        try damageBig()
        let damaged = try coffer("check", "vault")
        #expect(
            damaged.status == 15 && damaged.output.contains("'big'") && damaged.output.contains("bytes 49152 to 53248"),
            "\(damaged)")
        let quick = try coffer("check", "--quick", "vault")
        #expect(quick.status == 0, "\(quick)")
        let json = try coffer("check", "--json", "vault")
        #expect(json.status == 15 && json.output.contains("\"is_loss\" : true"), "\(json)")
        let dry = try coffer("repair", "--dry-run", "--from", "copy", "vault")
        #expect(dry.status == 15 && dry.output.contains("can be healed"), "\(dry)")
        let healed = try coffer("repair", "--from", "copy", "vault")
        #expect(healed.status == 0 && healed.output.contains("'big'"), "\(healed)")
        #expect(try coffer("check", "vault").status == 0)
        #expect(try vault.shell("ls vault/coffer.lost+found | wc -l") == "1")
        #expect(try coffer("cat", "vault:big").output == String(repeating: "z", count: 100_000))
        let itself = try coffer("repair", "--from", "./vault/", "vault")
        #expect(itself.status == 2 && itself.errors.contains("itself"), "\(itself)")
        // Of another vault nothing is taken.
        let other = try TestVault()
        try vault.shell("cp -a '\(other.path)' stranger")
        #expect(try coffer("repair", "--from", "stranger", "vault").status == 2)
    }
}
