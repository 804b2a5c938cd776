import Glibc
import SystemPackage
import Testing

/// What lies under a mount goes wrong.
@Suite(.mounts) struct BackingTests {
    private let vault: TestVault

    init() throws {
        vault = try TestVault()
    }

    /// A small ext4 at `disk`, with the vault on it; unmounted by the one who asked.
    private func makeDisk() throws {
        try vault.shell(
            """
            truncate -s 16M image; mkfs.ext4 -q -m 0 image; mkdir disk; mount -o loop image disk
            mv vault disk/; ln -s disk/vault vault
            """)
    }

    private func removeDisk() {
        do {
            // A mount that a failed test left goes first.
            try vault.shell(
                "umount -l mnt 2> /dev/null || true; for i in $(seq 100); do umount disk && break; sleep 0.1; done; ! mountpoint -q disk"
            )
        } catch {
            Issue.record("the disk stays mounted: \(error)")
        }
    }

    @Test(.loopDevices) func aFullDisk() throws {
        try makeDisk()
        defer { removeDisk() }
        let mount = try vault.mount()
        try vault.shell("mkdir mnt/d; head -c 2M /dev/urandom > plain; cp plain mnt/d/before; sync mnt/d/before")
        let full = try vault.tryShell("dd if=/dev/urandom of=mnt/big bs=64K count=400 conv=fsync 2>&1")
        #expect(full.status != 0 && full.output.contains("No space left on device"), "\(full)")
        // Files that are there can be read, small writes in place still work or say why not, and nothing is torn.
        #expect(try vault.tryShell("cmp plain mnt/d/before").status == 0)
        for script in [
            "echo small > mnt/small && sync mnt/small", "mkdir mnt/e",
            "head -c 100K /dev/zero >> mnt/d/before && sync mnt/d/before",
        ] {
            let outcome = try vault.tryShell(script)
            #expect(outcome.status == 0 || outcome.errors.contains("No space left"), "\(outcome)")
        }
        let second = try mount.remount()
        #expect(try vault.tryShell("cmp -n 2097152 plain mnt/d/before").status == 0)
        #expect(try vault.tryShell("cat mnt/big mnt/d/before > /dev/null").status == 0)
        // Space that is given back can be used.
        try vault.shell(
            "rm mnt/big; head -c 3M /dev/urandom > plain3; cp plain3 mnt/after; sync mnt/after; cp plain mnt/again")
        let third = try second.remount()
        #expect(
            try vault.tryShell("cmp plain3 mnt/after && cmp plain mnt/again && cmp -n 2097152 plain mnt/d/before")
                .status == 0)
        #expect(try vault.log().filter { $0.contains("damaged") } == [])
        try third.unmount()
    }

    /// Write-back or not, a program that writes on and on hears of a full disk when it writes.
    @Test(.loopDevices, .programs("python3")) func writingFailsOnAFullDisk() throws {
        try makeDisk()
        defer { removeDisk() }
        let mount = try vault.mount()
        let said = try vault.shell(
            """
            cat > write.py << 'END'
            import os
            f = os.open('mnt/f', os.O_CREAT | os.O_RDWR); n = 0
            def say(work):
                try: work(); print('done')
                except OSError as error: print(error.strerror)
            def write():
                global n
                while n < 4 << 30: n += os.write(f, b'A' * 65536)
            say(write); say(lambda: os.fsync(f)); say(write)
            say(lambda: os.stat('mnt/f'))
            # Looking and reading still work, to the end and through the same handle.
            size = os.fstat(f).st_size; print(os.lseek(f, 0, os.SEEK_END) == size, len(os.pread(f, 100, size - 5)))
            print(len(os.pread(f, 4096, 0)), n < 1 << 30)
            os.ftruncate(f, 4096); os.lseek(f, 0, os.SEEK_END)
            say(lambda: os.write(f, b'C' * 65536)); say(lambda: os.fsync(f))
            print(os.pread(f, 99999, 0) == b'A' * 4096 + b'C' * 65536)
            END
            python3 write.py
            """)
        let full = "No space left on device"
        let wanted = [full, full, full, "done", "True 5", "4096 True", "done", "done", "True"]
        #expect(said.split(separator: "\n").map(String.init) == wanted)
        try mount.unmount()
    }

    @Test(.loopDevices) func aReadOnlyDisk() throws {
        try makeDisk()
        defer { removeDisk() }
        let writer = try vault.mount()
        try vault.shell("echo x > mnt/x")
        try writer.unmount()
        try vault.shell("mount -o remount,ro disk")
        let mount = try vault.mount()
        #expect(try vault.shell("cat mnt/x") == "x")
        #expect(throws: Errno.readOnlyFileSystem) { try put([1], in: mount.file("y")) }
        try mount.unmount()
        #expect(mount.driver.outcome(0).errors.contains("read-only"))
    }

    @Test func aBackingFileThatIsRemoved() throws {
        let mount = try vault.mount()
        try vault.shell("mkdir mnt/d; echo x > mnt/d/x; echo y > mnt/d/y; echo z > mnt/z")
        let open = try OpenFile(mount.file("d/y"))
        let second = "vault/" + (try vault.storedNames().filter { !$0.isEmpty }.joined(separator: " vault/"))
        try vault.shell("for d in \(second); do if [ -d $d ]; then rm -r $d; fi; done")
        // The open file is whole; what is gone is an error, not empty, and the rest is as it was.
        try open.write([1], at: 1)
        #expect(try open.read(10) == [UInt8(ascii: "y"), 1])
        for path in ["d/x", "d/none", "d"] {
            do throws(Errno) {
                let file = try OpenFile(mount.file(path), O_RDONLY)
                _ = try file.read(10)
                // What the kernel still keeps of it may be read, but not more.
                #expect(path != "d/none")
            } catch {
                #expect([.noSuchFileOrDirectory, .staleNFSFileHandle, .ioError, .isDirectory].contains(error))
            }
        }
        #expect(throws: Errno.self) { try put([1], in: mount.file("d/new")) }
        #expect(try contents(of: mount.file("z")) == Array("z\n".utf8))
        #expect(mount.driver.poll() == nil)
    }

    @Test func filesThatAreNoneOfCoffers() throws {
        let mount = try vault.mount()
        try vault.shell("mkdir mnt/d; echo x > mnt/d/x")
        try mount.unmount()
        let directory = try vault.storedName()
        try vault.shell(
            """
            cd vault; for d in . \(directory); do
              (cd $d; echo a > .DS_Store; echo b > 'notes (conflict).txt'; mkdir lost+found; echo c > coffer.txt; echo d > coffer.long.x
               echo > c; echo > cABC; echo > 'c with space aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'; ln -s / link; mkfifo fifo)
            done
            """)
        let second = try vault.mount()
        #expect(try vault.shell("cd mnt; find . | LC_ALL=C sort") == ".\n./d\n./d/x")
        #expect(try vault.log() == [])
        // They stand in the way of nothing that can be seen, so their directory is not empty to the system only.
        let outcome = try vault.tryShell("rm mnt/d/x && rmdir mnt/d")
        #expect(outcome.status == 0 || outcome.errors.contains("not empty"), "\(outcome)")
        try second.unmount()
    }

    @Test func emptyCiphertextFiles() throws {
        let mount = try vault.mount()
        try vault.shell("echo x > mnt/x; : > mnt/empty")
        try mount.unmount()
        for name in try vault.storedNames() { try vault.shell(": > vault/\(name)") }
        let second = try vault.mount()
        for name in ["x", "empty"] {
            #expect(throws: Errno.ioError) { try contents(of: second.file(name)) }
            #expect(throws: Errno.ioError) { try OpenFile(second.file(name)).append([1]) }
        }
        #expect(try vault.log().count == 2)
        // Cutting to nothing is the one way out, since it asks for nothing of what was there.
        try vault.shell("echo new > mnt/x; rm mnt/empty")
        let third = try second.remount()
        #expect(try vault.shell("cat mnt/*") == "new")
        try third.unmount()
    }
}
