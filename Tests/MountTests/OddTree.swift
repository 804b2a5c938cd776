import Glibc
import SystemPackage

/// A tree of everything that a file system allows and people rarely do.
struct OddTree {
    let path: String

    init(_ path: String) {
        self.path = path
    }

    /// Makes it in a new directory; what takes root only as root.
    func make() throws {
        try check(mkdir(path, 0o755))
        try names()
        try contents()
        try links()
        try modes()
        try attributes()
        try times()
    }

    /// Every byte but `/` and NUL, names of up to 255 bytes, and a path of 4,000.
    private func names() throws {
        try shell(
            """
            python3 -c '
            import os
            os.makedirs("names/every"); os.makedirs("names/length"); os.chdir(b"names/every")
            for byte in range(1, 256):
                if byte == 47: continue
                for name in (bytes([byte]), b"a" + bytes([byte]), bytes([byte]) * 3, bytes([byte]) * 255):
                    if name not in (b".", b".."): open(name, "wb").write(name)
            os.chdir("../length")
            for count in range(1, 256):
                open("n" * count, "w").write(str(count))
                if count % 16 < 2: os.mkdir("d" * count)
            for name in ("coffer.json", "coffer.long.x", "coffer.dir", "coffer.unreadable.x", "-rf", "...", " ", "c"):
                open(name, "w").write(name)
            os.chdir("../..")
            # With what is before it in the archive, 4,000 bytes to the file.
            part = "p" * 199
            os.mkdir("deep"); os.chdir("deep")
            used = len("deep/")
            while used + 200 <= 3990:
                os.mkdir(part); os.chdir(part); used += 200
            open("f" * (4000 - used), "w").write("deep down")
            '
            """)
    }

    private func contents() throws {
        try shell(
            "mkdir contents; cd contents; for n in 0 1 4095 4096 4097 100000; do head -c $n /dev/urandom > $n; done")
    }

    private func links() throws {
        try shell(
            """
            # Not every file system that a copy goes to takes the longest.
            long=4095; ln -s "$(head -c 4095 /dev/zero | tr '\\0' y)" ../../probe.$$ 2> /dev/null && rm ../../probe.$$ || long=1000
            mkdir -p links/sub; cd links
            echo one > a; ln a b; ln a sub/c
            ln -s a symlink; ln -s nowhere dangling; ln -s /etc/passwd absolute; ln -s ../.. up; ln symlink sub/hardlinked
            ln -s "$(printf 'x/%.0s' {1..500})" long; ln -s "$(head -c $long /dev/zero | tr '\\0' y)" longest
            ln -s "$(head -c $((long * 3 / 4)) /dev/zero | tr '\\0' z)" sub/longer; ln -s "$(printf '\\001\\n\\377 \\\\')" bytes
            mkfifo fifo
            python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
            """)
        if Machine.isRoot {
            try shell("cd links; mknod char c 1 3; mknod block b 7 200; mknod zero c 0 0; mknod big c 500 70000")
        }
    }

    private func modes() throws {
        try shell(
            """
            mkdir modes; cd modes
            for m in 0 7 70 111 400 444 600 666 1644 2755 4755 7777; do echo $m > f$m; mkdir d$m; done
            """)
        if Machine.isRoot {
            try shell(
                "cd modes; echo > owned; chown 1234:4321 owned f444 d600; ln -s x link; chown -h 77:88 link; chown 4000000000 f7"
            )
        }
        // Where directories are closed, nothing can be put into them later by an ordinary user, nor read.
        let modes = Machine.isRoot ? "0 7 70 111 400 444 600 666 1644 2755 4755 7777" : "600 666 1644 2755 4755 7777"
        try shell(
            "cd modes; for m in \(modes); do chmod $m f$m; done; for m in \(Machine.isRoot ? modes : "700 1755 2755"); do mkdir -p d$m; chmod $m d$m; done"
        )
    }

    private func attributes() throws {
        if Machine.has("setfattr") {
            try shell(
                """
                mkdir attributes; cd attributes; echo > f; mkdir d
                setfattr -n user.a -v value f; setfattr -n user.empty f; setfattr -n user.$(printf %0240d 1) -v long f
                setfattr -n user.binary -v 0x00ff00 d; setfattr -n user.big -v $(printf %01500d 1) d
                """)
            if Machine.isRoot {
                try shell("cd attributes; ln -s f l; setfattr -h -n trusted.t -v t l; setfattr -n trusted.t -v t f")
            }
        }
        if Machine.has("setfacl") {
            try shell(
                "mkdir -p acls/d; cd acls; echo > f; setfacl -m u:99:rw,m::r f; setfacl -d -m g:98:rwx d; setfacl -m g:98:rx d"
            )
        }
    }

    /// Last, since making anything changes the time of the directory it is in.
    private func times() throws {
        try shell(
            """
            mkdir times; cd times
            for t in 1901-12-13T20:45:53 1969-12-31T23:59:59.999999999 1970-01-01T00:00:00 2038-01-19T03:14:08.000000001 \\
                2200-02-28T12:34:56.789; do
              echo > f$t; mkdir d$t; ln -s x l$t; touch -h -d ${t}Z f$t d$t l$t
            done
            touch -d 1950-05-05 ../names/every ../links .
            # Nothing from just now: rsync leaves a directory's or link's time as it is where the seconds agree.
            cd ..; find . -newermt '1 hour ago' ! -newermt '1 hour' -exec touch -h -d '2011-11-11 11:11:11.123456789' {} +
            """)
    }

    private func shell(_ script: String) throws {
        try MountTests.shell("umask 022; " + script, in: path)
    }
}
