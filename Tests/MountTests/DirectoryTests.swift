import Glibc
import SystemPackage
import Testing

/// Listing directories, also while they change.
@Suite(.mounts) struct DirectoryTests {
    private let vault: TestVault
    private let mount: MountedVault

    init() throws {
        vault = try TestVault()
        mount = try vault.mount()
    }

    /// The names of a directory in the order of readdir(3), with `between` called after every hundredth.
    private func list(_ path: String, _ between: (Int) throws -> Void = { _ in }) throws -> [String] {
        guard let stream = opendir(path) else { throw Errno(rawValue: errno) }
        defer { closedir(stream) }
        var names: [String] = []
        errno = 0
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            names.append(name)
            if names.count % 100 == 0 { try between(names.count) }
            errno = 0
        }
        try check(errno == 0 ? 0 : -1)
        return names
    }

    @Test func entriesThatStayAreListedExactlyOnceWhileOthersComeAndGo() throws {
        try vault.shell(
            """
            mkdir mnt/d; cd mnt/d
            seq -f 'stays.%g' 10000 | xargs touch; seq -f 'goes.%g' 2000 | xargs touch
            """)
        var round = 0
        let names = try list(mount.file("d")) { _ in
            round += 1
            for index in 0..<10 {
                try put([], in: mount.file("d/comes.\(round).\(index)"))
                _ = unlink(mount.file("d/goes.\(round * 10 + index)"))
                try rename(mount.file("d/comes.\(round).\(index)"), to: mount.file("d/came.\(round).\(index)"))
            }
        }
        let stable = names.filter { $0.hasPrefix("stays.") }
        #expect(stable.count == 10_000)
        #expect(Set(stable).count == 10_000)
        #expect(Set(names).count == names.count)
        #expect(names.filter { $0 == "." || $0 == ".." }.count == 2)
        #expect(round > 90)
    }

    @Test func entriesThatStayAreListedExactlyOnceWhileAnotherProcessWorks() throws {
        try vault.shell("mkdir mnt/d; cd mnt/d; seq -f 'stays.%g' 5000 | xargs touch")
        let other = try RunningProgram(
            [
                "env", "-C", mount.file("d"), "bash", "-c",
                "while :; do for i in {1..50}; do : > x$i; done; rm -f x*; done",
            ])
        for _ in 0..<10 {
            let stable = try list(mount.file("d")).filter { $0.hasPrefix("stays.") }
            #expect(stable.count == 5000)
            #expect(Set(stable).count == 5000)
        }
        other.signal(SIGKILL)
        #expect(other.wait(seconds: 10) == 128 + SIGKILL)
    }

    @Test func aListingCanGoBackAndForth() throws {
        try vault.shell("mkdir mnt/d; cd mnt/d; seq 1 3000 | xargs touch")
        let stream = try #require(opendir(mount.file("d")))
        defer { closedir(stream) }
        func next() -> String? {
            guard let entry = readdir(stream) else { return nil }
            return withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
        }
        for _ in 0..<1000 { _ = next() }
        let place = telldir(stream)
        let after = (0..<50).map { _ in next() }
        while next() != nil {}
        seekdir(stream, place)
        #expect((0..<50).map { _ in next() } == after)
        rewinddir(stream)
        var count = 0
        while next() != nil { count += 1 }
        #expect(count == 3002)
    }

    @Test func removingWhileListingRemovesAll() throws {
        try vault.shell("mkdir mnt/d; cd mnt/d; seq 1 3000 | xargs touch")
        for name in try list(mount.file("d")) where name != "." && name != ".." {
            try check(unlink(mount.file("d/\(name)")))
        }
        #expect(try list(mount.file("d")).count == 2)
        try vault.shell("cd mnt/d; seq 1 3000 | xargs touch; cd ..; rm -r d; test ! -e d")
    }

    /// A listing that is given up leaves nothing that a later one could take for the present: not even where both meet at the same position.
    @Test func aListingThatWasGivenUpLendsNothingToTheNext() throws {
        try vault.shell("mkdir mnt/d; cd mnt/d; seq -f 'first.%g' 600 | xargs touch")
        var expected = Set((1...600).map { "first.\($0)" } + [".", ".."])
        for round in 1...60 {
            // Some listings are begun and given up, at different places.
            for count in [1, 150, 300] where round % 3 != 2 {
                let stream = try #require(opendir(mount.file("d")))
                for _ in 0..<count { _ = readdir(stream) }
                closedir(stream)
            }
            #expect(try Set(list(mount.file("d"))) == expected, "round \(round)")
            // One change, so that the next listing's requests are likely to meet where those did.
            if round % 2 == 0 {
                try put([], in: mount.file("d/round.\(round)"))
                expected.insert("round.\(round)")
            } else {
                try check(unlink(mount.file("d/first.\(round * 7)")))
                expected.remove("first.\(round * 7)")
            }
            #expect(try Set(list(mount.file("d"))) == expected, "round \(round), changed")
            #expect(try Set(list(mount.file("d"))) == expected, "round \(round), once more")
        }
    }

    @Test func typesAndInodeNumbersAgreeWithStat() throws {
        try vault.shell("cd mnt; mkdir d; echo > f; ln -s f l; mkfifo p; ln f g")
        let listed = try vault.shell(
            """
            python3 -c '
            import os
            for e in os.scandir("mnt"):
                s = os.lstat(e.path)
                assert e.inode() == s.st_ino, e
                assert e.is_dir(follow_symlinks=False) == (s.st_mode & 0o170000 == 0o040000), e
                assert e.is_symlink() == (s.st_mode & 0o170000 == 0o120000), e
                print(e.name)
            ' | sort | xargs
            """)
        #expect(listed == "d f g l p")
        // 2 and 3, where the file system behind the vault counts them.
        try vault.shell("mkdir -p plain/d")
        #expect(try status(of: mount.file("d")).st_nlink == status(of: vault.directory + "/plain/d").st_nlink)
        #expect(try status(of: mount.path).st_nlink == status(of: vault.directory + "/plain").st_nlink)
    }

    @Test func fileSystemFiguresAreThoseOfTheVaultsPlace() throws {
        let figures = try vault.shell("stat -f -c '%b %c %l %S' mnt vault").split(separator: "\n")
        let shown = figures[0].split(separator: " ")
        let behind = figures[1].split(separator: " ")
        #expect(shown == behind)
        #expect(shown[2] == "255")
        #expect(try vault.shell("findmnt -n -o FSTYPE,SOURCE mnt | xargs") == "fuse.coffer \(vault.path)")
    }
}
