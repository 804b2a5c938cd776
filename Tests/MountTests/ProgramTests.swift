import Testing

/// Programs that people use, on a mount.
@Suite(.mounts) struct ProgramTests {
    private let vault: TestVault
    private let mount: MountedVault

    init() throws {
        vault = try TestVault()
        mount = try vault.mount()
    }

    @Test(.programs("git")) func gitClonesAndChecks() throws {
        try vault.shell(
            """
            export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
            git init -q mnt/origin; cd mnt/origin
            for i in $(seq 1 30); do
              mkdir -p d$i; seq $i 2000 > d$i/f; head -c ${i}000 /dev/urandom > d$i/b; ln -s f d$i/l; git add .; git commit -qm "commit $i"
            done
            git branch other HEAD~5; git gc -q; git fsck --strict
            cd ..; git clone -q --no-local origin clone; git clone -q origin linked
            cd clone; git checkout -q other; git merge -q origin/HEAD; git fsck; git diff --exit-code origin/HEAD
            """, seconds: 300)
        let second = try mount.remount()
        try vault.shell(
            """
            git config --file safe safe.directory '*'; export GIT_CONFIG_GLOBAL=$PWD/safe
            for r in origin clone linked; do git -C mnt/$r fsck --strict; test -z "$(git -C mnt/$r status --porcelain)"; done
            """)
        #expect(try vault.shell("find mnt/clone -name f | wc -l") == "30")
        try second.unmount()
        #expect(try vault.log() == [])
    }

    @Test(.programs("python3"), arguments: ["delete", "wal", "persist"])
    func aDatabaseUnderLoad(_ journal: String) throws {
        try vault.shell(
            """
            cat > load.py <<'END'
            import random, sqlite3, sys
            me = int(sys.argv[1])
            db = sqlite3.connect("mnt/db", timeout=60, isolation_level=None)
            db.execute("PRAGMA synchronous=NORMAL")
            for i in range(60):
                db.execute("BEGIN IMMEDIATE")
                for j in range(20):
                    db.execute("INSERT INTO t VALUES (?, ?, ?)", (me, i * 20 + j, random.randbytes(random.randrange(3000))))
                if i % 7 == 3: db.execute("DELETE FROM t WHERE writer = ? AND number % 20 = 5", (me,))
                db.execute("ROLLBACK" if i % 10 == 9 else "COMMIT")
                if i % 20 == 10: assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            END
            python3 -c '
            import sqlite3
            db = sqlite3.connect("mnt/db")
            assert db.execute("PRAGMA journal_mode=\(journal)").fetchone() == ("\(journal)",)
            db.execute("CREATE TABLE t (writer, number, bytes)"); db.execute("CREATE INDEX i ON t (number, writer)"); db.commit()'
            for p in 1 2 3; do python3 load.py $p & all="${all:-} $!"; done; for p in $all; do wait $p; done
            """, seconds: 300)
        let second = try mount.remount()
        let count = try vault.shell(
            """
            python3 -c '
            import sqlite3
            db = sqlite3.connect("mnt/db")
            print(db.execute("PRAGMA integrity_check").fetchone()[0], db.execute("SELECT count(*) FROM t WHERE number % 20 != 5").fetchone()[0])'
            """)
        #expect(count == "ok \(3 * 54 * 19)")
        try second.unmount()
        #expect(try vault.log() == [])
    }

    @Test func archivesAndCopies() throws {
        try vault.shell(
            """
            mkdir src; cp -a /usr/include/{linux,asm-generic} src/ 2> /dev/null || cp -a /etc src/ 2> /dev/null || true
            truncate -s 20M src/sparse; echo x | dd of=src/sparse bs=1 seek=7000000 conv=notrunc status=none; ln src/sparse src/linked
            tar -cf src.tar -C src .; mkdir mnt/tar; tar -xpSf src.tar -C mnt/tar; tar -cSf mnt/again.tar -C mnt/tar .
            tar -df mnt/again.tar -C src
            cp -a --sparse=always src mnt/cp; cp -a mnt/cp mnt/cp2; cp -a --reflink=auto mnt/cp2 back
            """)
        let second = try mount.remount()
        try vault.shell(
            """
            tar -df src.tar -C mnt/tar; tar -df mnt/again.tar -C src
            for d in mnt/tar mnt/cp mnt/cp2 back; do diff -r --no-dereference src $d; done
            for d in mnt/cp mnt/cp2 back; do test "$(rsync -aHni src/ $d/)" = ''; done
            """)
        let blocks = try vault.shell("stat -c %b mnt/cp/sparse")
        #expect((Int(blocks) ?? .max) < 1000)
        #expect(try vault.shell("stat -c %h mnt/tar/linked mnt/cp2/linked") == "2\n2")
        try second.unmount()
        #expect(try vault.log() == [])
    }

    @Test func editorsAndLocks() throws {
        try vault.shell(
            """
            cd mnt; echo one > f; sed -i s/one/two/ f; grep -x two f
            exec 9> lock; flock -n 9; ! flock -n lock true; exec 9>&-; flock -n lock true
            python3 -c '
            import fcntl, os
            f = open("posix", "w"); fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
            if os.fork() == 0:
                g = open("posix", "r+")
                try: fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 7)
                except OSError: os._exit(7)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
            import tempfile
            with tempfile.TemporaryFile(dir=".") as t: t.write(b"x" * 10000); t.seek(0); assert t.read() == b"x" * 10000
            '
            split -b 1000 <(head -c 100000 /dev/zero) part.; cat part.* | cmp - <(head -c 100000 /dev/zero); rm part.*
            gzip < /bin/ls > ls.gz; gunzip < ls.gz | cmp - /bin/ls
            """)
        #expect(try vault.shell("ls mnt") == "f\nlock\nls.gz\nposix")
    }
}
