import Testing

/// The kernel decides who may do what, from what the vault says; all is compared with the file system behind it.
@Suite(.mounts, .root, .programs("python3", "setfacl", "getfacl")) struct PermissionTests {
    private let both: Comparison

    init() throws { both = try Comparison() }

    @Test func modesLetInAndKeepOut() throws {
        try both.same(
            """
            os.mkdir('closed', 0o700); make('closed/f', b'x'); make('own', b'x', 0o600); make('all', b'x', 0o666)
            os.mkdir('open', 0o777); os.chmod('open', 0o777); make('noread', b'x', 0o222)
            for path in ('closed/f', 'own', 'all', 'noread'):
                for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                    other(lambda: os.close(os.open(path, flags)), 1234)
            other(lambda: os.listdir('closed'), 1234)
            other(lambda: os.mkdir('d'), 1234)
            other(lambda: os.unlink('all'), 1234)
            other(lambda: os.chmod('all', 0o777), 1234)
            other(lambda: os.chown('all', 1234, 1234), 1234)
            other(lambda: os.utime('all', (1, 1)), 1234)
            other(lambda: os.utime('all'), 1234)
            other(lambda: os.access('all', os.X_OK), 1234)
            """)
    }

    @Test func whatIsNewBelongsToWhoeverMadeIt() throws {
        try both.same(
            """
            os.mkdir('open'); os.chmod('open', 0o777)
            os.mkdir('group'); os.chown('group', 0, 77); os.chmod('group', 0o2777)
            def work():
                for place in ('open', 'group'):
                    make_f = os.open(f'{place}/f', os.O_CREAT | os.O_WRONLY, 0o6777); os.close(make_f)
                    os.mkdir(f'{place}/d', 0o777); os.symlink('x', f'{place}/l'); os.mkfifo(f'{place}/p', 0o666)
                    os.link(f'{place}/f', f'{place}/h')
            for umask in (0, 0o022, 0o077):
                other(work, 1234, 1235, umask=umask)
                for place in ('open', 'group'):
                    for name in sorted(os.listdir(place)):
                        s = os.lstat(f'{place}/{name}')
                        tell(place, name, oct(s.st_mode), s.st_uid, s.st_gid, s.st_nlink)
                        (os.rmdir if name == 'd' else os.unlink)(f'{place}/{name}')
            """)
    }

    @Test func supplementaryGroupsCount() throws {
        try both.same(
            """
            make('f', b'x', 0o660); os.chown('f', 0, 500)
            other(lambda: open('f').read(), 1234)
            other(lambda: open('f').read(), 1234, groups=[499, 500, 501])
            other(lambda: open('f', 'r+').write('y'), 1234, groups=[500])
            os.chown('f', 1234, 0)
            other(lambda: os.chown('f', -1, 500), 1234, groups=[500])
            other(lambda: os.chown('f', -1, 501), 1234, groups=[500])
            """)
    }

    @Test func aStickyDirectoryKeepsOthersFiles() throws {
        try both.same(
            """
            os.mkdir('t'); os.chmod('t', 0o1777)
            make('t/a'); os.chown('t/a', 1, 1); make('t/b'); os.chown('t/b', 2, 2)
            other(lambda: os.unlink('t/a'), 2)
            other(lambda: os.rename('t/a', 't/c'), 2)
            other(lambda: os.rename('t/b', 't/a'), 2)
            other(lambda: os.unlink('t/b'), 2)
            tell(sorted(os.listdir('t')))
            """)
    }

    @Test func writingTakesSetIDBitsAndCapabilities() throws {
        try both.same(
            """
            capability = bytes.fromhex('0100000200200000000000000000000000000000')
            def write(): os.pwrite(os.open('f', os.O_WRONLY), b'y', 0)
            def truncate(): os.truncate('f', 1)
            def allocate(): os.posix_fallocate(os.open('f', os.O_RDWR), 0, 9000)
            def mapped():
                with mmap.mmap(os.open('f', os.O_RDWR), 3) as m: m[0] = 65; m.flush()
            def direct():
                page = mmap.mmap(-1, 4096); page.write(b'z' * 4096)
                os.pwrite(os.open('f', os.O_WRONLY | os.O_DIRECT), page, 0)
            def append(): os.write(os.open('f', os.O_WRONLY | os.O_APPEND), b'y')
            def copy(): os.copy_file_range(os.open('g', os.O_RDONLY), os.open('f', os.O_WRONLY), 5)
            def punch(): call('fallocate', os.open('f', os.O_RDWR), 3, ctypes.c_long(0), ctypes.c_long(2))
            make('g', b'other')
            for work in (write, truncate, allocate, direct, append, copy, punch, mapped, lambda: os.chown('f', 1234, 1234),
                    lambda: os.chown('f', -1, -1)):
                for bits in (0o4755, 0o2755, 0o6777, 0o4666, 0o6755):
                    for uid in (0, 1234):
                        make('f', b'xxx'); os.chown('f', 1234, 1234); os.chmod('f', bits | 0o666)
                        os.setxattr('f', 'security.capability', capability)
                        other(work, uid)
                        tell(oct(bits), uid, mode('f'), 'security.capability' in os.listxattr('f'))
                        os.unlink('f')
            """)
    }

    @Test func aStrangerToTheGroupLosesItsBit() throws {
        try both.same(
            """
            for work in (lambda: os.chmod('f', 0o2775), lambda: os.system('setfacl -m u:77:rwx f'),
                    lambda: os.truncate('f', 0), lambda: os.truncate('f', 2), lambda: os.posix_fallocate(os.open('f', os.O_RDWR), 0, 9),
                    lambda: os.chown('f', -1, 1234), lambda: os.pwrite(os.open('f', os.O_WRONLY), b'y', 0)):
                for gid in (500, 1234):
                    for bits in (0o2777, 0o2767, 0o6767, 0o6766):
                        make('f', b'xxx'); os.chown('f', 1234, gid); os.chmod('f', bits)
                        other(work, 1234)
                        tell(gid, oct(bits), mode('f')); os.unlink('f')
            """)
    }

    @Test func emptyingTakesSetIDBits() throws {
        try both.same(
            """
            def empty(): os.close(os.open('f', os.O_WRONLY | os.O_TRUNC))
            for bits in (0o6777, 0o4777, 0o2777, 0o2767, 0o6766, 0o1777):
                for uid, groups in ((0, []), (1234, []), (4321, []), (4321, [500])):
                    make('f', b'xxx'); os.chown('f', 1234, 500); os.chmod('f', bits)
                    other(empty, uid, groups=groups); tell(oct(bits), uid, groups, mode('f'), os.stat('f').st_size)
                    os.unlink('f')
            """)
    }

    @Test func whatIsNoFileKeepsTheModeItWasMadeWith() throws {
        try both.same(
            """
            os.mkdir('open'); os.chmod('open', 0o777)
            def work(): os.mkfifo('open/p', 0o6777); os.mknod('open/s', 0o6755 | stat.S_IFSOCK)
            for uid in (0, 1234):
                other(work, uid, umask=0)
                for name in ('open/p', 'open/s'): tell(mode(name), os.lstat(name).st_uid); os.unlink(name)
            """)
    }

    @Test func attributesHaveTheNamespacesThatLinuxKnows() throws {
        try both.same(
            """
            make('f', b'x', 0o666); os.setxattr('f', 'trusted.t', b'1'); os.setxattr('f', 'user.u', b'2')
            def names(): tell(sorted(n for n in os.listxattr('f') if n.startswith(('trusted.', 'user.'))))
            names(); other(lambda: tell('user.u' in os.listxattr('f')), 1234)
            # Not every file system behind a vault keeps these to root; ext4 does.
            if 'mnt' in os.getcwd(): other(lambda: tell('trusted.t' in os.listxattr('f')), 1234)
            else: tell(False), tell(None)
            for name in ('user.', 'trusted.', 'foo.z', 'foo', 'userx.y'):
                says(os.setxattr, 'f', name, b'x'); says(os.getxattr, 'f', name); says(os.removexattr, 'f', name)
            names()
            """)
    }

    @Test func accessControlListsAreEnforcedAndInherited() throws {
        try both.same(
            """
            make('f', b'x', 0o600)
            other(lambda: open('f').read(), 77)
            os.system('setfacl -m u:77:r f')
            other(lambda: open('f').read(), 77); other(lambda: open('f', 'a'), 77); other(lambda: open('f').read(), 78)
            os.system('setfacl -m g:88:rw f')
            other(lambda: open('f', 'a').write('z'), 90, groups=[88])
            make('g', b'x', 0o666); os.system('setfacl -m u:77:- g')
            other(lambda: open('g').read(), 77); other(lambda: open('g').read(), 78)
            os.mkdir('d'); os.system('setfacl -d -m u:77:rwx,g::rx,o::- d; setfacl -m u:1234:rwx d')
            def work(): os.mkdir('d/sub', 0o777); os.close(os.open('d/file', os.O_CREAT | os.O_WRONLY, 0o666))
            for umask in (0, 0o077):
                other(work, 1234, umask=umask)
                tell(os.popen('getfacl -n d d/sub d/file').read())
                os.rmdir('d/sub'); os.unlink('d/file')
            os.chmod('f', 0o640); tell(os.popen('getfacl -n f').read())
            """)
    }
}
