import Foundation
import Glibc
import Testing

/// Secrets while a vault is mounted: they are in no memory of the driver any more, and in no log.
@Suite(.mounts) struct SecretTests {
    private let vault: TestVault

    init() throws {
        vault = try TestVault()
    }

    /// Whether any memory of a process that can be read holds these bytes.
    private func memory(of process: pid_t, holds wanted: [UInt8]) throws -> Bool {
        let maps = try String(contentsOfFile: "/proc/\(process)/maps", encoding: .utf8)
        let memory = open("/proc/\(process)/mem", O_RDONLY | O_CLOEXEC)
        try #require(memory >= 0)
        defer { close(memory) }
        var seen = 0
        for line in maps.split(separator: "\n") {
            let words = line.split(separator: " ")
            let ends = words[0].split(separator: "-").compactMap { UInt($0, radix: 16) }
            guard ends.count == 2, words[1].hasPrefix("r"), !line.hasSuffix("[vvar]"), !line.contains("vvar_") else {
                continue
            }
            var start = ends[0]
            // With an overlap, so that nothing is cut in two.
            while start < ends[1] {
                let count = Int(min(ends[1] - start, 8 << 20))
                var bytes = [UInt8](repeating: 0, count: count)
                let got = pread(memory, &bytes, count, Int(bitPattern: start))
                if got > 0 {
                    seen += got
                    if contains(bytes, got, wanted) { return true }
                }
                if count < 8 << 20 { break }
                start += UInt(count - wanted.count)
            }
        }
        #expect(seen > 1 << 20, "the memory could not be read")
        return false
    }

    private func contains(_ bytes: [UInt8], _ count: Int, _ wanted: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { all in
            guard let base = all.baseAddress else { return false }
            var start = 0
            while start + wanted.count <= count,
                let next = memchr(base + start, Int32(wanted[0]), count - start - wanted.count + 1)
            {
                if memcmp(next, wanted, wanted.count) == 0 { return true }
                start = base.distance(to: UnsafeRawPointer(next)) + 1
            }
            return false
        }
    }

    private func random(_ count: Int) -> String {
        let letters = Array("abcdefghijkmnpqrstuvwxyz23456789")
        return String((0..<count).map { _ in letters[Int.random(in: 0..<letters.count)] })
    }

    private func mount(_ options: [String], _ name: String) throws -> MountedVault {
        try MountedVault(name, at: "mnt", options: options, in: vault, unlockedBy: [])
    }

    private func expectForgotten(_ mount: MountedVault, _ secrets: [[UInt8]]) throws {
        // Something is asked of it first, and what is known to be there is found.
        try "text".write(toFile: mount.file("f"), atomically: false, encoding: .utf8)
        #expect(try memory(of: mount.driver.id, holds: Array(mount.path.utf8)))
        for secret in secrets {
            #expect(try !memory(of: mount.driver.id, holds: secret), "a secret of \(secret.count) bytes is still there")
        }
        try mount.unmount()
        let log = try contents(of: vault.directory + "/log")
        for secret in secrets { #expect(log.firstRange(of: secret) == nil) }
    }

    @Test func passphrasesAreForgotten() throws {
        // Letters with accents are composed, which takes copies.
        for (number, accents) in ["", "a\u{308}e\u{301}o\u{302}", "\u{E4}\u{E9}"].enumerated() {
            let name = "v\(number)"
            let passphrase = accents + random(24)
            try vault.shell("cat > secret <<'END'\n\(passphrase)\nEND")
            try vault.shell(
                "'\(try #require(CofferProgram.path))' init --kdf interactive --passphrase-file secret \(name) > out 2>&1"
            )
            let secrets = [passphrase, passphrase.precomposedStringWithCanonicalMapping].map { Array($0.utf8) }
            try expectForgotten(try mount(["--passphrase-file", "secret"], name), secrets)
            try expectForgotten(try mount(["--passphrase-command", "cat secret"], name), secrets)
        }
    }

    @Test func otherSecretsAreForgotten() throws {
        let program = try #require(CofferProgram.path)
        try vault.shell(
            """
            head -c 300 /dev/urandom > file
            '\(program)' keygen identity > public 2> out
            '\(program)' init --key-file file --recipient public --recovery-code v > shown 2> out
            grep -oE '[0-9A-Z]{5}(-[0-9A-Z]{5}){8}' shown > code
            grep -o 'IDENTITY-1:.*' identity | cut -d: -f2 > line
            """)
        let file = try contents(of: vault.directory + "/file")
        try expectForgotten(
            try mount(["--key-file", "file"], "v"), [Array(file.prefix(64)), Array(file.suffix(64))])
        let code = try contents(of: vault.directory + "/code").dropLast()
        try expectForgotten(try mount(["--recovery-code-file", "code"], "v"), [Array(code), Array(code.prefix(29))])
        let line = try contents(of: vault.directory + "/line").dropLast()
        try expectForgotten(try mount(["--identity", "identity"], "v"), [Array(line), Array(line.prefix(30))])
    }

    /// No program of ours leaves a core file, whatever the limit and the signal; one that is no program of ours does, here.
    @Test(.programs("python3")) func thereIsNoCoreFile() throws {
        try vault.shell("cat > die.py <<'END'\n\(Self.dying)\nEND")
        let program = try #require(CofferProgram.path)
        let control = try vault.shell("python3 die.py sleep 10")
        try #require(control == "core" || control == "none", "\(control)")
        if control == "none" {
            print("core dumps cannot be made here: nothing to see")
            return
        }
        #expect(
            try vault.shell("python3 die.py '\(program)' mount --foreground --passphrase-file key vault mnt") == "none")
        try vault.shell("fusermount3 -uz mnt || umount -l mnt")
        // While it asks for a passphrase, and while it works one out.
        #expect(try vault.shell("mkfifo asked; python3 die.py '\(program)' ls --passphrase-file asked vault") == "none")
        #expect(
            try vault.shell(
                "python3 die.py '\(program)' key add --passphrase-file key --new-passphrase-file key --kdf sensitive vault passphrase"
            ) == "none")
        #expect(try vault.shell("ls | grep -c '^core' || true") == "0")
    }

    /// Starts a program, lets it come to its work, kills it with SIGABRT, and says whether the kernel dumped it.
    private static let dying = """
        import os, resource, signal, sys, time
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        child = os.fork()
        if child == 0:
            os.dup2(os.open("/dev/null", os.O_RDWR), 2)
            # Whoever runs the tests may have blocked it.
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            os.environ["COFFER_STATE_DIR"] = os.getcwd() + "/state"
            os.execvp(sys.argv[1], sys.argv[1:])
        time.sleep(1.5)
        os.kill(child, signal.SIGABRT)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status): print("core" if os.WCOREDUMP(status) else "none")
        else: print("ended by itself", os.waitstatus_to_exitcode(status))
        for name in os.listdir("."):
            if name.startswith("core") and os.path.isfile(name) and sys.argv[1] == "sleep": os.unlink(name)
        """
}
