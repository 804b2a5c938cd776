import Glibc
import SystemPackage
import Testing

/// What root's tests show must hold for a person without privileges, who mounts by fusermount3.
///
/// Where the tests are run by such a person, all of them show it.
@Suite(.mounts, .root, .programs("setpriv", "fusermount3"), .serialized) struct OrdinaryUserTests {
    private let vault: TestVault
    private let device: DeviceMode

    init() throws {
        device = try DeviceMode()
        vault = try TestVault()
        try vault.shell(
            """
            cp '\(CofferProgram.path ?? "")' coffer; mkdir -p home state; chmod 755 . coffer
            cat > as <<'END'
            #!/bin/bash
            # Runs a script as a person without privileges.
            exec setpriv --reuid 65534 --regid 65534 --clear-groups env -u XDG_STATE_HOME \\
              HOME=$PWD/home COFFER_STATE_DIR=$PWD/state PATH=$PWD:/usr/bin:/bin bash -eu -o pipefail -c "$1"
            END
            chmod 755 as; chown -R 65534:65534 home state vault mnt key
            """)
    }

    /// `/dev/fuse` open to everybody, as udev makes it, for as long as this lives.
    private final class DeviceMode: Sendable {
        private let mode: mode_t

        init() throws {
            mode = try status(of: "/dev/fuse").st_mode & 0o7777
            try check(chmod("/dev/fuse", 0o666))
        }

        deinit {
            if chmod("/dev/fuse", mode) != 0 { print("/dev/fuse keeps mode 666") }
        }
    }

    /// Runs a script as the person, between mounting and unmounting.
    private func mounted(_ script: String, _ options: String = "", limit: Int = 1024, seconds: Double = 120) throws
        -> String
    {
        try vault.shell(
            """
            cat > script <<'END'
            ulimit -n \(limit)
            coffer mount \(options) --log-file home/log --passphrase-file key vault mnt
            trap 'cd /; fusermount3 -uz '$PWD/mnt EXIT
            \(script)
            sync mnt; trap - EXIT
            coffer unmount mnt
            END
            ./as "$(cat script)"
            """, seconds: seconds)
    }

    private func log() throws -> String { try vault.shell("cat home/log") }

    /// A directory that may be listed and not searched says all its names, the long ones too; one that was opened stays good when its mode keeps its owner out.
    @Test func directoriesWhoseModesKeepTheirOwnerOut() throws {
        let said = try mounted(
            """
            long=$(printf 'l%.0s' {1..220})
            for place in mnt/d home/d; do
                mkdir $place; touch $place/short $place/$long; chmod 444 $place
                ls -1U $place 2> /dev/null | sort | md5sum; chmod 700 $place
                python3 -c "
            import os, sys
            d = os.open(sys.argv[1], os.O_RDONLY); os.chmod(sys.argv[1], 0)
            os.fsync(d); print(len(os.listdir(d))); os.chmod(sys.argv[1], 0o700)" $place
            done
            """)
        let lines = said.split(separator: "\n")
        #expect(lines.count == 4 && lines[0] == lines[2] && lines[1] == "2" && lines[3] == "2", "\(said)")
    }

    @Test func everydayWork() throws {
        let said = try mounted(
            """
            id -u; cd mnt
            echo x > x; mkdir -p d/e; ln -s x l; ln x h; mkfifo p; chmod 640 x; touch -d 1999-01-01 d/e/f; setfattr -n user.a -v b x || true
            echo secret > none; chmod 0 none; ! cat none 2> /dev/null; chmod 600 none; cat none
            mkdir closed; echo y > closed/y; chmod 500 closed; ! touch closed/z 2> /dev/null; cat closed/y; chmod 700 closed
            ! chown 0 x 2> /dev/null; ! mknod dev c 1 3 2> /dev/null
            mv d d2; rm -r d2; stat -c '%u %a %h' x; ls | xargs
            cd ..
            """)
        #expect(said.split(separator: "\n") == ["65534", "secret", "y", "65534 640 2", "closed h l none p x"])
        #expect(
            try mounted("cat mnt/h mnt/closed/y; findmnt -no OPTIONS mnt | grep -o 'user_id=[0-9]*'")
                == "x\ny\nuser_id=65534")
        #expect(try log() == "")
    }

    @Test func directoriesThatTheirOwnerClosed() throws {
        _ = try mounted(
            "mkdir mnt/a mnt/b; echo x > mnt/a/x; chmod 0 mnt/a; chmod 300 mnt/b; echo y > mnt/b/y; chmod 111 mnt/b")
        let said = try mounted(
            """
            ! ls mnt/a 2> /dev/null; ! cat mnt/a/x 2> /dev/null; cat mnt/b/y; ! ls mnt/b 2> /dev/null
            chmod 700 mnt/a mnt/b; cat mnt/a/x; ls mnt/b
            """)
        #expect(said == "y\nx\ny")
        let moved = try mounted("chmod 0 mnt/a; mv mnt/a mnt/c; stat -c %a mnt/c; chmod 700 mnt/c; cat mnt/c/x")
        #expect(moved == "0\nx")
    }

    /// What an owner may do to what is closed to the owner's own reading.
    @Test func whatIsClosedToItsOwnerStaysManageable() throws {
        let said = try mounted(
            """
            cd mnt
            mkdir listed; touch listed/f; for m in 400 600; do chmod $m listed; ls listed; ls -U listed; done; chmod 700 listed
            touch f; setfattr -n user.p -v 1 f
            for m in 200 300; do chmod $m f; setfattr -n user.q -v 2 f; setfattr -x user.q f; done
            for m in 0 100 200 300; do chmod $m f; python3 -c 'import os; print(os.listxattr("f"))'; done
            for m in 0 100 300 500 555; do
              mkdir -p x/y/z; mv x/y x/w; rmdir x/w/z; chmod $m x/w; rmdir x/w; ls -A x
              mkdir -p x/y/z x/n; mv x/y x/w; rmdir x/w/z; chmod $m x/w; python3 -c 'import os; os.rename("x/n", "x/w")'; rmdir x/w
              mkdir -p x/y/z; mv x/y x/w; chmod $m x/w; ! rmdir x/w 2> /dev/null; chmod 700 x/w; rm -r x/w
            done
            for u in 0 277 377 777; do
              mkdir um um/k; touch um/k/f; mv um/k k2; (umask $u; mkdir um/n); stat -c %a um/n; rmdir um/n; rmdir um; rm -r k2
            done
            cd ..
            """)
        let listings = [String](repeating: "f", count: 4)
        let attributes = [String](repeating: "['user.p']", count: 4)
        #expect(
            said.split(separator: "\n").map(String.init) == listings + attributes + ["777", "500", "400", "0"])
        #expect(try log() == "")
    }

    @Test func othersAreKeptOut() throws {
        let said = try vault.shell(
            """
            ./as 'coffer mount --log-file home/log --passphrase-file key vault mnt; echo x > mnt/x; chmod 644 mnt/x'
            trap 'umount -l mnt' EXIT
            # Even root: the mount is one person's.
            ! cat mnt/x 2> /dev/null; ! ls mnt 2> /dev/null
            ./as 'cat mnt/x; coffer unmount mnt'
            trap - EXIT
            """)
        #expect(said == "x")
    }

    @Test func aWalkWithFewDescriptors() throws {
        let (directories, files, limit) = Machine.isSoaking ? (2000, 100, 1024) : (500, 40, 256)
        let said = try mounted(
            """
            cd mnt
            python3 -c '
            import os
            for d in range(\(directories)):
                p = "%d/%d" % (d % 20, d); os.makedirs(p)
                for f in range(\(files)): open("%s/%d" % (p, f), "w").close()'
            cd ..; coffer unmount mnt; coffer mount --log-file home/log --passphrase-file key vault mnt
            find mnt -type f | wc -l; ls -lR mnt | grep -c '^-'; du -a mnt | wc -l; tar -c mnt | tar -t | grep -vc '/$'
            # Many of them open at once: as many as the person's limit lets a program open.
            python3 -c '
            import os
            held = []
            try:
                for root, dirs, files in os.walk("mnt"):
                    for f in files: held.append(open(os.path.join(root, f)))
            except OSError as e: assert e.errno == 24, e
            print(len(held) > \(limit) // 2)'
            find mnt -type f | wc -l
            """, limit: limit, seconds: 900)
        let total = "\(directories * files)"
        let entries = "\(directories * files + directories + 20 + 1)"
        #expect(said.split(separator: "\n").map(String.init) == [total, total, entries, total, "True", total])
        #expect(try log() == "")
    }
}
