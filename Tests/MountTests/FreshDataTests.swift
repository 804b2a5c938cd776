import Glibc
import Testing

/// What one program has written is what another reads, though the driver has not seen it yet; and what the kernel forgets must be found again.
@Suite(.mounts) struct FreshDataTests {
    private let vault: TestVault
    private let mount: MountedVault

    init() throws {
        vault = try TestVault()
        mount = try vault.mount()
    }

    @Test func copyToolsThatLookForHolesSeeUnwrittenData() throws {
        // The writer must be a process that neither forks nor closes anything: either would hand its data over.
        let said = try vault.shell(
            """
            python3 -c "
            import os, time
            f = os.open('mnt/f', os.O_WRONLY | os.O_CREAT)
            os.write(f, os.urandom(3 << 20))
            open('ready', 'w').close()
            while not os.path.exists('done'): time.sleep(0.05)
            os.close(f)" &
            while [ ! -e ready ]; do sleep 0.05; done
            cp --sparse=auto mnt/f outside
            cp mnt/f mnt/inside
            tar --sparse -cf archive.tar mnt/f
            touch done
            wait
            cmp mnt/f outside && cmp mnt/f mnt/inside && tar -xOf archive.tar mnt/f | cmp - mnt/f && echo same
            """)
        #expect(said == "same")
        try mount.unmount()
    }

    @Test func aFileThatIsReadCanBeEmptiedByAReader() throws {
        try put(pattern(9000), in: mount.file("a"))
        do {
            let reader = try OpenFile(mount.file("a"), O_RDONLY)
            let emptying = try OpenFile(mount.file("a"), O_RDONLY | O_TRUNC)
            #expect(try emptying.status().st_size == 0)
            #expect(try reader.readAll() == [])
        }
        try mount.unmount()
    }

    @Test(.root) func aHardLinkIsFoundThoughItsOtherParentWasForgottenAndMoved() throws {
        try vault.shell("mkdir mnt/a mnt/b; echo x > mnt/a/f; ln mnt/a/f mnt/b/f")
        let again = try mount.remount()
        let said = try vault.shell(
            """
            cat mnt/b/f mnt/a/f > /dev/null
            exec 3< mnt/a/f
            echo 2 > /proc/sys/vm/drop_caches
            mv mnt/b mnt/c
            exec 3<&-
            setfattr -n user.k -v v mnt/a/f && cat mnt/a/f mnt/c/f && getfattr --only-values -n user.k mnt/c/f
            """)
        #expect(said.hasPrefix("x\nx\nv"))
        try again.unmount()
    }

    @Test func aFifoInThePlaceOfRecordsKeepsNobodyWaiting() throws {
        try vault.shell("mkdir mnt/d; echo x > mnt/d/f")
        try mount.unmount()
        try vault.shell("mkfifo \"$(find vault -mindepth 1 -type d)/coffer.dir.new\"")
        let again = try vault.mount()
        #expect(try vault.shell("timeout 20 mv mnt/d mnt/e && cat mnt/e/f") == "x")
        try again.unmount()
    }
}
