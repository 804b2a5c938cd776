import CofferDisk
import CofferFormat
import CofferKeys
import Foundation
import Glibc
import Randomness
import Testing

/// `coffer key rotate`: another key, the same contents.
@Suite(.mounts, .programs("rsync"), .serialized) struct RotationTests {
    private let vault: TestVault

    init() throws {
        vault = try TestVault()
        try vault.shell("head -c 40 /dev/urandom > file")
        let added = try vault.coffer("key", "add", "--passphrase-file", "key", "vault", "key-file", "file")
        #expect(added.status == 0, "\(added)")
    }

    /// Fills the vault with `src`, and remembers it as `before`.
    private func fill() throws {
        let mount = try vault.mount()
        try vault.shell("rsync -aHAX src/ mnt/", seconds: 300)
        try mount.unmount()
        try vault.shell("cp -a vault before")
    }

    private func rotate(_ words: String...) throws -> Outcome {
        try CofferProgram.run(
            ["key", "rotate", "--key-file", "file"] + words + ["vault"], in: vault.directory, seconds: 120)
    }

    /// The mount shows `src`, but for the times of directories where `timesMayDiffer`.
    private func expectSame(
        _ options: [String] = ["--read-only"], timesMayDiffer: Bool = false,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let mount = try vault.mount(options)
        let skipped = timesMayDiffer ? "grep -v '^\\.d\\.\\.t\\.\\.\\.\\.\\.\\. ' |" : ""
        let differences = try vault.shell(
            "{ rsync -aHAXnci --filter='-x trusted.SGI_ACL_*' --delete --modify-window=-1 src/ mnt/ | grep -v '^\\.d..t...... \\./$' | \(skipped) head -40; } || true",
            seconds: 300)
        #expect(differences == "", sourceLocation: sourceLocation)
        try mount.unmount()
    }

    /// Nothing that was sealed under the key of before is left, and what was removed opens nothing.
    private func expectAnotherVault(sourceLocation: SourceLocation = #_sourceLocation) throws {
        let both = try vault.shell(
            """
            export LC_ALL=C; comm -12 <(cd before; find . -printf '%f\\n' | grep -v '^coffer\\.\\(json\\|dir\\)' | LC_ALL=C sort -u) \\
              <(cd vault; find . -printf '%f\\n' | LC_ALL=C sort -u) | { grep -vxF . || true; } | { grep -v '^coffer\\.link\\.' || true; }; echo
            find vault -name 'coffer.new.*' -o -name 'coffer.rotation*' | wc -l
            """)
        #expect(both == "\n0", sourceLocation: sourceLocation)
        // No file's header, record, or link's text is one of before.
        let same = try vault.shell(
            """
            export LC_ALL=C
            headers() { find $1 -type f ! -name 'coffer.json*' -size +0 -exec head -qc 40 {} \\; -exec echo \\; | od -An -v -tx1 -w41 | LC_ALL=C sort -u; }
            texts() { find $1 -type l -printf '%l\\n' | grep -v '^coffer' | LC_ALL=C sort -u; }
            comm -12 <(headers before) <(headers vault) | wc -l; comm -12 <(texts before) <(texts vault) | wc -l
            """)
        #expect(same == "0\n0", sourceLocation: sourceLocation)
        // The old configuration, put back, is another vault's.
        try vault.shell(
            "rm -rf mixed; cp -a vault mixed; cp before/coffer.json mixed/; cp before/coffer.json mixed/coffer.json.previous"
        )
        let mixed = try coffer("ls", "-R", "--key-file", "file", "mixed", state: "another")
        #expect(mixed.status == 15 && mixed.output.contains("coffer.unreadable."), "\(mixed)")
        #expect(
            mixed.output.split(separator: "\n").allSatisfy { $0.contains("coffer.unreadable.") || $0.hasSuffix(":") },
            "\(mixed)", sourceLocation: sourceLocation)
    }

    /// On a machine that remembers other vaults.
    private func coffer(_ words: String..., state: String) throws -> Outcome {
        try MountTests.run(
            ["env", "-C", vault.directory, CofferProgram.path ?? ""] + words,
            environment: ["COFFER_STATE_DIR": vault.directory + "/" + state])
    }

    @Test func everythingIsSealedAgain() throws {
        try OddTree(vault.directory + "/src").make()
        try fill()
        // A directory that was moved keeps what its entries are bound to.
        let mount = try vault.mount()
        try vault.shell(
            "for d in mnt src; do mv $d/links $d/elsewhere; mkdir $d/links; echo new > $d/links/f; done; touch -r src/links mnt/links; touch -r src/links/f mnt/links/f; touch -r src mnt"
        )
        try mount.unmount()
        try vault.shell("rm -rf before; cp -a vault before")
        let made = try rotate("--json")
        #expect(made.status == 0 && made.errors == "", "\(made)")
        try expectSame()
        try expectAnotherVault()
        #expect(try vault.log() == [])
        // Every slot that was there opens it, without having been asked for.
        for words in [["--key-file", "file"], ["--passphrase-file", "key"]] {
            #expect(try CofferProgram.run(["key", "check"] + words + ["vault"], in: vault.directory).status == 0)
        }
        // Once more: the slots that were renewed can be renewed.
        #expect(try rotate().status == 0)
        #expect(
            try CofferProgram.run(["key", "check", "--passphrase-file", "key", "vault"], in: vault.directory).status
                == 0)
        try expectSame()
    }

    /// Killed anywhere: the vault is readable, writable, and the next run goes on. COFFER_SOAK=1: 200 times.
    @Test func killedAnywhere() throws {
        try OddTree(vault.directory + "/src").make()
        try vault.shell(
            "cd src; mkdir -p more/big; head -c 30000000 /dev/urandom > more/big/one; for n in $(seq 400); do head -c $((n * 37)) /dev/urandom > more/$n; done; for n in $(seq 40); do ln more/$n more/big/$n; done"
        )
        try fill()
        let seed = UInt64(ProcessInfo.processInfo.environment["COFFER_FIRST_SEED"] ?? "") ?? UInt64(time(nil))
        print("seed \(seed)")
        var random = SeededRandom(seed: seed)
        var kills = 0
        var finished = 0
        var span = 3.0
        while kills < (Machine.isSoaking ? 200 : 8) {
            let start = Date()
            let running = try CofferProgram.start(
                ["key", "rotate", "--key-file", "file", "vault"], in: vault.directory)
            usleep(useconds_t(random.next() % UInt64(span * 1_000_000)))
            running.signal(SIGKILL)
            let status = try #require(running.wait(seconds: 60))
            if status != 128 + SIGKILL {
                #expect(status == 0, "\(running.outcome(status))")
                finished += 1
                span = max(0.3, min(span, Date().timeIntervalSince(start)))
                continue
            }
            kills += 1
            if kills % 4 == 0 {
                try expectSame(kills % 8 == 0 ? [] : ["--read-only"], timesMayDiffer: true)
            }
            if kills % 5 == 0 {
                // Written to in between, by one of a file's names.
                let mount = try vault.mount()
                try vault.shell(
                    "for d in mnt src; do echo \(kills) >> $d/more/big/7; echo \(kills) > $d/more/new; done; touch -r src/more/new mnt/more/new; touch -r src/more/big/7 mnt/more/big/7"
                )
                try mount.unmount()
            }
        }
        // Whatever was left of the last one, and then a whole one.
        for _ in 0..<2 {
            let last = try rotate()
            #expect(last.status == 0, "\(last)")
        }
        print("finished between: \(finished)")
        try expectSame(timesMayDiffer: true)
        try expectAnotherVault()
        #expect(try vault.log() == [])
    }

    /// A rotation that was cut short between two names of one file is finished by whatever mounts the vault for writing first, also one that shares it.
    @Test(arguments: [[], ["--shared"], ["--no-log"]]) func aMountFinishesWhatWasCutShort(options: [String]) throws {
        try vault.shell("mkdir src; echo both > src/a; ln src/a src/b; echo other > src/c")
        try fill()
        let directory = open(vault.path, O_RDONLY | O_DIRECTORY)
        defer { close(directory) }
        let store = ConfigStore(disk: Disk(), directory: directory)
        var key = try contents(of: vault.directory + "/file")
        var changes = KeyChanges(
            store, try VaultUnlocker.unlock(try store.load(), with: KeyFileSlot(try KeyFile(consuming: &key))))
        try changes.beginRotation()
        let names = try vault.shell(
            "cd vault; find . -type f -links 2 -printf '%P\n'"
        ).split(separator: "\n").map(String.init)
        try #require(names.count == 2)
        // One of the names leads to the new file, the other to the old one.
        try vault.shell(
            "cd vault; mkdir coffer.rotation; cp -p \(names[0]) coffer.rotation/file; ln -f coffer.rotation/file \(names[0])"
        )
        let header = Array(try contents(of: vault.path + "/" + names[1]).prefix(32))
        let record = RotationRecord.names(header: header, paths: names.map { [StoredName($0)] })
        try Data(record.sealed(under: changes.vault.ring)).write(
            to: URL(fileURLWithPath: vault.path + "/coffer.rotation/pending"))
        let mount = try vault.mount(["--accept-changed-vault"] + options)
        try vault.shell("echo more >> mnt/a; cat mnt/b > seen; ls vault/coffer.rotation > left")
        #expect(try vault.shell("cat seen left; stat -c %h mnt/a") == "both\nmore\n2")
        try mount.unmount()
    }

    @Test func damageKeepsBothKeys() throws {
        try vault.shell("mkdir -p src/d; echo good > src/d/good; head -c 20000 /dev/urandom > src/bad")
        try fill()
        try vault.shell(
            "f=$(find vault -type f -size +19k -size -30k); cp -p \"$f\" saved; printf x | dd of=\"$f\" bs=1 seek=9000 conv=notrunc status=none"
        )
        let stopped = try rotate()
        #expect(
            stopped.status == 15 && stopped.errors.contains("'bad'") && stopped.errors.contains("block"), "\(stopped)")
        let mount = try vault.mount()
        #expect(try vault.shell("cat mnt/d/good; cat mnt/bad > /dev/null 2>&1 || echo damaged") == "good\ndamaged")
        try vault.shell("rm mnt/bad")
        try mount.unmount()
        #expect(try rotate().status == 0)
        let info = try vault.coffer("info", "--verify", "--key-file", "file", "vault")
        #expect(info.output.contains("key 1 ") && !info.output.contains("key 0 "), "\(info)")
    }

    @Test func aVaultInUseIsNotRotated() throws {
        let mount = try vault.mount(["--read-only"])
        let refused = try rotate()
        #expect(refused.status == 8 && refused.errors.contains("unmount"), "\(refused)")
        try mount.unmount()
    }

    @Test(.programs("mkfs.ext4"), .enabled(if: Machine.isRoot)) func aFullDisk() throws {
        try vault.shell(
            "truncate -s 24M image; mkfs.ext4 -qF image; mkdir disk; mount -o loop image disk; rm -rf disk/*; cp -a vault/. disk/; mkdir -p src"
        )
        defer { do { try vault.shell("umount disk") } catch { Issue.record(error) } }
        try vault.shell("head -c 12000000 /dev/urandom > src/large; echo small > src/small")
        let mount = try vault.mount(vault: "disk")
        try vault.shell("cp -p src/* mnt/")
        try mount.unmount()
        let full = try CofferProgram.run(["key", "rotate", "--key-file", "file", "disk"], in: vault.directory)
        #expect(full.status == 11 && full.errors.contains("No space left"), "\(full)")
        let second = try vault.mount(["--read-only"], vault: "disk")
        try vault.shell("cmp src/large mnt/large; cmp src/small mnt/small")
        #expect(try vault.shell("find disk -name 'coffer.new*'") == "")
        try second.unmount()
        // Room for each of them is enough.
        let third = try vault.mount(vault: "disk")
        try vault.shell(
            "rm src/* mnt/*; for n in $(seq 30); do head -c 400000 /dev/urandom > src/$n; done; cp -p src/* mnt/")
        try third.unmount()
        let done = try CofferProgram.run(["key", "rotate", "--key-file", "file", "disk"], in: vault.directory)
        #expect(done.status == 0, "\(done)")
        let fourth = try vault.mount(["--read-only"], vault: "disk")
        #expect(try vault.shell("diff -r src mnt") == "")
        try fourth.unmount()
    }

    @Test func theReportSaysWhatOpensIt() throws {
        try vault.shell("mkdir src; echo > src/f")
        try fill()
        try vault.shell("cp before/coffer.json old.json")
        let removed = try vault.coffer("key", "list", "--json", "vault")
        #expect(removed.output.contains("passphrase"))
        let made = try rotate("--json")
        let report = try #require(
            JSONSerialization.jsonObject(with: Data(made.output.utf8)) as? [String: Any])
        #expect(report["epoch"] as? Int == 1 && report["files"] as? Int == 1)
        #expect((report["slots"] as? [Any])?.count == 2)
        // Another machine is told that the keys are others, and why that may be.
        #expect(try coffer("ls", "--key-file", "file", "before", state: "other").status == 0)
        let changed = try coffer("ls", "--key-file", "file", "vault", state: "other")
        #expect(changed.status == 7 && changed.errors.contains("rotate"), "\(changed)")
    }
}
