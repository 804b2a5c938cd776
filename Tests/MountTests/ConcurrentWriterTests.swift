import Glibc
import SystemPackage
import Testing

/// Several writers at once.
@Suite(.mounts) struct ConcurrentWriterTests {
    private let vault: TestVault
    private let mount: MountedVault

    init() throws {
        vault = try TestVault()
        mount = try vault.mount()
    }

    @Test func processesThatAppendLoseNothing() throws {
        try vault.shell(
            """
            : > mnt/a
            for p in 1 2 3 4; do
              (for i in $(seq 1 1000); do echo "$p $i $(printf %0$((i % 90))d 0)"; done >> mnt/a) &
            done
            wait
            """)
        let second = try mount.remount()
        for process in 1...4 {
            // Each writer's lines are all there, whole and in order.
            #expect(try vault.shell("grep -c '^\(process) [0-9]* 0*$' mnt/a") == "1000")
            #expect(try vault.shell("grep '^\(process) ' mnt/a | cut -d' ' -f2 | sort -cn && wc -l < mnt/a") == "4000")
        }
        try second.unmount()
    }

    @Test func appendsOfManySizesArriveWhole() throws {
        try vault.shell(
            """
            cat > append.py <<'END'
            import os, sys
            letter = sys.argv[1].encode()
            f = os.open("mnt/a", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            for i in range(300):
                n = (i * 377) % 9000 + 2
                assert os.write(f, letter * (n - 1) + b"\\n") == n
            END
            python3 append.py a & python3 append.py b & python3 append.py c & wait
            """)
        let second = try mount.remount()
        #expect(
            try vault.shell(
                """
                python3 -c '
                lines = open("mnt/a", "rb").read().split(b"\\n")
                want = [(i * 377) % 9000 + 1 for i in range(300)]
                for letter in b"abc":
                    assert [len(l) for l in lines if l[:1] == bytes([letter])] == want, chr(letter)
                assert all(len(set(l)) <= 1 for l in lines)
                print(len(lines))
                '
                """) == "901")
        try second.unmount()
    }

    @Test func manyWritersOfManyFiles() throws {
        try vault.shell(
            """
            for p in 1 2 3 4 5 6 7 8; do
              (mkdir mnt/$p
               for i in $(seq 1 60); do
                 head -c $((i * 997)) /dev/urandom > plain.$p.$i; cp plain.$p.$i mnt/$p/$i
                 [ $i -lt 3 ] || rm mnt/$p/$((i - 2)); mv mnt/$p/$i mnt/$p/tmp; mv mnt/$p/tmp mnt/$p/$i
               done) &
            done
            wait
            for p in 1 2 3 4 5 6 7 8; do for i in 59 60; do cmp plain.$p.$i mnt/$p/$i; done; [ $(ls mnt/$p | wc -l) = 2 ]; done
            """)
        let second = try mount.remount()
        #expect(
            try vault.tryShell(
                "for p in 1 2 3 4 5 6 7 8; do for i in 59 60; do cmp plain.$p.$i mnt/$p/$i; done; done"
            ).status == 0)
        try second.unmount()
    }

    @Test func writersOfOneFileEachInItsOwnPlace() throws {
        try vault.shell(
            """
            cat > strides.py <<'END'
            import os, sys
            me = int(sys.argv[1])
            f = os.open("mnt/a", os.O_RDWR | os.O_CREAT, 0o644)
            for i in range(me, 4000, 4):
                os.pwrite(f, bytes([me + 1]) * 1000, i * 1000)
                if i % 500 == me: os.fsync(f)
            END
            for p in 0 1 2 3; do python3 strides.py $p & done; wait
            """)
        let second = try mount.remount()
        let expected = (0..<4000).flatMap { [UInt8](repeating: UInt8($0 % 4 + 1), count: 1000) }
        #expect(try contents(of: second.file("a")) == expected)
    }

    @Test func memoryIsSharedBetweenTwoProcesses() throws {
        try vault.shell(
            """
            head -c 5000000 /dev/urandom > plain; cp plain mnt/a
            cat > share.py <<'END'
            import mmap, os, sys, time
            f = os.open("mnt/a", os.O_RDWR)
            m = mmap.mmap(f, 0)
            if sys.argv[1] == "writer":
                for i in range(0, len(m) - 8, 4099): m[i:i + 8] = b"COFFERED"
                m[0:1] = b"!"
                m.flush()
            else:
                while m[0:1] != b"!": time.sleep(0.001)
                assert all(m[i:i + 8] == b"COFFERED" for i in range(4099, len(m) - 8, 4099))
                m[len(m) - 1:] = b"?"
            END
            python3 -c '
            p = bytearray(open("plain", "rb").read())
            for i in range(0, len(p) - 8, 4099): p[i:i + 8] = b"COFFERED"
            p[0:1] = b"!"; p[-1:] = b"?"
            open("plain", "wb").write(p)'
            timeout 60 python3 share.py reader & reader=$!
            python3 share.py writer; wait $reader
            cmp plain mnt/a
            """)
        let second = try mount.remount()
        #expect(try vault.tryShell("cmp plain mnt/a").status == 0)
        try second.unmount()
    }
}
