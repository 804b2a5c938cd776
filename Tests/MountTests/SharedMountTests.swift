import Glibc
import Testing

/// `--shared`: others write to the vault while it is mounted, and what they do is seen within a second.
@Suite(.mounts) struct SharedMountTests {
    private let vault: TestVault
    private let one: MountedVault
    private let two: MountedVault

    init() throws {
        vault = try TestVault()
        try vault.shell("mkdir other")
        one = try vault.mount(["--shared"])
        two = try vault.mount(["--shared"], at: "other")
    }

    @Test func eachSeesTheOthersNamesSizesAndContents() throws {
        try vault.shell("ls other; cat other/f 2> /dev/null || true; mkdir mnt/d; echo first > mnt/f; echo x > mnt/d/x")
        try seen("first\nx") { try vault.shell("cat other/f other/d/x") }
        try vault.shell("echo second >> other/f; mv other/d other/e; rm other/e/x; echo y > other/e/y")
        try seen("first\nsecond\ny\n13\ne\nf\ny") {
            try vault.shell("cat mnt/f mnt/e/y; stat -c %s mnt/f; ls mnt; ls mnt/e")
        }
        try end()
    }

    @Test func whatIsWrittenIsThereBeforeTheFileIsClosed() throws {
        do {
            let file = try OpenFile(one.file("f"), O_RDWR | O_CREAT)
            try file.write(pattern(10_000))
            try eventually("the other mount reads it") { try contents(of: two.file("f")) == pattern(10_000) }
            let other = try OpenFile(two.file("f"), O_RDWR)
            try other.truncate(to: 5000)
            try eventually("the size is seen through a handle") { try file.status().st_size == 5000 }
            try other.write(pattern(3000, seed: 1), at: 4000)
            let both = Array(pattern(10_000)[..<4000]) + pattern(3000, seed: 1)
            try eventually("the data is seen through a handle") { try file.readAll() == both }
        }
        try end()
    }

    @Test func appendsToDifferentFilesAndToTheSameOneLoseNothing() throws {
        let errors = try vault.shell(
            """
            cat > write.py << 'END'
            import sys
            root, tag = sys.argv[1:]
            own, common = (open(f'{root}/{name}', 'ab', buffering=0) for name in (tag, 'common'))
            for number in range(300):
                line = f'{tag} {number} '.encode().ljust(number + 20, b'.') + b'\\n'
                own.write(line)
                common.write(line)
            END
            for where in mnt:A other:B mnt:C other:D; do python3 write.py ${where%:*} ${where#*:} 2>> errors & done
            wait
            cat errors
            """)
        #expect(errors == "")
        try end()
        let only = try vault.mount()
        #expect(try vault.shell("cat mnt/[A-D] | wc -l; wc -l < mnt/common") == "1200\n1200")
        for tag in ["A", "B", "C", "D"] {
            #expect(try vault.tryShell("grep '^\(tag)' mnt/common | cmp - mnt/\(tag)").output == "")
        }
        try only.unmount()
    }

    /// Everything that was acknowledged and not removed decodes afterwards, wherever both moved it.
    @Test(arguments: [1, 2]) func namesThatBothChangeStayWhole(seed: Int) throws {
        print("seed \(seed)")
        let damage = try vault.shell(
            """
            cat > work.py << 'END'
            import os, random, sys
            root, seed = sys.argv[1], int(sys.argv[2])
            r = random.Random(seed)
            place = lambda: f'{root}/d{r.randrange(5)}'
            name = lambda: f'{place()}/f{r.randrange(12)}'
            def write(path):
                data = os.urandom(r.randrange(15000))
                with open(path, 'wb') as file: file.write(data)
            steps = [lambda: os.mkdir(place()), lambda: os.rename(place(), place()), lambda: write(name()),
                lambda: write(name()), lambda: os.unlink(name()), lambda: os.mkdir(f'{place()}/s{r.randrange(3)}'),
                lambda: os.rmdir(f'{place()}/s{r.randrange(3)}'), lambda: open(name(), 'rb').read(),
                lambda: os.rename(name(), name())]
            for _ in range(250):
                try: r.choice(steps)()
                except OSError as error:
                    if error.errno == 5: print('damage seen', error)
            END
            for i in 0 1; do python3 work.py mnt \(seed)$i & python3 work.py other \(seed)5$i & done
            wait
            """)
        #expect(damage == "")
        try end()
        let extracted = try vault.coffer("extract", "--passphrase-file", "key", "vault", "out")
        #expect(extracted.status == 0, "\(extracted)")
        let only = try vault.mount()
        #expect(try vault.shell("diff -r --no-dereference mnt out") == "")
        try only.unmount()
    }

    @Test(.programs("rsync"), arguments: ["", "--inplace"]) func aCopyToolsWorkIsSeen(how: String) throws {
        try two.unmount()
        try vault.shell("echo old > mnt/f; mkdir mnt/d; seq 20000 > mnt/g; rsync -a vault/ copy")
        let copy = try vault.mount(vault: "copy", at: "other")
        try vault.shell("echo newer > other/f; seq 30000 > other/g; mkdir other/d/e; echo z > other/d/e/z")
        try copy.unmount()
        let reader = try OpenFile(one.file("g"), O_RDONLY)
        #expect(try reader.status().st_size == 108_894)
        try vault.shell("rsync -a \(how) copy/ vault")
        try seen("newer\nz\n168894") { try vault.shell("cat mnt/f mnt/d/e/z; stat -c %s mnt/g") }
        #expect(try vault.shell("seq 30000 | cmp - mnt/g && echo same") == "same")
        if !how.isEmpty { #expect(try reader.status().st_size == 168_894) }
    }

    @Test func aReadOnlyMountBesideThemSeesWhatTheyDo() throws {
        try vault.shell("mkdir reader; echo 1 > mnt/f")
        let reader = try vault.mount(["--read-only"], at: "reader")
        #expect(try vault.shell("cat reader/f") == "1")
        do {
            let open = try OpenFile(reader.file("f"), O_RDONLY)
            try vault.shell("seq 5000 > other/f")
            try eventually("the size is seen through a handle") { try open.status().st_size == 23_893 }
        }
        try seen("same") { try vault.shell("seq 5000 | cmp - reader/f && echo same") }
        try reader.unmount()
        try end()
    }

    @Test func nobodyElseMountsItForWriting() throws {
        try vault.shell("mkdir third")
        let refused = try vault.coffer("mount", "--passphrase-file", "key", "vault", "third")
        #expect(refused.status == 8)
        #expect(refused.errors.contains("in use"))
        try end()
        let only = try vault.mount()
        let late = try vault.coffer("mount", "--shared", "--passphrase-file", "key", "vault", "third")
        #expect(late.status == 8)
        try only.unmount()
    }

    /// What another mount has made since the kernel looked is opened only by whom its mode lets in.
    @Test(.root, .programs("python3", "setpriv")) func aNameThatAppearsIsOpenedWithItsPermissions() throws {
        try end()
        let vault = try TestVault()
        try vault.shell("mkdir other; chmod 755 .")
        let one = try vault.mount(["--shared", "--allow-other"])
        let two = try vault.mount(["--shared", "--allow-other"], at: "other")
        let said = try vault.shell(
            """
            chmod 1777 mnt
            cat > look.py << 'END'
            import os, subprocess, sys
            def stranger(flags, name):
                child = os.fork()
                if child == 0:
                    os.setgroups([]); os.setgid(65534); os.setuid(65534)
                    try: f = os.open(name, flags, 0o666); print(os.pread(f, 99, 0), flush=True)
                    except OSError as error: print(error.strerror, flush=True)
                    os._exit(0)
                os.waitpid(child, 0)
            for i in range(8):
                name, flags = f'x{i}', os.O_CREAT | os.O_RDWR | (os.O_TRUNC if i % 2 else 0)
                os.stat('other')
                print(os.path.exists('other/' + name))
                f = os.open('mnt/' + name, os.O_CREAT | os.O_WRONLY, 0o600 if i < 6 else 0o644); os.write(f, b'secret'); os.close(f)
                if i < 6: stranger(flags, 'other/' + name)
                else:
                    f = os.open('other/' + name, flags); print(os.fstat(f).st_size); os.close(f)
                print(open('mnt/' + name).read())
            END
            python3 look.py
            """)
        let refused = (0..<6).flatMap { _ in ["False", "Permission denied", "secret"] }
        #expect(said.split(separator: "\n").map(String.init) == refused + ["False", "6", "secret", "False", "0"])
        try one.unmount()
        try two.unmount()
    }

    private func end() throws {
        try one.unmount()
        try two.unmount()
    }

    /// Changes are seen within a second; the machine that tests run on may be slow besides.
    private func seen(_ wanted: String, _ look: () throws -> String) throws {
        var last = ""
        for _ in 0..<60 {
            do { last = try look() } catch let outcome as Outcome { last = "\(outcome)" }
            if last == wanted { return }
            usleep(100_000)
        }
        Issue.record("never seen: \(wanted), but \(last)")
    }
}
