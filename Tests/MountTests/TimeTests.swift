import Testing

/// Times follow POSIX though the kernel writes back late; all is compared with the file system behind the vault.
@Suite(.mounts, .programs("python3")) struct TimeTests {
    private let both: Comparison

    /// Tells which of an object's times a step changed.
    private static let watching = """
        def times(path): s = os.lstat(path); return (s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns)
        def changes(work, *paths):
            before = [times(p) for p in paths]
            time.sleep(0.02)
            says(work)
            for path, old in zip(paths, before):
                try: now = times(path)
                except FileNotFoundError: tell(path, 'gone'); continue
                tell(path, *(['a', 'm', 'c'][i] for i in range(3) if now[i] > old[i]), any(n < o for n, o in zip(now[1:], old[1:])))

        """

    init() throws { both = try Comparison() }

    @Test func everyCallChangesTheTimesThatItShould() throws {
        try both.same(
            Self.watching + """
                make('f', b'x' * 9000); os.mkdir('d'); os.symlink('x', 'l')
                f = os.open('f', os.O_RDWR)
                changes(lambda: os.pwrite(f, b'y', 0), 'f', '.')
                changes(lambda: os.pwrite(f, b'y', 20000), 'f')
                changes(lambda: os.ftruncate(f, 5), 'f')
                changes(lambda: os.ftruncate(f, 5), 'f')
                changes(lambda: os.truncate('f', 9000), 'f')
                changes(lambda: os.fchmod(f, 0o600), 'f', '.')
                changes(lambda: os.chown('f', os.getuid(), os.getgid()), 'f', '.')
                changes(lambda: os.link('f', 'h'), 'f', '.')
                changes(lambda: os.rename('h', 'd/h'), 'f', '.', 'd')
                changes(lambda: os.unlink('d/h'), 'f', 'd', '.')
                changes(lambda: os.mkdir('d/e'), 'd', '.')
                changes(lambda: os.rmdir('d/e'), 'd', '.')
                changes(lambda: os.symlink('y', 'd/l'), 'd')
                changes(lambda: os.setxattr('f', 'user.x', b'y'), 'f')
                changes(lambda: os.removexattr('f', 'user.x'), 'f')
                changes(lambda: os.posix_fallocate(f, 0, 50000), 'f')
                changes(lambda: call('fallocate', f, 3, ctypes.c_long(0), ctypes.c_long(8192)), 'f')
                changes(lambda: os.write(f, b''), 'f')
                changes(lambda: make('d/new'), 'd')
                changes(lambda: os.close(os.open('d/new', os.O_WRONLY | os.O_TRUNC)), 'd/new')
                make('d/g', b'data')
                changes(lambda: os.close(os.open('d/g', os.O_WRONLY | os.O_TRUNC)), 'd/g', 'd')
                changes(lambda: os.rename('d', 'e'), '.', 'd')
                changes(lambda: os.rename('e', 'd'), '.')
                """)
    }

    @Test func aMappedWriteChangesTheTime() throws {
        try both.same(
            Self.watching + """
                make('f', b'x' * 9000)
                f = os.open('f', os.O_RDWR)
                with mmap.mmap(f, 9000) as m:
                    def work(): m[5000] = 65; m.flush()
                    changes(work, 'f')
                    changes(work, 'f')
                """)
    }

    @Test func oneHandleWritesAndAnotherLooks() throws {
        try both.same(
            """
            a = os.open('f', os.O_RDWR | os.O_CREAT, 0o600); b = os.open('f', os.O_RDONLY)
            last = 0
            for i in range(50):
                os.write(a, b'x' * 1000)
                looks = [os.fstat(b), os.stat('f'), os.fstat(a)]
                assert len({(s.st_size, s.st_mtime_ns) for s in looks}) == 1, looks
                assert looks[0].st_mtime_ns >= last; last = looks[0].st_mtime_ns
            tell(looks[0].st_size)
            os.fsync(a); assert os.stat('f').st_mtime_ns == last
            os.close(a); assert os.stat('f').st_mtime_ns == last
            """)
    }

    @Test func omittedTimesStayAndNowIsNow() throws {
        try both.same(
            """
            make('f', b'x'); NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
            class spec(ctypes.Structure): _fields_ = [('s', ctypes.c_long), ('n', ctypes.c_long)]
            def set(path, *pairs, flags=0):
                call('utimensat', -100, path.encode(), (spec * 2)(*(spec(*p) for p in pairs)), flags)
            # A write of part of a page makes the kernel read the page, which counts as access: with fresh data, only the other time.
            def look(path, dirty=False):
                s = os.lstat(path)
                for t in (s.st_mtime_ns,) if dirty else (s.st_atime_ns, s.st_mtime_ns):
                    tell('now' if abs(t / 1e9 - time.time()) < 60 else t)
            os.symlink('f', 'l'); os.mkdir('d')
            handle = os.open('f', os.O_RDWR)
            for path, flags in (('f', 0), ('d', 0), ('l', 256)):
                for dirty in (False, True):
                    set(path, (1000, 123456789), (2000, 987654321), flags=flags); look(path, dirty)
                    if dirty: os.write(handle, b'fresh')
                    set(path, (0, OMIT), (3000, 5), flags=flags); look(path, dirty)
                    set(path, (4000, 999999999), (0, OMIT), flags=flags); look(path, dirty)
                    set(path, (0, OMIT), (0, OMIT), flags=flags); look(path, dirty)
                    set(path, (0, NOW), (0, OMIT), flags=flags); look(path, dirty)
                    set(path, (77, 1), (0, NOW), flags=flags); look(path, dirty)
                    set(path, (-5, 7), (-6, 8), flags=flags); look(path, dirty)
            os.close(handle); look('f', True)
            says(set, 'f', (1, 1 << 30), (1, 1))
            """)
    }

    /// Runs Python on the mount; `count` files whose names begin with f have the same times in the next one.
    private func expectTimesStay(of count: Int, after script: String) throws {
        let times = "stat -c '%n %.9Y' mnt/f*"
        let before = try both.vault.shell("python3 - mnt <<'END'\n\(script)\nEND\n\(times)")
        #expect(before.split(separator: "\n").count == count)
        let again = try both.mount.remount()
        #expect(try both.vault.shell(times) == before)
        try again.unmount()
    }

    /// What is written again within a tick of the clock has the time of before, of which the kernel says nothing more; the disk has it all the same.
    @Test func whatIsWrittenWithinATickKeepsTheTimeThatProgramsSaw() throws {
        try expectTimesStay(
            of: 30,
            after: """
                import os, sys, time
                for number in range(30):
                    path = f'{sys.argv[1]}/f{number:02}'
                    f = os.open(path, os.O_CREAT | os.O_RDWR)
                    os.pwrite(f, b'x' * 5000, 0)
                    if number % 3 == 0: os.fsync(f)
                    if number % 3 == 1: os.ftruncate(f, 9000)
                    os.pwrite(f, b'y' * 90, number % 2 * 6000)
                    time.sleep(0.03)
                    os.close(f)
                """)
    }

    /// Handles are released after their being closed has been answered: the time of an older one must not come after that of a newer one.
    @Test func whatIsClosedAgainAndAgainKeepsItsLastTime() throws {
        try expectTimesStay(
            of: 4,
            after: """
                import os, sys, threading
                def work(number):
                    path = f'{sys.argv[1]}/f{number}'
                    for turn in range(400):
                        f = os.open(path, os.O_CREAT | os.O_RDWR)
                        os.pwrite(f, b'x' * (1 + turn % 9000), turn % 5 * 3000)
                        if turn % 7 == 0: os.fsync(f)
                        if turn % 11 == 0: os.utime(path, ns=(turn * 10**9, turn * 10**9 + 5))
                        os.close(f)
                threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
                for t in threads: t.start()
                for t in threads: t.join()
                """)
    }

    @Test func readingChangesTheTimeOfAccessAsItDoesBehindTheVault() throws {
        let before = try both.vault.shell(
            """
            for root in plain mnt; do
              mkdir $root/d; echo x > $root/d/old; echo x > $root/d/new; ln -s x $root/d/l
              touch -a -d '2020-01-01' $root/d/old; touch -a -d '2020-01-01' $root/d
              touch -m -d '2019-01-01' $root/d/new
              # Later than its change, so that reading does not change it, however many seconds go by.
              touch -a -d '1 hour' $root/d/new
            done
            """)
        #expect(before == "")
        let again = try both.mount.remount()
        let said = try both.vault.shell(
            """
            for root in plain mnt; do
              (cd $root/d; stat -c %X new > ../../was; cat old new | cat; ls > /dev/null; stat -c %X new | cmp -s - ../../was && echo kept
              for name in old; do if [ $(stat -c %X $name) -gt 1700000000 ]; then echo changed $name; fi; done) > said.$root
            done
            cmp said.plain said.mnt; cat said.mnt
            """)
        #expect(said.contains("changed old") && said.contains("kept"))
        try again.unmount()
        let quiet = try both.vault.mount(["-o", "noatime"])
        #expect(
            try both.vault.shell(
                """
                cd mnt/d; touch -a -d '2020-01-01' old .; cd ../..
                """) == "")
        let still = try quiet.remount(["-o", "noatime"])
        #expect(
            try both.vault.shell("cd mnt/d; cat old; ls > /dev/null; stat -c %X old .") == "x\n1577836800\n1577836800")
        try still.unmount()
    }
}
