import CLinux
import Glibc
import SystemPackage
import Testing

/// Files that are open while something else happens to them.
@Suite(.mounts) struct OpenFileTests {
    private let vault: TestVault
    private let mount: MountedVault

    init() throws {
        vault = try TestVault()
        mount = try vault.mount()
    }

    @Test func anUnlinkedFileLivesUntilItIsClosed() throws {
        try put(pattern(10_000), in: mount.file("a"))
        do {
            let file = try OpenFile(mount.file("a"))
            try check(unlink(mount.file("a")))
            #expect(throws: Errno.noSuchFileOrDirectory) { try status(of: mount.file("a")) }
            #expect(try file.readAll() == pattern(10_000))
            try file.write(pattern(5000, seed: 1), at: 9000)
            try file.sync()
            #expect(try file.readAll() == written(pattern(5000, seed: 1), at: 9000, over: pattern(10_000)))
            #expect(try file.status().st_nlink == 0)
            try file.truncate(to: 3)
            #expect(try file.readAll() == Array(pattern(10_000).prefix(3)))
        }
        #expect(try vault.storedNames() == [])
        try mount.unmount()
    }

    @Test func aNameCanBeUsedAgainWhileTheOldFileIsOpen() throws {
        try put([1], in: mount.file("a"))
        let old = try OpenFile(mount.file("a"))
        try check(unlink(mount.file("a")))
        try put([2, 2], in: mount.file("a"))
        try old.write([3], at: 1)
        #expect(try old.readAll() == [1, 3])
        #expect(try contents(of: mount.file("a")) == [2, 2])
    }

    @Test func aReplacedFileLivesUntilItIsClosed() throws {
        try put(pattern(5000, seed: 1), in: mount.file("old"))
        try put(pattern(6000, seed: 2), in: mount.file("new"))
        let old = try OpenFile(mount.file("old"))
        try rename(mount.file("new"), to: mount.file("old"))
        try old.write([7], at: 0)
        #expect(try old.readAll() == written([7], at: 0, over: pattern(5000, seed: 1)))
        #expect(try contents(of: mount.file("old")) == pattern(6000, seed: 2))
    }

    @Test func aRenamedFileStaysTheSame() throws {
        try put(pattern(100), in: mount.file("a"))
        try check(mkdir(mount.file("d"), 0o755))
        do {
            let file = try OpenFile(mount.file("a"))
            try rename(mount.file("a"), to: mount.file("d/b"))
            try file.write([1, 2, 3], at: 100)
        }
        #expect(try contents(of: mount.file("d/b")) == pattern(100) + [1, 2, 3])
        let second = try mount.remount()
        #expect(try contents(of: second.file("d/b")) == pattern(100) + [1, 2, 3])
    }

    @Test func hardLinksShareContentAndSize() throws {
        do {
            let one = try OpenFile(mount.file("a"), O_RDWR | O_CREAT)
            try check(link(mount.file("a"), mount.file("b")))
            let other = try OpenFile(mount.file("b"))
            try one.write(pattern(9000), at: 0)
            #expect(try other.readAll() == pattern(9000))
            #expect(try status(of: mount.file("b")).st_size == 9000)
            try other.write([9], at: 20_000)
            #expect(try one.status().st_size == 20_001)
            #expect(try one.read(10, at: 19_991) == zeros(9) + [9])
            try check(truncate(mount.file("a"), 5))
            #expect(try other.readAll() == Array(pattern(9000).prefix(5)))
            #expect(try one.status().st_nlink == 2)
            #expect(try status(of: mount.file("a")).st_ino == status(of: mount.file("b")).st_ino)
        }
        try check(unlink(mount.file("a")))
        #expect(try status(of: mount.file("b")).st_nlink == 1)
        let second = try mount.remount()
        #expect(try contents(of: second.file("b")) == Array(pattern(9000).prefix(5)))
    }

    /// The kernel goes on to tell of the times of a file that lost the only one of its names that it has asked for.
    @Test func aHardLinkWhoseOtherNameIsNotKnown() throws {
        try vault.shell("cd mnt; for i in 1 2 3; do echo one > a$i; ln a$i b$i; done; ln -s target s; ln s t")
        let second = try mount.remount()
        try vault.shell(
            """
            cd mnt
            cat a1; echo two >> a1; rm a1; sync -f .; [ "$(cat b1)" = "$(printf 'one\\ntwo')" ]
            echo new > n; echo two >> a2; mv n a2; sync -f .; [ "$(cat a2 b2)" = "$(printf 'new\\none\\ntwo')" ]
            exec 3<> a3; rm a3; touch -d 2001-02-03 /proc/self/fd/3; exec 3<&-; sync -f .; [ $(stat -c %Y b3) = $(date -d 2001-02-03 +%s) ]
            readlink s; rm s; sync -f .; [ $(readlink t) = target ]; rm b1 b2 b3 t; sync -f .; [ "$(ls)" = a2 ]
            """)
        try second.unmount()
        #expect(try vault.log() == [])
    }

    @Test func cuttingByPathWhileAHandleWrites() throws {
        let file = try OpenFile(mount.file("a"), O_RDWR | O_CREAT)
        for round in 0..<50 {
            try file.write(pattern(30_000, seed: round))
            let size = round * 397
            try check(truncate(mount.file("a"), size))
            #expect(try file.readAll() == Array(pattern(30_000, seed: round).prefix(size)))
            #expect(try status(of: mount.file("a")).st_size == size)
            try file.write([1], at: size + 5000)
            #expect(
                try file.readAll()
                    == written([1], at: size + 5000, over: Array(pattern(30_000, seed: round).prefix(size))))
        }
    }

    @Test func emptyingWhileAHandleWrites() throws {
        let expected = [2] + zeros(9) + [1]
        do {
            let file = try OpenFile(mount.file("a"), O_RDWR | O_CREAT)
            try file.write(pattern(50_000))
            let other = try OpenFile(mount.file("a"), O_WRONLY | O_TRUNC)
            #expect(try file.readAll() == [])
            try file.write([1], at: 10)
            try other.write([2], at: 0)
            #expect(try file.readAll() == expected)
        }
        let second = try mount.remount()
        #expect(try contents(of: second.file("a")) == expected)
    }

    @Test func aFileOpenedForWritingOnlyIsReadByNobodyButIsWrittenWell() throws {
        try put(pattern(10_000), in: mount.file("a"))
        let file = try OpenFile(mount.file("a"), O_WRONLY)
        #expect(throws: Errno.badFileDescriptor) { try file.readAll() }
        try file.write([1, 2, 3], at: 5000)
        #expect(
            try contents(of: mount.file("a"))
                == written([1, 2, 3], at: 5000, over: pattern(10_000)))
    }

    @Test func aFileWithoutAnyModeIsWrittenByTheHandleThatMadeIt() throws {
        let file = try OpenFile(mount.file("a"), O_RDWR | O_CREAT | O_EXCL, mode: 0)
        try file.write(pattern(5000))
        #expect(try file.readAll() == pattern(5000))
        #expect(try status(of: mount.file("a")).st_mode & 0o7777 == 0)
    }
}
