import Testing

/// Directories, names and their limits are as on the file system behind the vault.
@Suite(.mounts, .programs("python3")) struct SameTreeTests {
    private let both: Comparison

    init() throws { both = try Comparison() }

    @Test func linkCountsAndParents() throws {
        try both.same(
            """
            os.makedirs('a/b/c'); os.mkdir('x')
            def counts(): tell([(d, os.stat(d).st_nlink) for d in ('.', 'a', 'a/b', 'x') if os.path.exists(d)])
            def parent(d): return os.stat(f'{d}/..').st_ino == os.stat(os.path.dirname(d) or '.').st_ino
            def listed(d):
                with os.scandir(d) as entries: return all(e.inode() == os.lstat(e.path).st_ino for e in entries)
            counts(); os.rename('a/b', 'x/b'); counts(); tell(parent('x/b'), parent('x'), listed('x'))
            os.rmdir('x/b/c'); counts(); make('f'); os.link('f', 'x/f'); tell(os.stat('f').st_nlink)
            os.rename('x/b', 'a/b'); counts(); tell(parent('a/b'))
            """)
    }

    @Test func renamesDoAsTheyShould() throws {
        try both.same(
            """
            def tree():
                for root, dirs, files in sorted(os.walk('.')): tell(root, sorted(dirs), sorted(files))
            os.makedirs('d/sub'); os.mkdir('empty'); os.mkdir('full'); make('full/f'); make('f', b'file'); os.symlink('d', 'l')
            says(os.rename, 'd', 'full'); says(os.rename, 'd', 'f'); says(os.rename, 'f', 'd'); says(os.rename, 'd', 'd/sub/x')
            says(os.rename, 'd', 'empty'); tree(); says(os.rename, 'f', 'f'); says(os.rename, 'no', 'f'); says(os.rename, '.', 'x')
            def exchange(a, b, flags=2): call('renameat2', -100, a.encode(), -100, b.encode(), flags)
            says(exchange, 'full', 'f'); tree(); tell(open('full').read(), os.listdir('f'))
            says(exchange, 'full', 'no'); says(exchange, 'full', 'empty', 1); says(exchange, 'empty', 'empty/sub')
            handle = os.open('f/f', os.O_RDWR); os.rename('f', 'moved'); os.write(handle, b'later'); os.fsync(handle)
            tell(open('moved/f').read()); here = os.open('moved', os.O_RDONLY); os.rename('moved', 'again')
            tell(os.listdir(here)); os.close(os.open('new', os.O_CREAT | os.O_WRONLY, dir_fd=here)); tree()
            """)
    }

    @Test func namesAndTargetsMayBeAsLongAsThere() throws {
        try both.same(
            """
            for name in ('n' * 255, 'n' * 256, 'ü' * 127, 'ü' * 128, '山' * 85, '🎒' * 63, ' ', '\\n', '-', '\\\\', '...'):
                says(make, name); says(os.mkdir, name + 'd'); says(os.rename, name, name[:-1] + '2'); tell(sorted(os.listdir('.')))
                for left in os.listdir('.'): (os.rmdir if os.path.isdir(left) else os.unlink)(left)
            for count in (1, 100, 255, 1000):
                says(os.symlink, 't' * count, 'l'); tell(len(os.readlink('l')), os.lstat('l').st_size); os.unlink('l')
            says(os.symlink, '', 'l'); says(os.lstat, 'n' * 256); says(os.lstat, ''); says(os.rmdir, '.'); says(os.unlink, '.')
            os.write(os.open(b'\\xff\\xfe', os.O_CREAT | os.O_WRONLY), b'x'); tell(os.listdir(b'.'))
            path = '/'.join(['d' * 200] * 19); os.makedirs(path); make(path + '/' + 'f' * 250, b'deep'); tell(open(path + '/' + 'f' * 250).read())
            """)
    }

    /// The kernel keeps listings, and must not keep one that is not true any more: of directories that are opened anew and of those that stay open.
    @Test(arguments: [1, 2, 3]) func listingsAreThoseOfThisMoment(seed: Int) throws {
        try both.same(
            """
            import random
            chance = random.Random(\(seed)); dirs = ['.', 'a', 'b', 'a/c']
            for d in dirs[1:]: os.mkdir(d)
            kept = {d: os.open(d, os.O_RDONLY) for d in dirs}
            def name(): return f'{chance.choice(dirs)}/n{chance.randrange(12)}'
            def exchange(a, b): call('renameat2', -100, a.encode(), -100, b.encode(), 2)
            for step in range(400):
                what = chance.randrange(8); one, other = name(), name()
                if what < 2: says(make, one)
                elif what == 2: says(os.unlink, one)
                elif what == 3: says(os.rename, one, other)
                elif what == 4: says(os.link, one, other)
                elif what == 5: says(os.mkdir, one)
                elif what == 6: says(os.rmdir, one)
                else: says(exchange, one, other)
                for d in chance.sample(dirs, 2):
                    tell(sorted(os.listdir(d)), sorted(os.listdir(kept[d])))
                    with os.scandir(d) as entries: tell(sorted((e.name, e.is_dir()) for e in entries), all(e.inode() == os.lstat(e.path).st_ino for e in os.scandir(d)))
            """)
    }

    /// Also on a file system that takes less.
    @Test func targetsOfLinksHaveUpTo4095Bytes() throws {
        let said = try both.vault.shell(
            """
            cd mnt; for n in 4000 4094 4095; do ln -s $(head -c $n /dev/zero | tr '\\0' t) l; readlink -n l | wc -c; stat -c %s l; rm l; done
            python3 -c "
            import os
            try: os.symlink('t' * 4096, 'l')
            except OSError as error: print(error.strerror)"
            """)
        #expect(said == "4000\n4000\n4094\n4094\n4095\n4095\nFile name too long")
        try both.mount.unmount()
    }

    @Test func openedAndRemovedDirectories() throws {
        try both.same(
            """
            os.mkdir('d'); d = os.open('d', os.O_RDONLY); make('d/f'); says(os.rmdir, 'd'); os.unlink('d/f'); says(os.rmdir, 'd')
            tell(os.listdir(d), os.fstat(d).st_nlink); says(lambda: os.open('f', os.O_CREAT | os.O_WRONLY, dir_fd=d))
            says(lambda: os.mkdir('e', dir_fd=d)); os.mkdir('d'); tell(os.listdir(d), os.listdir('d'))
            says(os.open, '.', os.O_WRONLY); says(os.open, 'd', os.O_CREAT); says(os.open, 'd/x/y', os.O_RDONLY)
            make('f'); says(os.listdir, 'f'); says(os.open, 'f/x', os.O_RDONLY); says(os.open, 'f', os.O_DIRECTORY)
            says(os.open, 'f', os.O_CREAT | os.O_EXCL); os.symlink('l', 'l'); says(os.open, 'l', os.O_RDONLY)
            says(lambda: os.close(os.open('l', os.O_RDONLY | os.O_NOFOLLOW)))
            """)
    }

    /// libfuse 3.14 has no unnamed files; programs that ask for one make and remove a name.
    @Test func unnamedFilesAreRefusedAsWhereTheyAreUnknown() throws {
        let said = try both.vault.shell(
            """
            python3 -c "
            import os, tempfile
            try: os.open('mnt', os.O_TMPFILE | os.O_RDWR)
            except OSError as error: print(error.strerror)
            with tempfile.TemporaryFile(dir='mnt') as file: file.write(b'x' * 9000); file.seek(0); print(len(file.read()))"
            ls -A mnt
            """)
        #expect(said == "Operation not supported\n9000")
        try both.mount.unmount()
    }

    @Test(.root) func aLinkIsMadeThoughTheParentOfAnotherNameWasForgottenAndMoved() throws {
        try both.same(
            """
            os.mkdir('d1'); os.mkdir('d2'); make('d1/f', b'x'); os.link('d1/f', 'd2/f')
            held = os.open('d1/f', os.O_RDONLY); os.stat('d2/f'); os.sync()
            open('/proc/sys/vm/drop_caches', 'w').write('2')
            os.rename('d2', 'd3'); says(os.link, 'd1/f', 'd1/g'); tell(os.stat('d1/g').st_nlink)
            """)
    }

    @Test func inodeNumbersAndSpaceAreTrue() throws {
        let look = "cd mnt; find . -printf '%i %b %s %n %p\\n' | sort -k 5; du -s --apparent-size full | cut -f 1"
        let before = try both.vault.shell(
            """
            mkdir -p mnt/d/e; head -c 3000000 /dev/urandom > mnt/full; truncate -s 1G mnt/sparse; ln mnt/full mnt/d/hard
            ln -s x mnt/l; sync mnt/full; [ $(du -k mnt/full | cut -f 1) -ge 2930 ] && [ $(du -k mnt/full | cut -f 1) -lt 3100 ]
            [ $(du -k mnt/sparse | cut -f 1) -lt 64 ]; [ $(stat -f -c %b mnt) = $(stat -f -c %b vault) ]; \(look)
            """)
        let again = try both.mount.remount()
        #expect(try both.vault.shell(look) == before)
        try again.unmount()
    }

    /// However many inodes the kernel remembers, few descriptors are open.
    @Test func aWalkNeedsFewDescriptors() throws {
        let count = Machine.isSoaking ? 300_000 : 6000
        try both.vault.shell(
            """
            cd mnt; python3 -c "
            import os
            for i in range(\(count)):
                if i % 100 == 0: d = f'd{i // 100}'; os.mkdir(d)
                os.close(os.open(f'{d}/f{i}', os.O_CREAT | os.O_WRONLY))"
            """, seconds: 3000)
        try both.mount.unmount()
        let said = try both.vault.shell(
            """
            ulimit -n 256
            '\(CofferProgram.path ?? "")' mount --foreground --log-file log --passphrase-file key vault mnt & driver=$!
            until mountpoint -q mnt; do sleep 0.05; done
            ls -lR mnt > /dev/null; find mnt -type f -exec cat {} + > /dev/null
            find mnt -type f | wc -l; [ $(ls /proc/$driver/fd | wc -l) -lt 200 ] && echo few
            umount mnt; wait $driver
            """, seconds: 3000)
        #expect(said == "\(count)\nfew")
    }

    /// Where programs hold as many files open as the driver can, the rest of the tree can still be worked with, and what fails leaves nothing.
    @Test(.root) func noMoreFilesCanBeOpened() throws {
        try both.mount.unmount()
        let said = try both.vault.shell(
            """
            ulimit -n 128
            '\(CofferProgram.path ?? "")' mount --foreground --allow-other --log-file log --passphrase-file key vault mnt & driver=$!
            until mountpoint -q mnt; do sleep 0.05; done
            mkdir mnt/d; chmod 777 mnt/d; for i in $(seq 200); do echo $i > mnt/d/$i; done
            cat > hold.py << 'END'
            import errno, os, resource
            resource.setrlimit(resource.RLIMIT_NOFILE, (120, 128))
            os.setgid(1234); os.setuid(1234); held = []
            try:
                for i in range(1, 200): held.append(os.open(f'mnt/d/{i}', os.O_RDONLY))
            except OSError as error: print(error.strerror, len(held) > 30)
            def attempt(name, work):
                try: work()
                except OSError as error: assert error.errno == errno.EMFILE and not os.path.lexists(name), (name, error)
                else: assert os.lstat(name).st_uid == 1234
            attempt('mnt/d/D', lambda: os.mkdir('mnt/d/D')); attempt('mnt/d/S', lambda: os.symlink('x', 'mnt/d/S'))
            attempt('mnt/d/P', lambda: os.mkfifo('mnt/d/P'))
            print(len(os.listdir('mnt/d')) >= 200); os.unlink('mnt/d/199'); os.rename('mnt/d/198', 'mnt/d/r')
            END
            python3 hold.py; umount mnt; wait $driver; cat log
            """)
        #expect(said == "Too many open files True\nTrue")
    }

    @Test func aCrowdedDirectory() throws {
        let count = Machine.isSoaking ? 1_000_000 : 20_000
        let said = try both.vault.shell(
            """
            mkdir mnt/many; cd mnt/many; python3 -c "
            import os
            for i in range(\(count)): os.close(os.open(f'entry number {i}', os.O_CREAT | os.O_WRONLY))
            names = os.listdir('.')
            assert len(names) == len(set(names)) == \(count)
            assert set(names) == {f'entry number {i}' for i in range(\(count))}
            os.stat('entry number 0'); os.stat(f'entry number {\(count) - 1}'); assert not os.path.exists('entry number \(count)')
            with os.scandir('.') as entries: assert all(e.is_file() for e in entries)"
            cd ..; rm -rf many; ls
            """, seconds: 3000)
        #expect(said == "")
        try both.mount.unmount()
    }
}
