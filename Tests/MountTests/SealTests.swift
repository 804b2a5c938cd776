import Foundation
import Glibc
import Testing

/// `coffer seal` and `coffer verify`, as a person uses them. Tools/attacks tries more.
@Suite(.mounts)
struct SealTests {
    /// One line of what verify finds.
    struct Finding: Decodable, Hashable {
        let path: String?
        let problem: String
        let `class`: String
    }
    struct Verified: Decodable {
        struct Seal: Decodable {
            let counter: Int
            let anchor: String
        }
        let result: String
        let filesRead: Int
        let seal: Seal?
        let findings: [Finding]
    }
    struct Sealed: Decodable {
        let counter: Int
        let entries: Int
        let filesRead: Int
        let anchor: String
        let damaged: [String]
    }

    private let vault: TestVault

    init() throws {
        vault = try TestVault()
        // So that not each of many runs has to stretch a passphrase.
        try vault.shell("head -c 64 /dev/urandom > k")
        _ = try vault.coffer("key", "add", "--passphrase-file", "key", "vault", "key-file", "k")
        let mount = try vault.mount()
        try vault.shell(
            """
            cd mnt; mkdir -p a/b "$(printf 'n%.0s' {1..240})" moved; echo one > a/one; echo two > a/two; echo three > a/b/three
            head -c 3000000 /dev/urandom > big; truncate -s 200M sparse; printf x | dd of=sparse bs=1 seek=100M conv=notrunc status=none
            ln -s one a/link; ln -s "$(printf 'l%.0s' {1..3500})" long; mkfifo fifo; : > empty
            echo long > "$(printf 'n%.0s' {1..240})/$(printf 'm%.0s' {1..250})"; setfattr -n user.x -v y a/one
            mv moved a/here; echo inside > a/here/inside; ln a/two a/b/again
            """)
        try mount.unmount()
    }

    private func decode<Value: Decodable>(_ text: String, as type: Value.Type = Value.self) throws -> Value {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Value.self, from: Data(text.utf8))
    }

    @discardableResult
    private func seal(_ more: String...) throws -> Sealed {
        let outcome = try CofferProgram.run(
            ["seal", "--json", "--key-file", "k"] + more + ["vault"], in: vault.directory)
        guard outcome.status == 0 else { throw outcome }
        return try decode(outcome.output)
    }

    private func verify(
        _ copy: String = "vault", _ status: Int32 = 0, _ more: [String] = ["--key-file", "k"],
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> Verified {
        let outcome = try CofferProgram.run(["verify", "--json"] + more + [copy], in: vault.directory)
        #expect(outcome.status == status, "\(outcome)", sourceLocation: sourceLocation)
        return try decode(outcome.output)
    }

    private func makePublicKey() throws {
        try vault.shell(
            "cat > pub <<'END'\n\(try vault.coffer("key", "export-public", "--key-file", "k", "vault").output)END"
        )
    }

    /// The stored path of what has a plaintext path, by a mount.
    private func stored(_ path: String) throws -> String {
        let mount = try vault.mount(["--read-only"])
        defer { withExtendedLifetime(mount) {} }
        let found = try vault.shell("find vault -inum $(stat -c %i 'mnt/\(path)')").split(separator: "\n")
        try mount.unmount()
        return String(try #require(found.first))
    }

    @Test func whatIsSealedIsWhole() throws {
        let first = try seal()
        #expect(first.counter == 1 && first.entries > 20 && first.damaged.isEmpty)
        try makePublicKey()
        for way in [
            ["--key-file", "k"], ["--public-key", "pub"], ["--anchor", first.anchor, "--public-key", "pub"],
        ] {
            let found = try verify("vault", 0, way)
            #expect(found.result == "whole" && found.findings.isEmpty, "\(way): \(found)")
        }
        // Copies: as they are, without holes, and with the marks that a mount leaves.
        try vault.shell("rsync -aHAX vault/ copy/; cp -a --sparse=never vault flat")
        for copy in ["copy", "flat"] {
            #expect(try verify(copy, 0, ["--public-key", "pub", "--strict"]).result == "whole")
        }
    }

    @Test func whatDidNotChangeIsNotReadAgain() throws {
        let first = try seal()
        // What was changed just before it was read is read once more.
        sleep(3)
        _ = try seal()
        #expect(try seal().filesRead == 0)
        let mount = try vault.mount()
        try vault.shell("echo more >> mnt/a/one")
        try mount.unmount()
        let again = try seal()
        #expect(again.filesRead == 1 && again.entries == first.entries)
        #expect(try seal("--full").filesRead > 5)
        #expect(try verify().result == "whole")
        // Only the newest three are whole.
        #expect(try vault.shell("find vault/coffer.seals -type f -size 232c | wc -l") == "2")
    }

    @Test func aMountedVaultIsSealedAsProgramsSeeIt() throws {
        let mount = try vault.mount()
        try vault.shell(
            """
            cat > work.py <<'END'
            import os, sys
            f = os.open('mnt/big', os.O_RDWR); os.pwrite(f, b'over' * 5000, 70000)
            g = os.open('mnt/new', os.O_RDWR | os.O_CREAT); os.pwrite(g, b'x' * 10001, 0)
            print('ready', flush=True); sys.stdin.readline()
            END
            mkfifo go; (python3 work.py < go > said 2> errors & echo $! > pid); (exec sleep 60 > go 2> errors) & echo $! > holder
            until grep -q ready said; do sleep 0.05; done
            """)
        try seal()
        #expect(try verify("vault", 0).findings.isEmpty)
        try vault.shell("kill -KILL $(cat holder); while kill -0 $(cat pid) 2> /dev/null; do sleep 0.05; done")
        // Closing them changes nothing of what was sealed but times.
        try mount.unmount()
        let after = try verify("vault", 0)
        #expect(after.result == "whole", "\(after)")
        #expect(after.findings.allSatisfy { $0.problem == "time" })
    }

    @Test func whatDiffersIsNamed() throws {
        try seal()
        try makePublicKey()
        let one = try stored("a/one"), two = try stored("a/two"), big = try stored("big"), directory = try stored("a/b")
        let long = try stored("\(String(repeating: "n", count: 240))/\(String(repeating: "m", count: 250))")
        let cases: [(script: String, status: Int32, Finding)] = [
            (
                "t=$(stat -c %y F); printf X | dd of=F bs=1 seek=5000 conv=notrunc status=none; touch -d \"$t\" F"
                    .replacingOccurrences(of: "F", with: big), 15,
                Finding(path: "big", problem: "contents", class: "damaged")
            ),
            (
                "printf X | dd of=\(big) bs=1 seek=5000 conv=notrunc status=none", 15,
                Finding(path: "big", problem: "blocks", class: "damaged")
            ),
            ("rm \(one)", 16, Finding(path: "a/one", problem: "missing", class: "incomplete")),
            ("rm -r \(directory)", 16, Finding(path: "a/b", problem: "missing", class: "incomplete")),
            (
                "rm \(long).*", 16,
                Finding(
                    path: "\(String(repeating: "n", count: 240))/\(String(repeating: "m", count: 250))",
                    problem: "missing", class: "incomplete")
            ),
            (
                "mv \(one) x; mv \(two) \(one); mv x \(two)", 16,
                Finding(path: "a/one", problem: "swapped", class: "incomplete")
            ),
            ("cp -p \(one) \(directory)/", 15, Finding(path: nil, problem: "name", class: "damaged")),
            ("chmod 4755 \(one)", 16, Finding(path: "a/one", problem: "mode", class: "incomplete")),
            (
                "setfattr -x \"$(getfattr --absolute-names -m user \(one) | sed -n 2p)\" \(one)", 16,
                Finding(path: "a/one", problem: "attributes", class: "incomplete")
            ),
            ("touch \(one)", 0, Finding(path: "a/one", problem: "time", class: "note")),
            ("truncate -s -4128 \(big)", 15, Finding(path: "big", problem: "blocks", class: "damaged")),
        ]
        for (script, status, expected) in cases {
            try vault.shell("rm -rf kept; cp -a vault kept; \(script)")
            let found = try verify("vault", status)
            #expect(
                found.findings.contains {
                    $0.problem == expected.problem && $0.class == expected.class
                        && (expected.path == nil || $0.path == expected.path)
                }, "\(script): \(found)")
            let blind = try verifyAnyway("vault", ["--public-key", "pub"])
            #expect(!blind.findings.isEmpty, "\(script)")
            try vault.shell("rm -rf vault; mv kept vault")
        }
        #expect(try verify().result == "whole")
    }

    private func verifyAnyway(_ copy: String, _ more: [String]) throws -> Verified {
        let outcome = try CofferProgram.run(["verify", "--json"] + more + [copy], in: vault.directory)
        #expect([0, 15, 16].contains(outcome.status), "\(outcome)")
        return try decode(outcome.output)
    }

    /// A copy that was put back as a whole, seals and all.
    @Test func anOlderCopyIsNoticed() throws {
        let first = try seal()
        try vault.shell("cp -a vault old")
        let mount = try vault.mount()
        try vault.shell("echo new > mnt/a/new; rm mnt/empty")
        try mount.unmount()
        let second = try seal()
        let found = try verify("old", 16)
        #expect(found.findings.map(\.problem) == ["rolledBack"])
        let told = try vault.coffer("verify", "--key-file", "k", "old")
        #expect(
            told.output.contains("exactly as sealed, but there is a newer seal")
                && told.errors.contains("whole, but older"))
        // A machine that knows nothing is told by the anchor.
        try vault.shell("mv state state.kept")
        #expect(try verify("old").result == "whole")
        try vault.shell("rm -r state; mv state.kept state")
        try vault.shell("rm -rf elsewhere; mkdir elsewhere; cp -a old k elsewhere/")
        func elsewhere(_ anchor: String) throws -> Outcome {
            try CofferProgram.run(
                ["verify", "--anchor", anchor, "--key-file", "k", "old"], in: vault.directory + "/elsewhere")
        }
        #expect(try elsewhere(first.anchor).status == 0)
        #expect(try elsewhere(second.anchor).status == 16)
        #expect(try elsewhere(String(first.anchor.dropLast()) + "!").status == 2)
        #expect(try verify("vault", 0, ["--anchor", first.anchor, "--key-file", "k"]).result == "whole")
    }

    @Test func sealsThatAreNotGenuine() throws {
        #expect(try verify("vault", 17).result == "noSeal")
        try seal()
        try makePublicKey()
        try vault.shell("cp -a vault/coffer.seals kept")
        for script in [
            "truncate -s 231 S", "truncate -s 400 S", "printf X | dd of=S bs=1 seek=20 conv=notrunc status=none",
            "printf X | dd of=S bs=1 seek=180 conv=notrunc status=none",
            "printf X | dd of=S bs=1 seek=300 conv=notrunc status=none", "echo >> S",
            "mv S vault/coffer.seals/00000002", "rm S",
        ] {
            try vault.shell(script.replacingOccurrences(of: "S", with: "vault/coffer.seals/00000001"))
            for way in [["--key-file", "k"], ["--public-key", "pub"]] {
                let outcome = try CofferProgram.run(["verify", "--json"] + way + ["vault"], in: vault.directory)
                #expect(outcome.status == 17, "\(script): \(outcome)")
            }
            try vault.shell("rm -r vault/coffer.seals; cp -a kept vault/coffer.seals")
        }
        // One by another vault's key, and newer.
        try vault.shell("mkdir other; echo pw > other/pw")
        _ = try CofferProgram.run(
            ["init", "--kdf", "interactive", "--passphrase-file", "other/pw", "other/v"], in: vault.directory)
        for _ in 0..<2 {
            _ = try CofferProgram.run(["seal", "--passphrase-file", "other/pw", "other/v"], in: vault.directory)
        }
        try vault.shell("cp other/v/coffer.seals/00000002 vault/coffer.seals/")
        let found = try verify("vault", 15)
        #expect(found.seal?.counter == 1 && found.findings.map(\.problem) == ["sealForged"])
        // The next one is not taken for it, nor for numbers that are none.
        try vault.shell("cd vault/coffer.seals; : > 18446744073709551615; : > 1099511627776; : > 00000004")
        #expect(try seal().counter == 3)
        #expect(try seal().counter == 5)
        #expect(try verify().result == "whole")
    }

    @Test func damageDoesNotBecomeGenuine() throws {
        let big = try stored("big")
        try vault.shell("printf X | dd of=\(big) bs=1 seek=5000 conv=notrunc status=none")
        let outcome = try vault.coffer("seal", "--json", "--key-file", "k", "vault")
        #expect(outcome.status == 15 && outcome.errors.contains("'big' is damaged"), "\(outcome)")
        let found = try verify("vault", 15)
        #expect(found.findings.contains(Finding(path: "big", problem: "sealedDamaged", class: "damaged")))
    }

    /// Seals of before say nothing any more, and are no alarm.
    @Test func afterARotation() throws {
        try seal()
        let rotated = try vault.coffer("key", "rotate", "--key-file", "k", "vault")
        #expect(rotated.status == 0, "\(rotated)")
        #expect(
            try CofferProgram.run(["verify", "--key-file", "k", "vault"], in: vault.directory).status == 17)
        try seal()
        #expect(try verify().result == "whole")
    }

    /// What can neither be read nor hashed in a lifetime, and what its mode keeps its owner from.
    @Test func oddThings() throws {
        let mount = try vault.mount()
        try vault.shell("cd mnt; echo shut > shut; chmod 000 shut; mkdir closed; echo in > closed/in; chmod 300 closed")
        try mount.unmount()
        try seal()
        #expect(try verify().result == "whole")
        try vault.shell("n=vault/c$(printf 'A%.0s' {1..43}); truncate -s 4E $n || truncate -s 15T $n")
        #expect(try verify("vault", 15).findings.map(\.problem) == ["name"])
        try vault.shell("rm vault/c$(printf 'A%.0s' {1..43})")
        // A seal that is not all there yet.
        try vault.shell("head -c 100 vault/coffer.seals/00000001 > vault/coffer.seals/00000002")
        #expect(try verify("vault", 16).findings.map(\.problem) == ["sealIncomplete"])
    }

    /// Only what was sealed can be read, and what is missing is not hidden.
    @Test func aSealedMount() throws {
        try seal()
        let one = try stored("a/one"), two = try stored("a/two"), inside = try stored("a/here/inside"),
            link = try stored("a/link")
        let three = try stored("a/b/three"), empty = try stored("empty")
        try vault.shell(
            """
            mv \(one) x; mv \(two) \(one); mv x \(two); rm \(inside); ln -sf "$(readlink \(try stored("long")))" \(link)
            rm \(empty); mkdir \(empty); cp \(three) \(three).kept
            """)
        let mount = try vault.mount(["--sealed"])
        func reads(_ path: String) throws -> Bool { try vault.tryShell("cat 'mnt/\(path)' > read").status == 0 }
        #expect(try reads("big") && reads("a/b/three"))
        // Another name of one that was exchanged, at which it is as sealed, makes no difference.
        _ = try reads("a/b/again")
        #expect(try !reads("a/one") && !reads("a/two"))
        #expect(try vault.tryShell("cat mnt/a/here/inside").errors.contains("Input/output error"))
        #expect(try vault.tryShell("readlink mnt/a/link").status != 0)
        #expect(try vault.tryShell("stat mnt/empty").status != 0)
        #expect(try vault.tryShell("touch mnt/new").errors.contains("Read-only"))
        #expect(try vault.log().contains { $0.contains("it is not what was sealed") && $0.contains("'a/one'") })
        #expect(
            try vault.log().contains { $0.contains("it was sealed, and is missing") && $0.contains("a/here/inside") })
        // Changed while it is open.
        let found = try vault.shell(
            """
            python3 - <<'END'
            import os
            f = open('mnt/a/b/three', 'rb', buffering=0); print(f.read(3))
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            data = open('\(three)', 'rb').read()
            with open('\(three)', 'r+b') as g: g.write(data[:40] + bytes([data[40] ^ 1]) + data[41:])
            with open('\(three)', 'r+b') as g: g.write(data)
            import time; time.sleep(1.2)
            try: print(os.pread(f.fileno(), 9, 0))
            except OSError as error: print(error.errno)
            print(open('mnt/a/b/three', 'rb').read())
            END
            """)
        #expect(found == "b'thr'\n5\nb'three\\n'")
        try mount.unmount()
    }

    @Test func whatIsBrokenOffGoesOn() throws {
        let mount = try vault.mount()
        try vault.shell("cd mnt; for i in $(seq 24); do head -c 12000000 /dev/urandom > f$i; done", seconds: 300)
        try mount.unmount()
        try seal()
        let big = try stored("f20")
        var ways = 0
        for number in 0..<10 {
            let program = try CofferProgram.start(
                ["seal", "--full", "--key-file", "k", "vault"], in: vault.directory)
            program.waitUntilRead(10_000_000 + number * 25_000_000)
            program.signal(SIGKILL)
            if program.wait(seconds: 60) != 0 { ways += 1 }
            #expect(try verify("vault", 0, ["--key-file", "k", "--threads", "2"]).result == "whole")
        }
        #expect(ways > 0)
        try seal()
        #expect(try vault.shell("ls vault/coffer.seals | grep -c new || true") == "0")
        try vault.shell("printf X | dd of=\(big) bs=1 seek=5000 conv=notrunc status=none")
        let program = try CofferProgram.start(["verify", "--key-file", "k", "vault"], in: vault.directory)
        program.waitUntilRead(200_000_000)
        program.signal(SIGINT)
        _ = program.wait(seconds: 60)
        let found = try verify("vault", 15, ["--resume", "--key-file", "k"])
        #expect(found.findings.map(\.path) == ["f20"])
    }
}
