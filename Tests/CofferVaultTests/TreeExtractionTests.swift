import CofferDisk
import CofferFormat
import Glibc
import SystemPackage
import Testing

@testable import CofferVault

/// What is taken out is what was put in.
struct TreeExtractionTests {
    private static let isRoot = geteuid() == 0

    private func status(_ path: String) throws -> stat {
        var result = stat()
        guard lstat(path, &result) == 0 else { throw Errno(rawValue: errno) }
        return result
    }

    /// Changes attributes of an entry's ciphertext, as a mount does.
    private func set(_ vault: TreeVault, _ path: String, mode: mode_t? = nil, _ seconds: Int, _ nanoseconds: Int) throws
    {
        let (parent, name) = try vault.parent(path)
        let entry = try vault.vault.find(name, in: parent.directory)
        let descriptor = try vault.vault.disk.open(
            at: parent.directory.descriptor, entry.name.entry.cString, flags: Disk.pathOnly | O_NOFOLLOW)
        defer { close(descriptor) }
        if let mode { try vault.vault.disk.setMode(descriptor, mode) }
        let time = timespec(tv_sec: seconds, tv_nsec: nanoseconds)
        try vault.vault.disk.setTimes(descriptor, access: time, modification: time)
    }

    @Test(arguments: [0, 1, 4095, 4096, 4097, 1 << 20, 3 << 20 + 5])
    func contents(count: Int) throws {
        let vault = try TreeVault()
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 / 251 + $0) }
        try vault.makeFile("file", bytes)
        let out = try vault.extract()
        #expect(try rawBytes(out.path + "/file") == bytes)
        #expect(out.totals.files == 1)
        #expect(out.totals.bytes == count)
        #expect(out.problems.isEmpty)
    }

    @Test func holesStayHoles() throws {
        let vault = try TreeVault()
        let size = 16 << 20
        try vault.withNewFile(Array("sparse".utf8), in: try vault.tree.root().directory) { contents in
            try contents.resize(to: size, vault.scratch)
            try contents.write("middle", count: 6, at: size / 2 + 100, vault.scratch)
        }
        let out = try vault.extract()
        let made = try status(out.path + "/sparse")
        #expect(made.st_size == size)
        // Only the block that was written to, without those that the vault stores at both ends.
        #expect(made.st_blocks * 512 <= 8192)
        let bytes = try rawBytes(out.path + "/sparse")
        #expect(String(decoding: bytes[(size / 2 + 100)..<(size / 2 + 106)], as: UTF8.self) == "middle")
        #expect(bytes.lazy.filter { $0 != 0 }.count == 6)
    }

    @Test func zerosThatWereWrittenStay() throws {
        let vault = try TreeVault()
        try vault.makeFile("zeros", [UInt8](repeating: 0, count: 1 << 20))
        let out = try vault.extract()
        let made = try status(out.path + "/zeros")
        #expect(made.st_size == 1 << 20 && made.st_blocks * 512 >= 1 << 20)
    }

    @Test func attributes() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("closed")
        try vault.makeDirectory("closed/below")
        try vault.makeFile("closed/below/file")
        try vault.makeLink("link", to: "nowhere")
        try set(vault, "closed/below/file", mode: 0o4751, 981_173_106, 123_456_789)
        try set(vault, "closed/below", mode: 0o500, 1, 2)
        try set(vault, "closed", mode: 0o2500, -5, 3)
        try set(vault, "link", 4_000_000_000, 999_999_999)
        let out = try vault.extract()
        let closed = try status(out.path + "/closed")
        #expect(closed.st_mode & 0o7777 == 0o2500)
        #expect(closed.st_mtim.tv_sec == -5 && closed.st_mtim.tv_nsec == 3)
        let below = try status(out.path + "/closed/below")
        #expect(below.st_mode & 0o7777 == 0o500 && below.st_mtim.tv_sec == 1 && below.st_mtim.tv_nsec == 2)
        let file = try status(out.path + "/closed/below/file")
        #expect(file.st_mode & 0o7777 == 0o4751)
        #expect(file.st_mtim.tv_sec == 981_173_106 && file.st_mtim.tv_nsec == 123_456_789)
        let link = try status(out.path + "/link")
        #expect(link.st_mtim.tv_sec == 4_000_000_000 && link.st_mtim.tv_nsec == 999_999_999)
        #expect(out.problems.isEmpty)
    }

    @Test func extendedAttributes() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("directory")
        try vault.makeFile("file")
        let long = "user." + String(repeating: "n", count: 240)
        for path in ["directory", "file"] {
            let (parent, name) = try vault.parent(path)
            let entry = try vault.vault.find(name, in: parent.directory)
            let descriptor = try vault.vault.disk.open(
                at: parent.directory.descriptor, entry.name.entry.cString, flags: Disk.pathOnly | O_NOFOLLOW)
            let readable = try vault.vault.disk.reopen(descriptor, flags: O_RDONLY)
            defer {
                close(descriptor)
                close(readable)
            }
            for attribute in ["user.comment", long] {
                try vault.vault.setAttribute(
                    Array(attribute.utf8), of: descriptor, mode: entry.status.st_mode, value: Array("value".utf8),
                    flags: 0
                ) { () throws(VaultError) in
                    entry.isFile ? try vault.vault.fileID(of: readable) : AttributeCodec.noOwner
                }
            }
        }
        let out = try vault.extract()
        for path in ["directory", "file"] {
            let descriptor = try openFile(out.path + "/" + path, flags: O_RDONLY)
            let readable = try vault.vault.disk.reopen(descriptor, flags: O_RDONLY)
            defer {
                close(descriptor)
                close(readable)
            }
            for attribute in ["user.comment", long] {
                #expect(try Disk().attributeBytes(descriptor, attribute, limit: 100) == Array("value".utf8))
            }
        }
        #expect(out.problems.isEmpty)
    }

    @Test func accessControlLists() throws {
        // Version 2; user::rwx user:1234:rwx group::r-- mask::rwx other::---
        let acl: [UInt8] =
            [2, 0, 0, 0] + [1, 0, 7, 0, 255, 255, 255, 255] + [2, 0, 7, 0, 0xD2, 4, 0, 0]
            + [4, 0, 4, 0, 255, 255, 255, 255] + [16, 0, 7, 0, 255, 255, 255, 255] + [32, 0, 0, 0, 255, 255, 255, 255]
        let vault = try TreeVault()
        try vault.makeDirectory("directory")
        try vault.makeFile("directory/file")
        let disk = Disk()
        do {
            let descriptor = try openFile(try vault.stored("directory"), flags: O_RDONLY)
            defer { close(descriptor) }
            try disk.setAttribute(descriptor, "system.posix_acl_default", bytes: acl, flags: 0)
            try disk.setAttribute(descriptor, "system.posix_acl_access", bytes: acl, flags: 0)
        } catch Errno.notSupported {
            return
        }
        let out = try vault.extract()
        #expect(out.problems.isEmpty)
        let directory = try openFile(out.path + "/directory", flags: O_RDONLY)
        defer { close(directory) }
        #expect(try disk.attributeBytes(directory, "system.posix_acl_default", limit: 100) == acl)
        #expect(try disk.attributeBytes(directory, "system.posix_acl_access", limit: 100) == acl)
        // The file was made before the list, in the vault and outside: it inherits nothing.
        let file = try openFile(out.path + "/directory/file", flags: O_RDONLY)
        defer { close(file) }
        #expect(throws: Errno.noData) { try disk.attributeBytes(file, "system.posix_acl_access", limit: 100) }
    }

    @Test func linksAndNodes() throws {
        let vault = try TreeVault()
        let root = try vault.tree.root().directory
        let long = String(repeating: "t", count: 4000)
        try vault.makeLink("short", to: "../away")
        try vault.makeLink("overflowing", to: long)
        _ = try vault.vault.makeNode(Array("fifo".utf8), in: root, mode: S_IFIFO | 0o640, device: 0)
        _ = try vault.vault.makeNode(Array("socket".utf8), in: root, mode: S_IFSOCK | 0o600, device: 0)
        if Self.isRoot {
            _ = try vault.vault.makeNode(Array("null".utf8), in: root, mode: S_IFCHR | 0o666, device: 259)
        }
        let out = try vault.extract()
        #expect(try Disk().linkBytes(at: AT_FDCWD, out.path + "/short") == Array("../away".utf8))
        #expect(try Disk().linkBytes(at: AT_FDCWD, out.path + "/overflowing") == Array(long.utf8))
        #expect(try status(out.path + "/fifo").st_mode == S_IFIFO | 0o640)
        #expect(try status(out.path + "/socket").st_mode == S_IFSOCK | 0o600)
        if Self.isRoot {
            let null = try status(out.path + "/null")
            #expect(null.st_mode & S_IFMT == S_IFCHR && null.st_rdev == 259)
        }
        #expect(out.totals.links == 2)
        #expect(out.problems.isEmpty)
    }

    @Test func hardLinks() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("b")
        try vault.makeDirectory("b/deep")
        try vault.makeDirectory("shut")
        try vault.makeFile("shut/file", Array("one".utf8))
        try vault.makeHardLink("shut/file", to: "a")
        try vault.makeHardLink("shut/file", to: "b/deep/c")
        try vault.makeHardLink("shut/file", to: "b/deep/d")
        try vault.makeLink("link", to: "x")
        try vault.makeHardLink("link", to: "b/link2")
        let out = try vault.extract()
        let first = try status(out.path + "/a")
        #expect(first.st_nlink == 4)
        for path in ["shut/file", "b/deep/c", "b/deep/d"] {
            #expect(try status(out.path + "/" + path).st_ino == first.st_ino)
        }
        #expect(try status(out.path + "/link").st_ino == (try status(out.path + "/b/link2").st_ino))
        #expect(out.totals.files == 1 && out.totals.hardLinks == 4 && out.totals.links == 1)
        #expect(out.problems.isEmpty)
        // A part of the tree holds only some of the names.
        let part = try vault.extract("b", to: "part")
        #expect(try status(part.path + "/deep/c").st_nlink == 2)
    }

    @Test func namesThatAreOdd() throws {
        let vault = try TreeVault()
        let root = try vault.tree.root()
        let names: [[UInt8]] = [
            [0xFF, 0xFE], Array("line\nbreak".utf8), Array("-rf".utf8), [0x20], Array("coffer.json".utf8),
            [UInt8](repeating: 0xC3, count: 255), Array(repeating: UInt8(ascii: "x"), count: 255),
        ]
        for name in names { try vault.makeFile(name, in: root.directory, name) }
        let out = try vault.extract()
        #expect(out.problems.isEmpty)
        let descriptor = try openFile(out.path, flags: O_RDONLY | O_DIRECTORY)
        defer { close(descriptor) }
        for name in names {
            let file = try Disk().open(at: descriptor, StoredName(name).cString, flags: O_RDONLY)
            defer { close(file) }
            #expect(try Disk().readBytes(file, limit: 300) == name)
        }
        #expect(try vault.list().count == names.count)
    }

    @Test func pathsBeyondPATHMAX() throws {
        let vault = try TreeVault()
        let names = (0..<30).map { [UInt8](repeating: UInt8(ascii: "a") + UInt8($0 % 26), count: 240) }
        var directory = try vault.tree.root()
        for name in names {
            _ = try vault.vault.makeDirectory(name, in: directory.directory, mode: 0o700)
            directory = try vault.tree.open(try vault.tree.entry(name, in: directory), in: directory)
        }
        try vault.makeFile(Array("file".utf8), in: directory.directory, Array("deep".utf8))
        try vault.makeFile("first", [1])
        _ = try vault.vault.makeHardLink(
            from: try vault.tree.root().directory, try vault.entry("first"), to: directory.directory,
            Array("linked".utf8))
        let out = try vault.extract()
        #expect(out.problems.isEmpty)
        #expect(out.totals.directories == 30 && out.totals.files == 2 && out.totals.hardLinks == 1)
        var descriptor = try openFile(out.path, flags: O_RDONLY | O_DIRECTORY)
        for name in names {
            let next = try Disk().open(at: descriptor, StoredName(name).cString, flags: O_RDONLY | O_DIRECTORY)
            close(descriptor)
            descriptor = next
        }
        defer { close(descriptor) }
        let file = try Disk().open(at: descriptor, "file", flags: O_RDONLY)
        defer { close(file) }
        #expect(try Disk().readBytes(file, limit: 300) == Array("deep".utf8))
    }

    @Test func deepTreesOnTheWayBack() throws {
        let vault = try TreeVault()
        var directory = try vault.tree.root()
        for level in 0..<100 {
            let name = Array("d".utf8)
            _ = try vault.vault.makeDirectory(name, in: directory.directory, mode: 0o700)
            // Comes after what is below, on the way back.
            try vault.makeFile(Array("z".utf8), in: directory.directory, [UInt8(level)])
            directory = try vault.tree.open(try vault.tree.entry(name, in: directory), in: directory)
        }
        let out = try vault.extract()
        #expect(out.problems.isEmpty)
        #expect(out.totals.directories == 100 && out.totals.files == 100)
        var path = out.path
        for level in 0..<100 {
            #expect(try rawBytes(path + "/z") == [UInt8(level)])
            path += "/d"
        }
        #expect(try TreeCensus(of: vault.tree).unreadable == 0)
    }

    @Test func aSingleFile() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("a")
        try vault.makeFile("a/file")
        try vault.makeFile("a/other")
        let out = try vault.extract("/a//file")
        #expect(try rawBytes(out.path + "/file") == Array("contents".utf8))
        #expect(access(out.path + "/other", F_OK) != 0)
    }
}
