import Foundation
import Glibc
import SystemPackage
import Testing

/// A real tree goes in, the vault is copied as a backup would, and the copy shows the same.
@Suite(.mounts, .programs("rsync"), .serialized) struct RoundTripTests {
    private let vault: TestVault

    init() throws {
        vault = try TestVault()
    }

    /// Nothing to transfer, by content and every attribute, to the nanosecond.
    private func expectEqual(
        _ one: String, _ other: String, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        // xfs lists access control lists once more under a name of its own.
        let differences = try vault.shell(
            "rsync -aHAXnci --filter='-x trusted.SGI_ACL_*' --delete --modify-window=-1 \(one)/ \(other)/ | head -100",
            seconds: 600)
        #expect(differences == "", sourceLocation: sourceLocation)
    }

    /// 20,000 files and more of what this machine has: headers, Python's library, documentation.
    @Test func aRealTree() throws {
        let wanted = Machine.isSoaking ? 60_000 : 20_500
        try vault.shell(
            """
            mkdir src
            { find /usr/include /usr/lib/python3* /usr/share /usr/lib -xdev \\( -type f -size -300k -o -type l \\) -readable -print0 2> /dev/null || true; } \\
              | head -z -n \(wanted) > list
            rsync -a --files-from=list --from0 / src/
            """, seconds: 300)
        let count = Int(try vault.shell("find src ! -type d | wc -l")) ?? 0
        try #require(count >= (Machine.isSoaking ? 50_000 : 20_000))
        let mount = try vault.mount()
        try vault.shell("rsync -aHAX src/ mnt/", seconds: 600)
        try mount.unmount()
        try vault.shell("rsync -aHAX vault/ copy/", seconds: 600)
        let copy = try vault.mount(vault: "copy")
        try expectEqual("src", "mnt")
        try copy.unmount()
        #expect(try vault.log() == [])
        // No name or content is readable in the vault.
        #expect(try vault.shell("find vault -name '*.h' -o -name '*.py' -o -iname '*python*' | wc -l") == "0")
        #expect(
            try vault.shell(
                "{ grep -rIl 'include\\|import' vault --exclude=coffer.json || true; } | wc -l", seconds: 300) == "0")
    }

    /// Everything that a tree can have in it but never has.
    @Test func oddThings() throws {
        try OddTree(vault.directory + "/src").make()
        let mount = try vault.mount()
        try vault.shell("rsync -aHAX src/ mnt/")
        try expectEqual("src", "mnt")
        try mount.unmount()
        try vault.shell("rsync -aHAX vault/ copy/")
        let copy = try vault.mount(vault: "copy")
        try expectEqual("src", "mnt")
        let listing = "find . -mindepth 1 ! -type d -printf '%P %y %m %s %T@ %n %l\\0' | LC_ALL=C sort -z | sha256sum"
        #expect(try vault.shell("cd mnt; \(listing)") == vault.shell("cd src; \(listing)"))
        try copy.unmount()
        #expect(try vault.log() == [])
    }

    @Test func oddThingsMadeInTheMount() throws {
        let mount = try vault.mount()
        try OddTree(mount.file("tree")).make()
        try vault.shell("rsync -aHAX mnt/tree/ out/")
        let second = try mount.remount()
        try expectEqual("out", "mnt/tree")
        try second.unmount()
        #expect(try vault.log() == [])
    }

    @Test(arguments: ["aes-256-gcm", "chacha20-poly1305"])
    func sizesAroundABlock(_ cipher: String) throws {
        let vault = try TestVault(["--cipher", cipher, "--name-max", "143"])
        let mount = try vault.mount()
        let sizes = [0, 1, 15, 16, 17, 4064, 4095, 4096, 4097, 4128, 8191, 8192, 8193, 12_288, 1 << 20, 1 << 20 + 1]
        for size in sizes {
            try put(pattern(size, seed: size), in: mount.file("\(size) \(String(repeating: "x", count: 100))"))
        }
        let second = try mount.remount()
        for size in sizes {
            let name = second.file("\(size) \(String(repeating: "x", count: 100))")
            #expect(try status(of: name).st_size == size)
            #expect(try contents(of: name) == pattern(size, seed: size))
        }
    }

    /// 5 GiB: beyond what 32 bits count, in bytes of either kind.
    @Test func aHugeFile() throws {
        let size = 5 << 30
        let mount = try vault.mount()
        // A key stream is as good as random, and can be made again instead of being stored.
        let stream = """
            (openssl enc -aes-128-ctr -nosalt -K 00112233445566778899aabbccddeeff -iv 0 < /dev/zero 2> /dev/null || true)
            """
        // All of it takes two minutes; its beginning, its end and the middle around 4 GiB do not.
        let pieces =
            Machine.isSoaking
            ? [(0, size)] : [(0, 64 << 20), (4 << 30 - 77 << 20 + 5, 200 << 20), (size - 64 << 20, 64 << 20)]
        for (offset, count) in pieces {
            try vault.shell(
                """
                \(stream) | head -c \(count) | dd of=mnt/huge bs=1M conv=notrunc oflag=seek_bytes seek=\(offset) iflag=fullblock status=none
                """, seconds: 900)
        }
        #expect(try status(of: mount.file("huge")).st_size == size)
        let second = try mount.remount()
        for (offset, count) in pieces {
            let compared = try vault.tryShell("\(stream) | cmp -n \(count) -i 0:\(offset) - mnt/huge", seconds: 900)
            #expect(compared.status == 0, "\(offset): \(compared)")
        }
        #expect(try vault.shell("stat -c %s vault/!(coffer.*)") == "\(32 + size / 4096 * 4128)")
        try second.unmount()
    }

    @Test func aSparseFileOfATebibyte() throws {
        let places = [4096 * 12_345, 1 << 39 + 777, 1 << 40 - 5]
        let mount = try vault.mount()
        do {
            let file = try OpenFile(mount.file("sparse"), O_RDWR | O_CREAT)
            try file.truncate(to: 1 << 40)
            for place in places { try file.write([1, 2, 3, 4, 5], at: place) }
        }
        try mount.unmount()
        #expect((Int(try vault.shell("du -k vault/!(coffer.*) | cut -f1")) ?? .max) < 1024)
        try vault.shell(
            "cp -a --sparse=always vault copy", seconds: 900)
        #expect((Int(try vault.shell("du -k copy/!(coffer.*) | cut -f1 | sort -n | tail -1")) ?? .max) < 1024)
        let copy = try vault.mount(vault: "copy")
        let file = try OpenFile(copy.file("sparse"), O_RDONLY)
        #expect(try file.status().st_size == 1 << 40)
        for place in places {
            let around = try file.read(20_005, at: place - 10_000)
            let expected =
                zeros(10_000) + [1, 2, 3, 4, 5] + zeros(10_000)
            #expect(around == Array(expected.prefix(around.count)))
        }
        for index in 1..<200 { #expect(try file.read(5000, at: index << 32 + 1 << 20).allSatisfy { $0 == 0 }) }
    }

    @Test func holesReadTheSameHoweverTheyAreCopied() throws {
        let mount = try vault.mount()
        do {
            let file = try OpenFile(mount.file("sparse"), O_RDWR | O_CREAT)
            try file.truncate(to: 64 << 20)
            for place in [5 << 20 + 3, 40 << 20 - 1, 50 << 20] { try file.write(pattern(5000), at: place) }
            try file.allocate(3, at: 50 << 20 + 100, count: 4096)
        }
        try vault.shell("cp --sparse=never mnt/sparse plain")
        try mount.unmount()
        for (options, isSparse) in [("-aHAX", false), ("-aHAXS", true)] {
            try vault.shell("rm -rf copy; rsync \(options) vault/ copy/")
            let kibibytes = Int(try vault.shell("du -k copy/!(coffer.*) | cut -f1 | sort -n | tail -1")) ?? 0
            #expect(isSparse == (kibibytes < 1024))
            let copy = try vault.mount(vault: "copy")
            #expect(try vault.tryShell("cmp plain mnt/sparse").status == 0)
            // What is written into a hole of either copy stays written.
            try OpenFile(copy.file("sparse")).write(pattern(100_000, seed: 9), at: 20 << 20)
            let again = try copy.remount()
            #expect(
                try OpenFile(again.file("sparse"), O_RDONLY).read(100_002, at: 20 << 20 - 1)
                    == [0] + pattern(100_000, seed: 9) + [0])
            try again.unmount()
        }
    }
}
