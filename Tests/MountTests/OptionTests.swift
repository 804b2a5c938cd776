import Glibc
import SystemPackage
import Testing

/// What a mount is told by options, mount(8) and fstab(5).
@Suite(.mounts) struct OptionTests {
    private let vault: TestVault

    init() throws {
        vault = try TestVault()
    }

    private func options(_ mount: MountedVault) throws -> [String] {
        try vault.shell("awk '$2 == \"\(mount.path)\" { print $4 }' /proc/self/mounts").split(separator: ",").map(
            String.init)
    }

    @Test(arguments: [["--read-only"], ["-o", "ro"], ["-o", "noatime,ro"]])
    func readOnlyChangesNothing(_ words: [String]) throws {
        let writer = try vault.mount()
        try vault.shell("cd mnt; echo x > x; mkdir d; echo y > d/y; ln -s x l")
        try writer.unmount()
        let before = try vault.shell("find vault -printf '%p %i %s %T@ %C@\\n' | sort")
        let mount = try vault.mount(words)
        #expect(try vault.shell("cat mnt/x mnt/d/y mnt/l") == "x\ny\nx")
        for script in [
            "echo z > mnt/z", "echo z >> mnt/x", "rm mnt/x", "mkdir mnt/e", "mv mnt/x mnt/w", "chmod 600 mnt/x",
            "touch mnt/x", "ln mnt/x mnt/h", "truncate -s 0 mnt/x",
        ] {
            let outcome = try vault.tryShell(script)
            #expect(outcome.status != 0 && outcome.errors.contains("Read-only file system"), "\(script): \(outcome)")
        }
        try mount.unmount()
        #expect(try vault.shell("find vault -printf '%p %i %s %T@ %C@\\n' | sort") == before)
    }

    /// A thread that keeps a virtual machine's processor awake is there only where it is of use, and never with little power.
    @Test func littlePower() throws {
        let isOfUse = try vault.shell(
            """
            polled=$(cat /sys/module/haltpoll/parameters/guest_halt_poll_ns 2> /dev/null || echo 0)
            [ "$(uname -m)" = x86_64 ] && grep -qw hypervisor /proc/cpuinfo && [ $(nproc) -gt 1 ] && [ $polled = 0 ] && echo yes || true
            """)
        for (options, companions) in [
            ([], isOfUse == "yes" ? "1" : "0"), (["--low-power"], "0"), (["-o", "low_power"], "0"),
        ] {
            let mount = try vault.mount(options)
            // It is the last to get any time, so it may take some until it has said that this will do.
            let script = """
                for i in $(seq 100); do echo $i > mnt/$i; done; rm mnt/*
                for i in $(seq 200); do
                    idle=$(awk '$41 == 5' /proc/\(mount.driver.id)/task/*/stat | wc -l)
                    [ $idle = \(companions) ] && break; sleep 0.05
                done
                echo $idle
                """
            #expect(try vault.shell(script) == companions, "\(options)")
            try mount.unmount()
        }
    }

    @Test func mountsAreRestrictedUnlessToldOtherwise() throws {
        let mount = try vault.mount()
        let found = try options(mount)
        #expect(found.contains("nosuid") && found.contains("nodev") && found.contains("default_permissions"))
        #expect(!found.contains("allow_other") && !found.contains("noexec"))
        try mount.unmount()
    }

    @Test(.root) func optionsReachTheKernel() throws {
        let mount = try vault.mount([
            "--allow-other", "-o", "noexec,suid,dev", "-o", "noatime,x-systemd.automount,nofail",
        ])
        let found = try options(mount)
        for option in ["allow_other", "noexec", "noatime"] { #expect(found.contains(option), "\(option) in \(found)") }
        for option in ["nosuid", "nodev"] { #expect(!found.contains(option), "\(option) in \(found)") }
        try vault.shell("echo 'echo runs' > mnt/script; chmod +x mnt/script")
        #expect(try vault.tryShell("mnt/script").status != 0)
        try vault.shell("mknod mnt/null c 1 3; echo x > mnt/null")
        try mount.unmount()
    }

    @Test func programsRunFromAMount() throws {
        let mount = try vault.mount()
        #expect(try vault.shell("cp /bin/echo mnt/; mnt/echo runs") == "runs")
        try mount.unmount()
    }

    @Test(.root) func deviceNodesHaveNoEffect() throws {
        let mount = try vault.mount()
        try vault.shell("mknod mnt/null c 1 3")
        #expect(throws: Errno.permissionDenied) { try OpenFile(mount.file("null"), O_WRONLY) }
        #expect(try vault.shell("stat -c '%F %t %T' mnt/null") == "character special file 1 3")
        try mount.unmount()
    }

    /// In a mount namespace of its own, where the program stands beside the system's helpers.
    private func mountWithSystem(_ script: String) throws -> String {
        try vault.shell(
            """
            cat > inside <<'END'
            set -eu -o pipefail
            sbin=$(realpath /sbin)
            mkdir helpers programs; mount --bind $sbin helpers; mount -t tmpfs none $sbin; ln -s $PWD/helpers/* $sbin/
            ln -s '\(CofferProgram.path ?? "")' programs/coffer; ln -s $PWD/programs/coffer $sbin/
            export PATH=$PWD/programs:$PATH COFFER_STATE_DIR=$PWD/state
            \(script)
            END
            unshare -m bash inside
            """)
    }

    @Test(.root, .programs("mount.fuse3", "unshare")) func mountingAsTheSystemDoes() throws {
        let said = try mountWithSystem(
            """
            rm -f $sbin/mount.fuse.coffer
            mount -t fuse.coffer -o passphrase_file=$PWD/key,log_file=$PWD/log,allow_other $PWD/vault $PWD/mnt
            echo by mount.fuse3 > mnt/a
            findmnt -no FSTYPE,SOURCE mnt | xargs
            coffer unmount mnt
            mount.fuse3 coffer#$PWD/vault $PWD/mnt -o ro,passphrase_file=$PWD/key,log_file=$PWD/log
            cat mnt/a
            ! touch mnt/a 2> /dev/null
            coffer unmount mnt
            """)
        #expect(said.split(separator: "\n") == ["fuse.coffer \(vault.path)", "by mount.fuse3"])
    }

    @Test(.root, .programs("unshare")) func mountingByItsOwnHelperAndFstab() throws {
        let said = try mountWithSystem(
            """
            ln -sf $PWD/programs/coffer $sbin/mount.fuse.coffer
            mount -t fuse.coffer -o passphrase_file=$PWD/key,log_file=$PWD/log,allow_suid $PWD/vault $PWD/mnt
            echo by its own > mnt/a
            findmnt -no OPTIONS mnt | grep -c nosuid || true; findmnt -no OPTIONS mnt | grep -c nodev
            umount mnt
            echo "$PWD/vault $PWD/mnt fuse.coffer noauto,nofail,ro,passphrase_file=$PWD/key,log_file=$PWD/log,x-thing=1 0 0" > fstab
            mount --bind fstab /etc/fstab
            for i in $(seq 200); do mount $PWD/mnt 2> said && break; grep -q 'in use\\|mounted for writing' said || { cat said; exit 1; }; sleep 0.05; done
            cat mnt/a
            findmnt -no OPTIONS mnt | cut -d, -f1
            coffer unmount mnt
            mkdir mnt2
            mount -t fuse.coffer -o passphrase_file=$PWD/key,log_file=$PWD/log,multi_writer $PWD/vault $PWD/mnt
            mount -t fuse.coffer -o passphrase_file=$PWD/key,log_file=$PWD/log,multi_writer $PWD/vault $PWD/mnt2
            echo by two > mnt/b; cat mnt2/b
            coffer unmount mnt; coffer unmount mnt2
            """)
        #expect(said.split(separator: "\n") == ["0", "1", "by its own", "ro", "by two"])
    }
}
