import Foundation
import Glibc
import SystemPackage
import Testing

/// A small change in the mount is a small change in the vault.
@Suite(.mounts, .programs("rsync"), .serialized) struct SmallCopyTests {
    private let vault: TestVault

    init() throws {
        vault = try TestVault()
    }

    /// A figure of `rsync --stats`.
    private func figure(_ name: String, _ statistics: String) throws -> Int {
        let line = try #require(statistics.split(separator: "\n").first { $0.hasPrefix(name) }, "\(statistics)")
        let digits = line.split(separator: ":")[1].split(separator: "(")[0].filter(\.isNumber)
        return try #require(Int(digits))
    }

    @Test func oneByteOfAGibibyte() throws {
        let mount = try vault.mount()
        try vault.shell("head -c 1G /dev/urandom > mnt/big; head -c 1M /dev/urandom > mnt/other", seconds: 300)
        try mount.unmount()
        try vault.shell("rsync -aHAX vault/ copy/", seconds: 300)
        let second = try vault.mount()
        try OpenFile(second.file("big"), O_WRONLY).write([1], at: 777_777_777)
        try second.unmount()
        let statistics = try vault.shell(
            "rsync -aHAX --no-whole-file --inplace --stats vault/ copy/", seconds: 600)
        #expect(try figure("Literal data", statistics) < 64 << 10)
        #expect(try figure("Number of regular files transferred", statistics) == 1)
        let again = try vault.shell("rsync -aHAX --no-whole-file --stats vault/ copy/", seconds: 600)
        #expect(try figure("Number of regular files transferred", again) == 0)
        let copy = try vault.mount(vault: "copy")
        #expect(try OpenFile(copy.file("big"), O_RDONLY).read(1, at: 777_777_777) == [1])
    }

    @Test func aMountThatChangesNothingChangesNothing() throws {
        let mount = try vault.mount()
        try OddTree(mount.file("tree")).make()
        try mount.unmount()
        try vault.shell("rsync -aHAX --modify-window=-1 vault/ copy/")
        let second = try vault.mount()
        try vault.shell(
            "find mnt -type f -exec cat {} + > /dev/null; ls -lR mnt > /dev/null; getfattr -R -d -m - mnt > /dev/null 2>&1 || true"
        )
        try second.unmount()
        let statistics = try vault.shell("rsync -aHAXc --stats vault/ copy/")
        #expect(try figure("Number of regular files transferred", statistics) == 0)
        #expect(try vault.shell("rsync -aHAXni --delete --modify-window=-1 vault/ copy/") == "")
    }

    @Test func renamingADirectoryReencryptsNothing() throws {
        let mount = try vault.mount()
        try vault.shell(
            """
            mkdir -p mnt/d/sub; cd mnt/d
            seq 1 9000 | xargs -I@ echo 'echo @ > @' | bash; cd sub; seq 1 1000 | xargs -I@ echo 'echo @ > @' | bash
            """)
        let second = try mount.remount()
        // Entries stay the files they are: same inode, same name, same times.
        let listing =
            "find vault -type f -name 'c*' ! -name 'coffer.*' -printf '%f %i %s %T@ %C@\\n' | sort | sha256sum"
        let before = try vault.shell(listing)
        try vault.shell("mv mnt/d mnt/e; mkdir mnt/d; mv mnt/e mnt/d/f")
        #expect(try vault.shell(listing) == before)
        let third = try second.remount()
        #expect(
            try vault.shell("find mnt/d/f -type f -exec cat {} + | sort -n | sha256sum")
                == vault.shell("(seq 1 9000; seq 1 1000) | sort -n | sha256sum"))
        try third.unmount()
        #expect(try vault.shell(listing) == before)
        #expect(try vault.log() == [])
    }
}
