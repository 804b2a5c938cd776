import Glibc
import SystemPackage
import Testing

/// The ways in which a mount ends; nothing is lost by any of them.
@Suite(.mounts) struct EndingTests {
    private let vault: TestVault

    init() throws {
        vault = try TestVault()
    }

    private func expectInVault(_ name: String, _ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation)
        throws
    {
        let mount = try vault.mount()
        #expect(try contents(of: mount.file(name)) == bytes, sourceLocation: sourceLocation)
        #expect(try vault.log().filter { $0.contains("damaged") } == [], sourceLocation: sourceLocation)
        try mount.unmount()
    }

    @Test(arguments: [SIGTERM, SIGINT, SIGHUP])
    func aSignalUnmounts(_ signal: Int32) throws {
        let mount = try vault.mount()
        try put(pattern(3_000_000), in: mount.file("a"))
        mount.driver.signal(signal)
        try mount.expectEnd()
        try expectInVault("a", pattern(3_000_000))
    }

    @Test(arguments: [SIGTERM, SIGINT])
    func aSignalWhileAFileIsOpen(_ signal: Int32) throws {
        let mount = try vault.mount()
        do {
            let file = try OpenFile(mount.file("a"), O_RDWR | O_CREAT)
            try file.write(pattern(3_000_000))
            mount.driver.signal(signal)
            try eventually("the mount is detached") { !isMounted(mount.path) }
            // The program goes on and loses nothing.
            try file.write(pattern(1000, seed: 1), at: 3_000_000)
            #expect(try file.readAll() == pattern(3_000_000) + pattern(1000, seed: 1))
            #expect(mount.driver.poll() == nil)
        }
        try mount.expectEnd()
        try expectInVault("a", pattern(3_000_000) + pattern(1000, seed: 1))
    }

    @Test func unmountingABusyMount() throws {
        let mount = try vault.mount()
        do {
            let file = try OpenFile(mount.file("a"), O_RDWR | O_CREAT)
            try file.write([1, 2, 3])
            let busy = try vault.coffer("unmount", "mnt")
            #expect(busy.status == 8 && busy.errors.contains("in use"), "\(busy)")
            #expect(isMounted(mount.path))
            let lazy = try vault.coffer("unmount", "--lazy", "mnt")
            #expect(lazy.status == 0, "\(lazy)")
            #expect(!isMounted(mount.path))
            try file.write([4], at: 3)
        }
        try mount.expectEnd()
        try expectInVault("a", [1, 2, 3, 4])
    }

    @Test func whatWasSyncedSurvivesTheDriverBeingKilled() throws {
        let mount = try vault.mount()
        do {
            let file = try OpenFile(mount.file("a"), O_RDWR | O_CREAT)
            try file.write(pattern(500_000))
            try file.sync()
            try file.write(pattern(100_000, seed: 1), at: 500_000)
            mount.driver.signal(SIGKILL)
            #expect(mount.driver.wait(seconds: 20) == 128 + SIGKILL)
            #expect(throws: Errno.self) { try file.sync() }
        }
        try vault.shell(Machine.isRoot ? "umount -l mnt" : "fusermount3 -uz mnt")
        let second = try vault.mount()
        let found = try contents(of: second.file("a"))
        #expect(Array(found.prefix(500_000)) == pattern(500_000))
        let after = Array(found.dropFirst(500_000))
        #expect(after == Array(pattern(100_000, seed: 1).prefix(after.count)))
        try put([1], in: second.file("b"))
        try second.unmount()
    }

    @Test func unmountingReturnsWhenTheVaultIsClosed() throws {
        for round in 0..<10 {
            let mount = try vault.mount()
            try put(pattern(1_000_000, seed: round), in: mount.file("a"))
            let outcome = try vault.coffer("unmount", "mnt")
            #expect(outcome.status == 0, "\(outcome)")
            // Nobody writes any more, and the vault can be opened again at once.
            let files = try vault.shell("find vault -type f -printf '%s %T@ %C@\\n'; ls -A mnt")
            try vault.shell("sleep 0.05")
            #expect(try vault.shell("find vault -type f -printf '%s %T@ %C@\\n'; ls -A mnt") == files)
            try mount.expectEnd()
        }
        try expectInVault("a", pattern(1_000_000, seed: 9))
    }

    @Test func unmountingWhatIsNotMounted() throws {
        for place in ["mnt", "vault", "none", "/"] {
            let outcome = try vault.coffer("unmount", place)
            #expect(outcome.status == 9, "\(outcome)")
            #expect(outcome.errors.hasPrefix("coffer: "))
        }
    }

    @Test func anIdleMountEndsByItself() throws {
        let mount = try vault.mount(["--idle", "1s"])
        do {
            let file = try OpenFile(mount.file("a"), O_RDWR | O_CREAT)
            try file.write([1, 2, 3])
            usleep(2_500_000)
            #expect(mount.driver.poll() == nil, "ended with a file open")
        }
        try mount.expectEnd()
        try expectInVault("a", [1, 2, 3])
    }

    @Test func aMountInTheBackground() throws {
        for words in [["--idle", "1h"], ["-o", "idle=1h"]] {
            let outcome = try CofferProgram.run(
                ["mount", "--log-file", "log", "--passphrase-file", "key"] + words + ["vault", "mnt"],
                in: vault.directory)
            #expect(outcome.status == 0 && outcome.output == "" && outcome.errors == "", "\(outcome)")
            // It answers at once, and does not keep the directory it was started in.
            #expect(isMounted(vault.directory + "/mnt"))
            try vault.shell("date > mnt/a; cat mnt/a")
            let ended = try vault.coffer("unmount", "mnt")
            #expect(ended.status == 0, "\(ended)")
            #expect(!isMounted(vault.directory + "/mnt"))
        }
        #expect(try vault.log() == [])
    }

    @Test func unmountingAsTheSystemDoes() throws {
        let mount = try vault.mount()
        try put(pattern(2_000_000), in: mount.file("a"))
        try vault.shell(Machine.isRoot ? "umount mnt" : "fusermount3 -u mnt")
        try mount.expectEnd()
        try expectInVault("a", pattern(2_000_000))
    }
}
