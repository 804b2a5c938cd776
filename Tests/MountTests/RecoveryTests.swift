import Glibc
import SystemPackage
import Testing

/// After a driver was killed: what the next mount makes of it.
@Suite(.mounts) struct RecoveryTests {
    private let vault: TestVault

    init() throws {
        vault = try TestVault()
    }

    /// Kills the driver, as a power cut would but for what the system keeps in memory.
    private func kill(_ mount: MountedVault) throws {
        mount.driver.signal(SIGKILL)
        #expect(mount.driver.wait(seconds: 20) == 128 + SIGKILL)
        try vault.shell(Machine.isRoot ? "umount -l mnt" : "fusermount3 -uz mnt")
    }

    /// Runs what must be done at the end, whatever happened.
    private func run(_ body: () throws -> Void) {
        do {
            try body()
        } catch {
            Issue.record("\(error)")
        }
    }

    /// Some files, and changes to them that were synced or not.
    private func work(_ mount: MountedVault) throws {
        try vault.shell(
            """
            mkdir -p mnt/d/e; head -c 300K /dev/urandom > plain; cp plain mnt/d/f; sync mnt/d/f
            head -c 9000 /dev/urandom > piece
            for target in plain mnt/d/f; do dd if=piece of=$target bs=1000 seek=77 conv=notrunc status=none; done
            sync mnt/d/f; cp plain mnt/new; mv mnt/d mnt/c; ln mnt/c/f mnt/link; rm mnt/c/f; head -c 10 plain >> mnt/link
            head -c 10 plain > end; cat end >> plain; sync mnt/link
            """)
    }

    private func expectWork() throws {
        try vault.shell("cmp plain mnt/link; cmp -n 300000 plain mnt/new; [ -d mnt/c/e ]")
        #expect(try vault.log().filter { $0.contains("damaged") } == [])
    }

    @Test func aKilledDriverLosesNothingAndTheLogGoesWhenAllIsWell() throws {
        let mount = try vault.mount()
        #expect(try vault.shell("ls -A vault/coffer.log; ls -A mnt") == "0\n1\nCACHEDIR.TAG")
        #expect(try vault.shell("stat -c %a vault/coffer.log vault/coffer.log/0") == "700\n600")
        try work(mount)
        try kill(mount)
        #expect(try vault.shell("ls -A vault/coffer.log") == "0\n1\nCACHEDIR.TAG")
        let second = try vault.mount()
        #expect(try vault.log().filter { $0.contains("it was not unmounted the last time") }.count == 1)
        try expectWork()
        try second.unmount()
        #expect(try vault.shell("ls -d vault/coffer.log 2> /dev/null || true") == "")
        let third = try vault.mount()
        try expectWork()
        #expect(try vault.log().filter { $0.contains("it was not unmounted the last time") }.count == 1)
        try third.unmount()
    }

    /// A copy of the vault of that moment, log and all, opens as well; so does one without the log.
    @Test func copiesOfAVaultThatWasNotUnmounted() throws {
        try work(try vault.mount(), andKill: true)
        try vault.shell("cp -a vault copy; cp -a vault bare; rm -r bare/coffer.log; rm -r vault")
        for name in ["copy", "bare"] {
            let mount = try vault.mount(vault: name)
            try expectWork()
            try mount.unmount()
            #expect(try vault.shell("ls -d \(name)/coffer.log 2> /dev/null || true") == "")
        }
    }

    private func work(_ mount: MountedVault, andKill: Bool) throws {
        try work(mount)
        if andKill { try kill(mount) }
    }

    /// The log of an earlier day, put back beside newer files, takes nothing back.
    @Test func anOldLogBesideNewerFiles() throws {
        try work(try vault.mount(), andKill: true)
        try vault.shell("cp -a vault/coffer.log oldlog")
        let mount = try vault.mount()
        try vault.shell(
            """
            head -c 200K /dev/urandom > plain; cp plain mnt/link; rm mnt/new; sync mnt/link
            dd if=piece of=mnt/link bs=1000 seek=55 conv=notrunc status=none
            dd if=piece of=plain bs=1000 seek=55 conv=notrunc status=none; truncate -s 120K plain mnt/link
            """)
        try mount.unmount()
        try vault.shell("cp -a oldlog vault/coffer.log")
        let second = try vault.mount()
        try vault.shell("cmp plain mnt/link; [ ! -e mnt/new ]")
        try second.unmount()
    }

    @Test func aReadOnlyMountSaysThatRecoveryIsDue() throws {
        try work(try vault.mount(), andKill: true)
        let before = try vault.shell("find vault -type f -exec md5sum {} + | sort")
        let mount = try vault.mount(["--read-only"])
        #expect(try vault.log().contains { $0.contains("was not unmounted") })
        try expectWork()
        try mount.unmount()
        #expect(try vault.shell("find vault -type f -exec md5sum {} + | sort") == before)
        // The first of those who share recovers, and no log is kept then.
        let shared = try vault.mount(["--shared"])
        try expectWork()
        #expect(try vault.shell("ls -d vault/coffer.log 2> /dev/null || true") == "")
        try shared.unmount()
    }

    @Test func aMountWithoutALog() throws {
        for options in [["--no-log"], ["-o", "no_log"]] {
            let mount = try vault.mount(options)
            #expect(try vault.shell("ls -d vault/coffer.log 2> /dev/null || true; echo x > mnt/f; cat mnt/f") == "x")
            try mount.unmount()
        }
        #expect(try vault.log() == [])
    }

    /// What stands in the log's place is none: a person is told, and the mount works.
    @Test func somethingElseInTheLogsPlace() throws {
        try vault.shell("echo mine > vault/coffer.log")
        let mount = try vault.mount()
        #expect(try vault.log().contains { $0.contains("without an intent log") })
        try vault.shell("echo x > mnt/f; sync mnt/f; cat mnt/f")
        try mount.unmount()
        #expect(try vault.shell("cat vault/coffer.log") == "mine")
    }

    /// A log that cannot be recovered from keeps the vault from being written to, and from nothing else.
    @Test(.root, .programs("chattr")) func aLogThatCannotBeWritten() throws {
        try work(try vault.mount(), andKill: true)
        guard try vault.tryShell("chattr +i vault/coffer.log/0").status == 0 else { return }
        defer { run { try vault.shell("chattr -i vault/coffer.log/0 2> /dev/null || true") } }
        for options in [[], ["--no-log"], ["--shared"]] {
            let outcome = try CofferProgram.run(
                ["mount", "--passphrase-file", "key"] + options + ["vault", "mnt"], in: vault.directory)
            #expect(outcome.status == 11 && outcome.errors.contains("cannot be recovered now"), "\(outcome)")
        }
        let reading = try vault.mount(["--read-only"])
        try expectWork()
        try reading.unmount()
        try vault.shell("chattr -i vault/coffer.log/0")
        let mount = try vault.mount()
        try expectWork()
        try mount.unmount()
    }

    /// On a disk without room the mount does without a log, says so, and leaves nothing of one.
    @Test(.loopDevices) func noRoomForALog() throws {
        try vault.shell(
            """
            truncate -s 6M image; mkfs.ext4 -q -m 0 image; mkdir disk; mount -o loop image disk; cp -a vault disk/
            dd if=/dev/zero of=disk/filler bs=4k 2> /dev/null || true
            """)
        defer { run { try vault.shell("umount -l mnt 2> /dev/null || true; umount disk") } }
        let mount = try vault.mount(vault: "disk/vault")
        #expect(try vault.log().contains { $0.contains("without an intent log (No space left on device)") })
        #expect(try vault.shell("ls -A disk/vault") == "coffer.json")
        try vault.shell("rm disk/filler; echo x > mnt/f; sync mnt/f; cat mnt/f")
        try mount.unmount()
        let second = try vault.mount(vault: "disk/vault")
        #expect(try vault.shell("cat mnt/f; ls -d disk/vault/coffer.log") == "x\ndisk/vault/coffer.log")
        try second.unmount()
    }

    /// Bytes that are no segments, or damaged ones, are no log.
    @Test func aLogThatMeansNothing() throws {
        try work(try vault.mount(), andKill: true)
        for script in [
            "head -c 100K /dev/urandom > vault/coffer.log/0", "truncate -s 10 vault/coffer.log/1",
            "rm vault/coffer.log/0",
            ": > vault/coffer.log/0; mkdir vault/coffer.log/left.x; rmdir vault/coffer.log/left.x",
        ] {
            try vault.shell(script)
            let mount = try vault.mount()
            try expectWork()
            try kill(mount)
        }
    }

    /// Files that the driver may not open by their modes are recovered like others.
    @Test func aFileThatIsClosedToItsOwner() throws {
        let mount = try vault.mount()
        do {
            let file = try OpenFile(mount.file("f"), O_RDWR | O_CREAT)
            try file.write(pattern(50_000))
            try file.sync()
            try vault.shell("chmod 0444 mnt/f")
            try file.write(pattern(5000, seed: 1), at: 10_000)
            try file.sync()
            mount.driver.signal(SIGKILL)
            _ = mount.driver.wait(seconds: 20)
        }
        try vault.shell(Machine.isRoot ? "umount -l mnt" : "fusermount3 -uz mnt")
        let second = try vault.mount()
        var expected = pattern(50_000)
        expected.replaceSubrange(10_000..<15_000, with: pattern(5000, seed: 1))
        #expect(try contents(of: second.file("f")) == expected)
        #expect(try vault.shell("stat -c %a mnt/f") == "444")
        try second.unmount()
    }
}
