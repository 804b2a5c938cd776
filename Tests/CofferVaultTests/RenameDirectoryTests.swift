import CofferDisk
import CofferFormat
import Glibc
import SystemPackage
import Testing

@testable import CofferVault

/// Directories that move keep what is in them, and no two ever answer to one id.
struct RenameDirectoryTests {
    private func recordCount(_ vault: TreeVault, _ path: String) throws -> Int {
        (try rawBytes(try vault.storedDirectory(path) + "/coffer.dir").count - 8) / 48
    }

    private func creating(_ vault: TreeVault, _ path: String) throws -> DirectoryID {
        try vault.directory(path).directory.identity.creating
    }

    @Test func aMovedDirectoryKeepsItsEntries() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("a")
        try vault.makeDirectory("a/b")
        try vault.makeFile("a/b/file")
        try vault.makeDirectory("elsewhere")
        let id = try creating(vault, "a")
        let outcome = try vault.rename("a", to: "elsewhere/a2")
        #expect(outcome.isSourceMarked)
        #expect(try creating(vault, "elsewhere/a2") == id)
        #expect(try vault.text("elsewhere/a2/b/file") == "contents")
        #expect(try vault.list() == ["elsewhere"])
        #expect(try recordCount(vault, "elsewhere/a2") == 1)
        // What is below has not moved, so it needs no record.
        #expect(try vault.raw("elsewhere/a2/b").count == 1)
    }

    @Test func nestedRenames() throws {
        let vault = try TreeVault()
        for path in ["a", "a/b", "a/b/c"] { try vault.makeDirectory(path) }
        try vault.makeFile("a/b/c/file")
        try vault.rename("a/b/c", to: "a/b/c2")
        try vault.rename("a/b", to: "a/b2")
        try vault.rename("a", to: "a2")
        try vault.rename("a2/b2/c2", to: "c3")
        #expect(try vault.text("c3/file") == "contents")
        try vault.rename("c3", to: "a2/b2/c4")
        #expect(try vault.text("a2/b2/c4/file") == "contents")
        try vault.makeFile("a2/b2/c4/new")
        #expect(try vault.list("a2/b2/c4") == ["file", "new"])
    }

    @Test func thereAndBackLeavesNothing() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("a")
        try vault.makeFile("a/file")
        try vault.rename("a", to: "b")
        try vault.rename("b", to: "a")
        #expect(try vault.text("a/file") == "contents")
        #expect(try vault.raw("a").contains("coffer.dir") == false)
    }

    @Test func aVacatedNameGetsAnotherID() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("daily.0")
        try vault.makeFile("daily.0/file")
        let id = try creating(vault, "daily.0")
        try vault.rename("daily.0", to: "daily.1")
        try vault.makeDirectory("daily.0")
        #expect(try creating(vault, "daily.0") != id)
        #expect(try creating(vault, "daily.1") == id)
        try vault.makeFile("daily.0/new")
        #expect(try vault.list("daily.0") == ["new"])
    }

    @Test func entriesOfTheDirectoryThatLeftDoNotVerifyInItsSuccessor() throws {
        let vault = try TreeVault()
        for path in ["daily.0", "spare"] { try vault.makeDirectory(path) }
        try vault.makeFile("daily.0/file")
        try vault.rename("daily.0", to: "daily.1")
        try vault.makeDirectory("daily.0")
        // An attacker puts an entry of the one that was here before into the new one: made there, and renamed there.
        let stored = try vault.stored("daily.1/file")
        let name = try #require(stored.split(separator: "/").last)
        for makesIt in [true, false] {
            if !makesIt {
                try vault.remove("daily.0")
                try vault.rename("spare", to: "daily.0")
            }
            let target = try vault.storedDirectory("daily.0") + "/" + name
            try #require(link(stored, target) == 0)
            #expect(throws: (any Error).self) { try vault.read("daily.0/file") }
            #expect(try vault.list("daily.0") == ["?"])
            try #require(unlink(target) == 0)
        }
        #expect(try vault.text("daily.1/file") == "contents")
    }

    @Test func anEmptyDirectoryIntoAMarkedOneGetsAnIDOfItsOwn() throws {
        let vault = try TreeVault()
        for path in ["from", "from/a", "to", "empty"] { try vault.makeDirectory(path) }
        try vault.makeFile("from/a/file")
        let id = try creating(vault, "from/a")
        try vault.rename("from/a", to: "to/a")
        // Takes the place whose derived id "to/a" goes on using.
        let outcome = try vault.rename("empty", to: "from/a")
        #expect(outcome.moved?.pins.isEmpty == false)
        #expect(try creating(vault, "from/a") != id)
        #expect(try creating(vault, "to/a") == id)
    }

    @Test func anEmptyDirectoryIntoAnUnmarkedOneNeedsNoRecord() throws {
        // Where entries have no order, it does.
        let disk = SimulatedTree(.ext4)
        let vault = try TreeVault(nameMax: 143, disk: disk, rootDescriptor: disk.root())
        for path in ["from", "to", "from/a"] { try vault.makeDirectory(path) }
        let outcome = try vault.rename("from/a", to: "to/a")
        #expect(!outcome.isSourceMarked)
        let moved = try vault.directory("to/a")
        let record = try withExtendedLifetime(moved) { try vault.vault.recordBytes(of: moved.directory.descriptor) }
        #expect(record == nil)
        try vault.makeLink("to/a/link", to: "target")
        #expect(try vault.target("to/a/link") == "target")
    }

    @Test func exchange() throws {
        let vault = try TreeVault()
        for path in ["a", "b", "b/deep"] { try vault.makeDirectory(path) }
        try vault.makeFile("a/file", Array("in a".utf8))
        try vault.makeFile("b/deep/file", Array("in b".utf8))
        try vault.makeFile("plain")
        try vault.rename("a", to: "b/deep", .exchange)
        #expect(try vault.text("a/file") == "in b")
        #expect(try vault.text("b/deep/file") == "in a")
        try vault.rename("plain", to: "a", .exchange)
        #expect(try vault.text("plain/file") == "in b")
        #expect(try vault.text("a") == "contents")
    }

    @Test(arguments: [true, false])
    func exchangingWithAnEmptyDirectoryGivesNoIDTwice(fullFirst: Bool) throws {
        let vault = try TreeVault()
        for path in ["x", "y", "x/full", "y/empty"] { try vault.makeDirectory(path) }
        try vault.makeFile("x/full/file")
        let id = try creating(vault, "x/full")
        if fullFirst {
            try vault.rename("x/full", to: "y/empty", .exchange)
        } else {
            try vault.rename("y/empty", to: "x/full", .exchange)
        }
        #expect(try creating(vault, "y/empty") == id)
        #expect(try creating(vault, "x/full") != id)
        #expect(try vault.text("y/empty/file") == "contents")
    }

    @Test func manyRenamesDoNotGrowTheRecords() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("0")
        try vault.makeFile("0/file")
        try vault.makeFile("0/" + String(repeating: "long", count: 60))
        for index in 0..<100 { try vault.rename("\(index)", to: "\(index + 1)") }
        // The pin, and that the id of the place is not answered to: the root is marked.
        #expect(try recordCount(vault, "100") == 2)
        #expect(try vault.text("100/file") == "contents")
        #expect(try recordCount(vault, "") == 1)
    }

    @Test func aLongNameWithoutItsPiecesDoesNotBlockRenames() throws {
        let vault = try TreeVault()
        let long = String(repeating: "long", count: 60)
        try vault.makeDirectory("0")
        try vault.makeFile("0/" + long)
        for companion in try vault.entry("0/" + long).name.companions {
            try removeFile(try vault.stored("0") + "/" + companion.description)
        }
        for index in 0..<100 { try vault.rename("\(index)", to: "\(index + 1)") }
        #expect(try vault.list("100") == ["?"])
        #expect(try recordCount(vault, "100") < 16)
    }

    @Test func aDirectoryMovedBehindTheVaultsBackDoesNotReadElsewhere() throws {
        let vault = try TreeVault()
        for path in ["a", "b"] { try vault.makeDirectory(path) }
        try vault.makeFile("a/file")
        try vault.makeDirectory("a/below")
        let (from, to) = (try vault.stored("a"), try vault.stored("b"))
        #expect(renameat2(AT_FDCWD, from, AT_FDCWD, to, 2) == 0)
        #expect(try vault.list("b") == ["?", "?"])
        #expect(throws: VaultError.system(.noSuchFileOrDirectory)) { try vault.text("b/file") }
        #expect(renameat2(AT_FDCWD, from, AT_FDCWD, to, 2) == 0)
        #expect(try vault.list("a") == ["below", "file"])
    }
}

/// renameat2(2), which Swift's C library module does not offer.
private func renameat2(_ from: Int32, _ old: String, _ to: Int32, _ new: String, _ flags: UInt32) -> Int32 {
    do throws(Errno) {
        try Disk().rename(from: from, old, to: to, new, mode: flags == 2 ? .exchange : .replace)
        return 0
    } catch {
        return -1
    }
}
