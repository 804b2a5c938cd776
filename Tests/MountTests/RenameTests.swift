import CLinux
import Glibc
import SystemPackage
import Testing

/// rename(2) and renameat2(2), and making and removing directories.
@Suite(.mounts) struct RenameTests {
    private let vault: TestVault
    private let mount: MountedVault

    init() throws {
        vault = try TestVault()
        mount = try vault.mount()
    }

    private var tree: [String] {
        get throws {
            try vault.shell("cd mnt; find . -mindepth 1 | LC_ALL=C sort").split(separator: "\n").map(String.init)
        }
    }

    @Test func aRenameReplacesAFile() throws {
        try put([1], in: mount.file("a"))
        try put([2, 2], in: mount.file("b"))
        try rename(mount.file("a"), to: mount.file("b"))
        #expect(try contents(of: mount.file("b")) == [1])
        #expect(try tree == ["./b"])
    }

    @Test func noReplaceRefusesANameThatIsThere() throws {
        try put([1], in: mount.file("a"))
        try put([2], in: mount.file("b"))
        #expect(throws: Errno.fileExists) {
            try rename(mount.file("a"), to: mount.file("b"), COFFER_RENAME_NOREPLACE)
        }
        #expect(try contents(of: mount.file("b")) == [2])
        try rename(mount.file("a"), to: mount.file("c"), COFFER_RENAME_NOREPLACE)
        #expect(try tree == ["./b", "./c"])
    }

    @Test func exchangingFilesAndDirectories() throws {
        try vault.shell("cd mnt; mkdir -p d/sub e; echo one > d/sub/x; echo two > e/y; echo file > f")
        try rename(mount.file("d"), to: mount.file("e"), COFFER_RENAME_EXCHANGE)
        #expect(try vault.shell("cat mnt/e/sub/x mnt/d/y") == "one\ntwo")
        try rename(mount.file("d"), to: mount.file("f"), COFFER_RENAME_EXCHANGE)
        #expect(try vault.shell("cat mnt/f/y mnt/d") == "two\nfile")
        try rename(mount.file("e/sub"), to: mount.file("f"), COFFER_RENAME_EXCHANGE)
        let second = try mount.remount()
        #expect(try vault.shell("cat mnt/e/sub/y mnt/f/x mnt/d") == "two\none\nfile")
        #expect(throws: Errno.noSuchFileOrDirectory) {
            try rename(second.file("d"), to: second.file("none"), COFFER_RENAME_EXCHANGE)
        }
        #expect(try vault.log().filter { $0.contains("damaged") } == [])
    }

    @Test func unknownRenameFlagsAreRefused() throws {
        try put([1], in: mount.file("a"))
        // RENAME_WHITEOUT
        #expect(throws: Errno.invalidArgument) { try rename(mount.file("a"), to: mount.file("b"), 4) }
        #expect(try tree == ["./a"])
    }

    @Test func aDirectoryReplacesAnEmptyDirectoryOnly() throws {
        try vault.shell("cd mnt; mkdir a empty full; echo x > a/x; echo y > full/y; echo f > file")
        #expect(throws: Errno.directoryNotEmpty) { try rename(mount.file("a"), to: mount.file("full")) }
        #expect(throws: Errno.notDirectory) { try rename(mount.file("a"), to: mount.file("file")) }
        #expect(throws: Errno.isDirectory) { try rename(mount.file("file"), to: mount.file("a")) }
        #expect(throws: Errno.invalidArgument) { try rename(mount.file("a"), to: mount.file("a/b")) }
        try rename(mount.file("a"), to: mount.file("empty"))
        let second = try mount.remount()
        #expect(try tree == ["./empty", "./empty/x", "./file", "./full", "./full/y"])
        #expect(try contents(of: second.file("empty/x")) == Array("x\n".utf8))
    }

    @Test func aDirectoryIsRemovedOnlyWhenEmpty() throws {
        try vault.shell("cd mnt; mkdir -p a/b")
        #expect(throws: Errno.directoryNotEmpty) { try check(rmdir(mount.file("a"))) }
        try check(rmdir(mount.file("a/b")))
        try check(rmdir(mount.file("a")))
        #expect(throws: Errno.noSuchFileOrDirectory) { try status(of: mount.file("a")) }
        #expect(throws: Errno.noSuchFileOrDirectory) { try check(rmdir(mount.file("a"))) }
        #expect(try vault.storedNames() == [])
    }

    @Test func aRenamedDirectoryKeepsItsEntriesAndCanBeRemoved() throws {
        try vault.shell(
            """
            cd mnt; mkdir -p a/deep/er; echo 1 > a/deep/er/f
            mv a b; mkdir a; echo 2 > a/g; mv b/deep a/; echo 3 > a/deep/h; mv a c
            """)
        let second = try mount.remount()
        #expect(try tree == ["./b", "./c", "./c/deep", "./c/deep/er", "./c/deep/er/f", "./c/deep/h", "./c/g"])
        #expect(try vault.shell("cat mnt/c/deep/er/f mnt/c/g mnt/c/deep/h") == "1\n2\n3")
        try vault.shell("rm -r mnt/b mnt/c")
        #expect(try tree == [])
        try second.unmount()
        #expect(try vault.storedNames() == [])
        #expect(try vault.log().filter { $0.contains("damaged") } == [])
    }

    @Test func aRotationOfDirectoriesKeepsThemApart() throws {
        try vault.shell(
            """
            cd mnt
            for i in 1 2 3 4 5; do
              rm -rf daily.2; [ ! -d daily.1 ] || mv daily.1 daily.2; [ ! -d daily.0 ] || mv daily.0 daily.1
              mkdir daily.0; echo $i > daily.0/n; mkdir daily.0/s; echo $i > daily.0/s/n
            done
            """)
        let second = try mount.remount()
        #expect(try vault.shell("cat mnt/daily.*/n mnt/daily.*/s/n") == "5\n4\n3\n5\n4\n3")
        #expect(try vault.log().filter { $0.contains("damaged") } == [])
        try second.unmount()
    }

    @Test func anEntryDoesNotWanderBetweenARenamedDirectoryAndItsSuccessor() throws {
        try vault.shell("cd mnt; mkdir a; echo 1 > a/n; mv a b; mkdir a; echo 2 > a/m")
        try mount.unmount()
        try vault.shell(
            """
            cd vault; ls -d !(coffer.*) > ../dirs; test $(wc -l < ../dirs) = 2
            one=$(head -1 ../dirs) two=$(tail -1 ../dirs)
            f=$(ls $one | grep -v '^coffer.'); g=$(ls $two | grep -v '^coffer.')
            mv $one/$f ../tmp; mv $two/$g $one/; mv ../tmp $two/$f
            """)
        let after = try vault.mount()
        #expect(try vault.tryShell("cat mnt/a/n mnt/a/m mnt/b/n mnt/b/m").output == "")
        #expect(try vault.shell("ls mnt/a mnt/b | grep -c coffer.unreadable") == "2")
        try after.unmount()
    }

    @Test func aLongNameIsRenamedAndRemoved() throws {
        let long = String(repeating: "n", count: 255)
        let longer = String(repeating: "ü", count: 127)
        try put([1], in: mount.file(long))
        try rename(mount.file(long), to: mount.file(longer))
        try check(mkdir(mount.file(long), 0o755))
        try rename(mount.file(longer), to: mount.file("\(long)/\(longer)"))
        let second = try mount.remount()
        #expect(try contents(of: second.file("\(long)/\(longer)")) == [1])
        try vault.shell("rm -r mnt/*")
        #expect(try vault.shell("ls -A vault | grep -v '^coffer.json\\|^coffer.dir\\|^coffer.log' || true") == "")
        #expect(throws: Errno.fileNameTooLong) { try put([], in: second.file(long + "n")) }
    }
}
