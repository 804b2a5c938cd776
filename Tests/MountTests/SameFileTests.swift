import Testing

/// Open files, mappings, locks and ranges are as on the file system behind the vault.
@Suite(.mounts, .programs("python3")) struct SameFileTests {
    private let both: Comparison

    init() throws { both = try Comparison() }

    @Test func openFilesOutliveTheirNames() throws {
        try both.same(
            """
            make('f', b'old' * 5000); make('g', b'new')
            f = os.open('f', os.O_RDWR)
            os.rename('g', 'f')
            tell(os.pread(f, 5, 0), os.fstat(f).st_nlink, os.fstat(f).st_size, open('f').read())
            os.pwrite(f, b'more', 20000); os.ftruncate(f, 30000); os.fchmod(f, 0o600); os.fsync(f)
            with mmap.mmap(f, 30000) as m: tell(m[20000:20004]); m[0:3] = b'map'; m.flush()
            tell(os.pread(f, 5, 0), oct(os.fstat(f).st_mode), os.fstat(f).st_size)
            says(os.link, f'/proc/self/fd/{f}', 'again')
            says(os.open, f'/proc/self/fd/{f}', os.O_RDONLY)
            os.close(f)
            h = os.open('h', os.O_RDWR | os.O_CREAT); os.unlink('h'); os.write(h, b'x' * 9000)
            tell(os.fstat(h).st_nlink, len(os.pread(h, 10000, 0)), os.listdir('.'))
            """)
    }

    @Test func mappingsAreCoherent() throws {
        try both.same(
            """
            make('f', b'a' * 10000)
            f = os.open('f', os.O_RDWR)
            m = mmap.mmap(f, 10000)
            os.pwrite(f, b'write', 4094); tell(m[4090:4102])
            m[8190:8200] = b'0123456789'; tell(os.pread(f, 20, 8185))
            def work():
                n = mmap.mmap(os.open('f', os.O_RDWR), 10000); n[0:5] = b'other'; return n[8190:8195]
            other(work); tell(m[0:6], os.pread(f, 6, 0))
            p = mmap.mmap(f, 10000, flags=mmap.MAP_PRIVATE); p[0:3] = b'own'; tell(os.pread(f, 6, 0), p[0:6]); p.close()
            os.ftruncate(f, 5000)
            def beyond():
                child = os.fork()
                if child == 0:
                    signal.signal(signal.SIGBUS, signal.SIG_DFL); m[9000]; os._exit(0)
                tell(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            beyond(); tell(m[4996:5004])
            os.ftruncate(f, 10000); tell(m[4996:5004], m[8190:8195])
            """)
    }

    @Test func locksExcludeOtherProcesses() throws {
        try both.same(
            """
            make('f', b'x' * 100)
            F = os.open('f', os.O_RDWR)
            def attempt(work):
                def run():
                    f = os.open('f', os.O_RDWR)
                    work(f); return 'got it'
                other(run)
            EX, SH, NB, UN = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB, fcntl.LOCK_UN
            kinds = {'flock': lambda f, how, *r: fcntl.flock(f, how), 'posix': fcntl.lockf,
                'ofd': lambda f, how, n=0, o=0: fcntl.fcntl(f, 38 if how & UN == 0 and not how & NB else 37,
                    struct.pack('hhqqi4x', {SH: 0, EX: 1, UN: 2}[how & 11], 0, o, n, 0))}
            for name, lock in kinds.items():
                for mine in (SH, EX):
                    lock(F, mine | NB)
                    for theirs in (SH, EX):
                        tell(name, mine, theirs); attempt(lambda f: lock(f, theirs | NB))
                    lock(F, UN); attempt(lambda f: lock(f, EX | NB))
            for name in ('posix', 'ofd'):
                lock = kinds[name]; lock(F, EX | NB, 10, 20)
                for begin, count in ((0, 20), (0, 21), (29, 1), (30, 5)):
                    tell(name, begin, count); attempt(lambda f: lock(f, EX | NB, count, begin))
                lock(F, UN)
            # One that waits is woken.
            fcntl.flock(F, EX); r, w = os.pipe(); child = os.fork()
            if child == 0:
                f = os.open('f', os.O_RDWR); os.write(w, b'w'); fcntl.flock(f, EX); os.write(w, b'g'); os._exit(0)
            os.read(r, 1); time.sleep(0.1); fcntl.flock(F, UN); tell(os.read(r, 1)); os.waitpid(child, 0)
            attempt(lambda f: fcntl.flock(f, EX | NB))
            """)
    }

    @Test func rangesAreAllocatedPunchedAndZeroed() throws {
        try both.same(
            """
            def allocate(f, mode, at, count): call('fallocate', f, mode, ctypes.c_long(at), ctypes.c_long(count))
            r = random.Random(5)
            for mode in (0, 1, 3, 16, 17, 2):
                for size in (0, 5000, 20000):
                    for at, count in ((0, 100), (4096, 4096), (3000, 9000), (19000, 9000), (50000, 1), (0, 0), (-1, 5)):
                        make('f', r.randbytes(size)); f = os.open('f', os.O_RDWR)
                        says(allocate, f, mode, at, count)
                        tell(mode, size, at, count, os.fstat(f).st_size, hash(os.pread(f, 100000, 0)) if 0 else
                            sum(os.pread(f, 100000, 0)))
                        os.close(f)
            """)
    }

    @Test func readsWritesAndCopiesAtTheEdges() throws {
        try both.same(
            """
            f = os.open('f', os.O_RDWR | os.O_CREAT)
            tell(os.pread(f, 10, 0), os.pwrite(f, b'', 100), os.fstat(f).st_size)
            tell(os.pwrite(f, b'end', 8190), os.pread(f, 10, 8185), os.pread(f, 10, 8193), os.pread(f, 10, 9000))
            says(os.pwrite, f, b'x', (1 << 63) - 1)
            says(os.ftruncate, f, -1)
            g = os.open('g', os.O_RDWR | os.O_CREAT | os.O_APPEND)
            tell(os.copy_file_range(f, g, 0)) if 0 else None
            says(os.copy_file_range, f, g, 100, 0, 0)
            h = os.open('h', os.O_RDWR | os.O_CREAT)
            tell(os.copy_file_range(f, h, 100000, 0, 5), os.fstat(h).st_size, os.pread(h, 10, 8190))
            tell(os.copy_file_range(f, h, 10, 8193, 0), os.copy_file_range(h, h, 100, 8000, 20000), os.fstat(h).st_size)
            says(os.copy_file_range, h, h, 100, 0, 50)
            a = os.open('a', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.pwrite(a, b'one', 500); os.write(a, b'two'); tell(open('a').read())
            for flag in (os.O_SYNC, os.O_DSYNC):
                s = os.open('s', os.O_RDWR | os.O_CREAT | flag); tell(os.write(s, b'x' * 5000), os.fstat(s).st_size)
            d = os.open('d', os.O_RDWR | os.O_CREAT | os.O_DIRECT); m = mmap.mmap(-1, 8192); m.write(b'D' * 8192)
            tell(os.pwritev(d, [m], 0)); n = os.open('d', os.O_RDWR); os.pwrite(n, b'buffered', 4000)
            tell(os.preadv(d, [m], 0), m[3998:4010]); m[0:4096] = b'E' * 4096; os.pwritev(d, [m], 0)
            tell(os.pread(n, 4, 0), os.pread(n, 10, 4090))
            """)
    }

    @Test func theLimitOfAFilesSizeHolds() throws {
        try both.same(
            """
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            def work():
                resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
                f = os.open('f', os.O_RDWR | os.O_CREAT)
                tell(os.pwrite(f, b'x' * 20000, 0), os.fstat(f).st_size)
                says(os.pwrite, f, b'x', 10000); says(os.ftruncate, f, 10001); says(os.ftruncate, f, 10000)
                says(os.posix_fallocate, f, 0, 10001); return os.fstat(f).st_size
            other(work)
            def killed(): signal.signal(signal.SIGXFSZ, signal.SIG_DFL); work()
            other(killed); tell(os.stat('f').st_size)
            """)
    }

    @Test func dataAndHolesAreFoundWhileTheFileIsWritten() throws {
        try both.same(
            """
            f = os.open('f', os.O_RDWR | os.O_CREAT); M = 1 << 20
            def segments(fd):
                at = 0; found = []
                while True:
                    try: data = os.lseek(fd, at, os.SEEK_DATA)
                    except OSError as error: tell(errno.errorcode[error.errno]); break
                    at = os.lseek(fd, data, os.SEEK_HOLE); found.append((data, at))
                return found
            os.pwrite(f, b'x' * M, 8 * M); os.pwrite(f, b'y' * M, 16 * M); os.ftruncate(f, 32 * M)
            tell(segments(f), segments(os.open('f', os.O_RDONLY)))
            os.pwrite(f, b'z' * M, 24 * M); tell(segments(f))
            with mmap.mmap(f, 32 * M) as m: m[12 * M] = 1; tell(os.lseek(f, 10 * M, os.SEEK_DATA) <= 12 * M)
            os.posix_fallocate(f, 0, 10); tell(os.lseek(f, 0, os.SEEK_END)); says(os.lseek, f, 32 * M, os.SEEK_DATA)
            tell(os.fstat(f).st_blocks < 16384)
            """)
    }

    /// Single blocks at the beginning, in the middle and at the end, and space that was reserved before it is written.
    @Test func smallHolesAreWhereTheyShouldBe() throws {
        try both.same(
            """
            import mmap
            def segments(fd):
                at = 0; found = []
                while True:
                    try: data = os.lseek(fd, at, os.SEEK_DATA)
                    except OSError as error: tell(errno.errorcode[error.errno]); break
                    at = os.lseek(fd, data, os.SEEK_HOLE); found.append((data, at))
                return found
            B = 4096
            f = os.open('a', os.O_RDWR | os.O_CREAT)
            os.pwrite(f, b'x' * B, B); os.pwrite(f, b'x' * B, 3 * B); tell(segments(f))
            f = os.open('zeros', os.O_RDWR | os.O_CREAT)
            os.pwrite(f, bytes(B), 0); tell(segments(f)); os.pwrite(f, bytes(3 * B), B); tell(segments(f))
            f = os.open('reserved', os.O_RDWR | os.O_CREAT)
            os.posix_fallocate(f, 0, 2 * B); tell(segments(f))
            f = os.open('more', os.O_RDWR | os.O_CREAT)
            os.posix_fallocate(f, 0, 1024 * B); tell(segments(f))
            os.pwrite(f, b'x' * B, 0); tell(segments(f))
            os.pwrite(f, b'x' * B, 1024 * B); tell(segments(f)); tell(os.lseek(f, 1023 * B + 5, os.SEEK_HOLE))
            os.pwrite(f, b'x' * 14 * B, 0); os.pwrite(f, b'x' * 14 * B, 42 * B); tell(segments(f))
            """)
    }

    @Test func whatWasReservedIsGivenBackByCuttingToTheSameSize() throws {
        try both.same(
            """
            for size in (0, 100, 5000):
                f = os.open('f', os.O_RDWR | os.O_CREAT)
                os.pwrite(f, b'x' * size, 0); os.fsync(f); call('fallocate', f, 1, ctypes.c_long(0), ctypes.c_long(1 << 20))
                tell(size, os.fstat(f).st_blocks > 1000)
                os.truncate('f', size); tell(os.fstat(f).st_blocks < 100, os.pread(f, 9999, 0) == b'x' * size)
                os.unlink('f')
            """)
    }

    @Test func sparseFilesMayBeHuge() throws {
        try both.same(
            """
            f = os.open('f', os.O_RDWR | os.O_CREAT); T = 8 << 40
            os.pwrite(f, b'end', T); os.fsync(f)
            tell(os.fstat(f).st_size, os.pread(f, 10, T - 4), os.pread(f, 4, 3 << 40), os.fstat(f).st_blocks < 1000)
            tell(os.lseek(f, 1 << 40, os.SEEK_DATA) > 3 << 40)
            os.ftruncate(f, 1 << 40); tell(os.fstat(f).st_size, os.pread(f, 4, (1 << 40) - 4))
            """)
    }
}
