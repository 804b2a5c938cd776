import Glibc
import SystemPackage
import Testing

/// Times, modes, owners, extended attributes and ACLs through a mount.
@Suite(.mounts) struct AttributeTests {
    private let vault: TestVault
    private let mount: MountedVault

    init() throws {
        vault = try TestVault()
        mount = try vault.mount()
    }

    @Test func timesAreKeptToTheNanosecond() throws {
        try put(pattern(5000), in: mount.file("a"))
        try check(mkdir(mount.file("d"), 0o755))
        try check(symlink("a", mount.file("l")))
        for name in ["a", "d", "l"] {
            var times = [
                timespec(tv_sec: 1_234_567_890, tv_nsec: 123_456_789), timespec(tv_sec: -86_400, tv_nsec: 987_654_321),
            ]
            try check(utimensat(AT_FDCWD, mount.file(name), &times, AT_SYMLINK_NOFOLLOW))
        }
        let second = try mount.remount()
        for name in ["a", "d", "l"] {
            let found = try status(of: second.file(name))
            #expect(found.st_mtim.tv_sec == -86_400 && found.st_mtim.tv_nsec == 987_654_321, "\(name)")
            #expect(found.st_atim.tv_sec == 1_234_567_890 && found.st_atim.tv_nsec == 123_456_789, "\(name)")
        }
    }

    @Test func timesFarFromNow() throws {
        try vault.shell(
            """
            cd mnt; touch -d '1911-11-11 11:11:11.111111111 UTC' old; touch -d '2106-06-06 06:06:06.6 UTC' new
            echo x > both; touch -d '1969-12-31 23:59:59.5 UTC' both
            """)
        let second = try mount.remount()
        #expect(
            try vault.shell("TZ=UTC stat -c '%n %y' mnt/old mnt/new mnt/both").split(separator: "\n") == [
                "mnt/old 1911-11-11 11:11:11.111111111 +0000", "mnt/new 2106-06-06 06:06:06.600000000 +0000",
                "mnt/both 1969-12-31 23:59:59.500000000 +0000",
            ])
        try second.unmount()
    }

    @Test func aTimeSetAfterAWriteStaysThroughTheWriteBack() throws {
        try put(pattern(100_000), in: mount.file("a"))
        do {
            let file = try OpenFile(mount.file("a"))
            try file.write(pattern(50_000, seed: 1), at: 10_000)
            var times = [timespec(tv_sec: 5, tv_nsec: 6), timespec(tv_sec: 7, tv_nsec: 8)]
            try check(futimens(file.descriptor, &times))
        }
        usleep(700_000)
        #expect(try status(of: mount.file("a")).st_mtim.tv_sec == 7)
        let second = try mount.remount()
        let found = try status(of: second.file("a"))
        #expect(found.st_mtim.tv_sec == 7 && found.st_mtim.tv_nsec == 8)
        #expect(try contents(of: second.file("a")).count == 100_000)
    }

    @Test func rsyncKeepsTimesRightAfterWriting() throws {
        try vault.shell(
            """
            mkdir src; for i in 1 2 3 4 5; do head -c ${i}0001 /dev/urandom > src/$i; touch -d "200$i-01-01" src/$i; done; touch -d 1999-09-09 src
            rsync -a src/ mnt/dst/
            """)
        #expect(try vault.shell("rsync -ain --modify-window=-1 src/ mnt/dst/") == "")
        let second = try mount.remount()
        #expect(try vault.shell("rsync -ain --modify-window=-1 src/ mnt/dst/") == "")
        #expect(try vault.shell("rsync -acin --modify-window=-1 src/ mnt/dst/") == "")
        try second.unmount()
    }

    @Test func writingChangesTheTime() throws {
        try put([1], in: mount.file("a"))
        var times = [timespec(tv_sec: 5, tv_nsec: 0), timespec(tv_sec: 5, tv_nsec: 0)]
        try check(utimensat(AT_FDCWD, mount.file("a"), &times, 0))
        try OpenFile(mount.file("a"), O_WRONLY).write([2])
        #expect(try status(of: mount.file("a")).st_mtim.tv_sec > 1_000_000)
        try check(utimensat(AT_FDCWD, mount.file("a"), &times, 0))
        try check(truncate(mount.file("a"), 0))
        #expect(try status(of: mount.file("a")).st_mtim.tv_sec > 1_000_000)
        let second = try mount.remount()
        #expect(try status(of: second.file("a")).st_mtim.tv_sec > 1_000_000)
    }

    @Test(arguments: [0, 0o7, 0o100, 0o444, 0o644, 0o777, 0o1777, 0o2755, 0o4711, 0o7777])
    func modes(_ mode: Int) throws {
        let mode = mode_t(mode)
        try put(pattern(10), in: mount.file("f"))
        try check(mkdir(mount.file("d"), 0o755))
        try check(chmod(mount.file("f"), mode))
        try check(chmod(mount.file("d"), mode))
        let second = try mount.remount()
        #expect(try status(of: second.file("f")).st_mode & 0o7777 == mode)
        #expect(try status(of: second.file("d")).st_mode & 0o7777 == mode)
        try check(chmod(second.file("d"), 0o755))
    }

    @Test(.root) func owners() throws {
        try vault.shell("cd mnt; echo > f; mkdir d; ln -s x l; chown -h 12345:54321 f d l; chown :7 f")
        let second = try mount.remount()
        #expect(try vault.shell("stat -c %u:%g mnt/f mnt/d mnt/l") == "12345:7\n12345:54321\n12345:54321")
        // A change of owner takes set-user-id away, as anywhere.
        try vault.shell("chmod 4755 mnt/f; chown 1 mnt/f")
        #expect(try vault.shell("stat -c %a mnt/f") == "755")
        try second.unmount()
    }

    @Test(.programs("setfattr", "getfattr")) func extendedAttributes() throws {
        try vault.shell(
            """
            cd mnt; echo > f; mkdir d
            setfattr -n user.comment -v hello f; setfattr -n user.comment -v 'of d' d; setfattr -n user.empty f
            setfattr -n user.$(printf %0200d 7) -v long f
            setfattr -n user.gone -v x f; setfattr -x user.gone f
            setfattr -n user.comment -v changed f
            """)
        let second = try mount.remount()
        let names = try vault.shell("getfattr --absolute-names mnt/f | grep -v '^#' | cut -c1-30")
        #expect(
            names.split(separator: "\n").map(String.init).sorted() == [
                "user." + String(repeating: "0", count: 25), "user.comment", "user.empty",
            ])
        #expect(try vault.shell("getfattr --only-values -n user.comment mnt/f mnt/d") == "changedof d")
        #expect(try vault.shell("getfattr --only-values -n user.$(printf %0200d 7) mnt/f") == "long")
        #expect(try vault.tryShell("getfattr -n user.gone mnt/f").status == 1)
        // Nothing of it can be read in the vault.
        #expect(try vault.shell("getfattr -R -d -m - vault | grep -ciE 'comment|hello|changed' || true") == "0")
        try second.unmount()
    }

    @Test(.root, .programs("setfattr", "getfattr")) func attributesOfLinksAndOfRoot() throws {
        try vault.shell(
            """
            cd mnt; ln -s nowhere l; mkfifo p; echo > f
            setfattr -h -n trusted.one -v 1 l; setfattr -n trusted.two -v 2 p; setfattr -n trusted.three -v 3 f
            setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 f
            """)
        let second = try mount.remount()
        #expect(
            try vault.shell(
                """
                cd mnt; getfattr -h --only-values -n trusted.one l; getfattr --only-values -n trusted.two p
                getfattr --only-values -n trusted.three f
                """) == "123")
        #expect(try vault.shell("getfattr -e hex --only-values -n security.capability mnt/f | wc -c") == "20")
        try second.unmount()
    }

    @Test(.programs("setfacl", "getfacl")) func accessControlLists() throws {
        try vault.shell(
            """
            cd mnt; echo > f; mkdir d; setfacl -m u:12345:rw,g:54321:r f; setfacl -d -m u:12345:rwx d; setfacl -m u:1:x d
            echo > d/inherits
            """)
        let second = try mount.remount()
        let shown = try vault.shell("cd mnt; getfacl -cn f d d/inherits")
        for line in ["user:12345:rw-", "group:54321:r--", "default:user:12345:rwx", "user:1:--x"] {
            #expect(shown.split(separator: "\n").contains { $0.hasPrefix(line) }, "\(line) in \(shown)")
        }
        #expect(try vault.shell("getfacl -cn mnt/d/inherits | grep -c '^user:12345'") == "1")
        try second.unmount()
    }
}
