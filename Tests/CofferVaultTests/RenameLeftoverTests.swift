import CofferDisk
import CofferFormat
import Glibc
import SystemPackage
import Testing

@testable import CofferVault

/// What Coffer keeps in directories: it never stands in a person's way, and is not lost where something fails.
struct RenameLeftoverTests {
    private func makePinned(_ vault: TreeVault, _ path: String) throws {
        try vault.makeDirectory("made")
        try vault.makeFile("made/file")
        try vault.rename("made", to: path)
        try vault.remove(path + "/file")
        #expect(try vault.raw(path) == ["coffer.dir"])
    }

    /// Lends a directory as another machine knows it that has not seen its records.
    private func withoutRecords(_ vault: TreeVault, _ path: String, _ body: (VaultDirectory) throws -> Void) throws {
        let opened = try vault.directory(path)
        try withExtendedLifetime(opened) {
            try body(
                VaultDirectory(
                    descriptor: opened.directory.descriptor,
                    identity: DirectoryIdentity(derived: opened.directory.identity.derived)))
        }
    }

    @Test func removingADirectoryWithLeftovers() throws {
        let vault = try TreeVault()
        try makePinned(vault, "a")
        let stored = try vault.stored("a")
        for name in ["coffer.dir.new", "coffer.link.AAAAAAAAAAAAAAAAAAAAAA", "coffer.long.AAAAAAAAAAAAAAAAAAAAAA.00.x"]
        {
            try setRawBytes(stored + "/" + name, [])
        }
        // A machine that stopped while it made a directory.
        #expect(mkdir(stored + "/coffer.new.AAAAAAAAAAAAAAAAAAAAAA", 0o700) == 0)
        try setRawBytes(stored + "/coffer.new.AAAAAAAAAAAAAAAAAAAAAA/coffer.dir.new", [1])
        #expect(try vault.list("a") == [])
        try vault.remove("a")
        #expect(try vault.list() == [])
    }

    @Test func aForeignFileKeepsItsDirectory() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("a")
        try setRawBytes(try vault.stored("a") + "/notes.txt", [1])
        #expect(throws: VaultError.system(.directoryNotEmpty)) { try vault.remove("a") }
        #expect(try vault.raw("a") == ["notes.txt"])
    }

    @Test func renamingOverAnEmptyDirectoryWithRecords() throws {
        let vault = try TreeVault()
        try makePinned(vault, "old")
        try vault.makeDirectory("new")
        try vault.makeFile("new/file")
        try vault.rename("new", to: "old")
        #expect(try vault.text("old/file") == "contents")
        #expect(try vault.list() == ["old"])
    }

    @Test func aRefusedRenameLeavesTheTargetsRecords() throws {
        let vault = try TreeVault()
        try makePinned(vault, "a")
        try vault.makeFile("file")
        #expect(throws: VaultError.system(.isDirectory)) { try vault.rename("file", to: "a") }
        #expect(try vault.raw("a") == ["coffer.dir"])
    }

    @Test func aRefusedRenameLeavesTheTargetsName() throws {
        let vault = try TreeVault()
        let long = String(repeating: "l", count: 250)
        try vault.makeDirectory(long)
        try vault.makeFile(long + "/file")
        try vault.makeDirectory("a")
        try vault.makeFile("b")
        #expect(throws: VaultError.system(.directoryNotEmpty)) { try vault.rename("a", to: long) }
        #expect(throws: VaultError.system(.isDirectory)) { try vault.rename("b", to: long) }
        #expect(throws: VaultError.system(.fileExists)) { try vault.makeFile(long) }
        #expect(throws: VaultError.system(.fileExists)) { try vault.makeLink(long, to: "x") }
        #expect(throws: VaultError.system(.fileExists)) {
            try vault.makeLink(long, to: String(repeating: "t", count: 4000))
        }
        #expect(try vault.list() == ["a", "b", long])
    }

    @Test func damagedRecordsAreNotOverwritten() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("made")
        try vault.makeFile("made/file")
        try vault.rename("made", to: "a")
        let record = try vault.stored("a") + "/coffer.dir"
        let good = try rawBytes(record)
        try setRawBytes(record, Array(good.dropLast()))
        #expect(try vault.list("a") == ["?"])
        #expect(throws: VaultError.damaged(Damage(.directory))) { try vault.rename("a", to: "b") }
        try setRawBytes(record, good)
        #expect(try vault.text("a/file") == "contents")
    }

    @Test func whateverStandsInTheRecordsPlaceIsNotWaitedFor() throws {
        let vault = try TreeVault()
        for path in ["a", "b", "c"] { try vault.makeDirectory(path) }
        #expect(mkfifo(try vault.stored("a") + "/coffer.dir", 0o600) == 0)
        #expect(mkdir(try vault.stored("b") + "/coffer.dir", 0o700) == 0)
        #expect(symlink("/dev/zero", try vault.stored("c") + "/coffer.dir") == 0)
        for path in ["a", "b", "c"] {
            #expect(try vault.list(path) == [])
            try vault.makeFile(path + "/file")
            #expect(try vault.text(path + "/file") == "contents")
        }
    }

    @Test func aMarkOutlivesItsDirectory() throws {
        let vault = try TreeVault()
        for path in ["backup", "backup/daily", "kept"] { try vault.makeDirectory(path) }
        try vault.makeFile("backup/daily/file")
        let id = try vault.directory("backup/daily").directory.identity.creating
        try vault.rename("backup/daily", to: "kept/daily")
        try vault.remove("backup")
        for path in ["backup", "backup/daily"] { try vault.makeDirectory(path) }
        #expect(try vault.directory("backup/daily").directory.identity.creating != id)
        #expect(try vault.directory("kept/daily").directory.identity.creating == id)
    }

    @Test func aMarkOutlivesBeingReplacedAndMoved() throws {
        for isReplaced in [true, false] {
            let vault = try TreeVault()
            for path in ["p", "p/x", "kept", "other"] { try vault.makeDirectory(path) }
            try vault.makeFile("p/x/file")
            let id = try vault.directory("p/x").directory.identity.creating
            try vault.rename("p/x", to: "kept/x")
            if isReplaced {
                try vault.rename("other", to: "p")
            } else {
                try vault.rename("p", to: "q")
                try vault.rename("q", to: "p")
            }
            try vault.makeDirectory("p/x")
            #expect(try vault.directory("p/x").directory.identity.creating != id, "replaced: \(isReplaced)")
        }
    }

    @Test func aNameIsTakenUnderWhateverIDItStands() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("made")
        try vault.makeFile("made/file")
        try vault.rename("made", to: "a")
        try withoutRecords(vault, "a") { try vault.makeFile(Array("other".utf8), in: $0, [1]) }
        #expect(try vault.list("a") == ["file", "other"])
        #expect(throws: VaultError.system(.fileExists)) { try vault.makeFile("a/other") }
        #expect(throws: VaultError.system(.fileExists)) { try vault.makeDirectory("a/other") }
        try vault.rename("a/file", to: "a/other")
        #expect(try vault.list("a") == ["other"])
        #expect(try vault.text("a/other") == "contents")
        // Moving on, entries of both ids stay.
        try withoutRecords(vault, "a") { try vault.makeFile(Array("third".utf8), in: $0, [1]) }
        try vault.rename("a", to: "b")
        #expect(try vault.list("b") == ["other", "third"])
    }

    /// A power cut, or a failure, after a directory's record was removed and before the directory was: its place derives an id that another, which was renamed away, has.
    @Test(arguments: [false, true]) func anEmptyDirectoryThatLostItsRecord(moves: Bool) throws {
        let vault = try TreeVault()
        func creating(_ path: String) throws -> DirectoryID { try vault.directory(path).directory.identity.creating }
        try makePinned(vault, "old")
        try vault.makeDirectory("made")
        let stored = try vault.stored("made")
        #expect(try vault.raw("made") == ["coffer.dir"])
        #expect(unlink(stored + "/coffer.dir") == 0)
        // Looking at it writes nothing.
        #expect(try vault.list("made") == [])
        #expect(try vault.raw("made") == [])
        let path = moves ? "moved" : "made"
        if moves { try vault.rename("made", to: "moved") }
        for name in ["file", "more"] {
            for parent in [path, "old"] { try vault.makeFile("\(parent)/\(name)") }
        }
        #expect(try creating(path) != creating("old"))
        #expect(try vault.list(path) == ["file", "more"])
        #expect(try Set(vault.raw(path)).intersection(vault.raw("old")) == ["coffer.dir"])
    }

    /// Neither is a record replaced that means nothing, which check tells of, nor one that somebody else has put down meanwhile.
    @Test func aRecordIsNotReplaced() throws {
        let vault = try TreeVault()
        try makePinned(vault, "old")
        for path in ["made", "other"] { try vault.makeDirectory(path) }
        let (damaged, other) = (try vault.stored("made") + "/coffer.dir", try vault.stored("other") + "/coffer.dir")
        try setRawBytes(damaged, [1, 2, 3])
        try vault.makeFile("made/file")
        #expect(try rawBytes(damaged) == [1, 2, 3])

        let before = try rawBytes(other)
        #expect(rename(other, other + ".away") == 0)
        let directory = try vault.directory("other")
        #expect(directory.directory.identity.isUnrecorded)
        #expect(rename(other + ".away", other) == 0)
        #expect(throws: VaultError.system(.staleNFSFileHandle)) {
            try vault.makeFile(Array("file".utf8), in: directory.directory, [])
        }
        #expect(try rawBytes(other) == before)
        try vault.makeFile("other/file")
        #expect(try vault.list("other") == ["file"])
    }

    /// A directory with a pin accepts the id of its place as well, and another may have left it with an id derived from that.
    @Test func aPinnedDirectoryLeavesTheIDOfItsPlace() throws {
        let vault = try TreeVault()
        for path in ["in", "made"] { try vault.makeDirectory(path) }
        try vault.makeFile("made/file")
        try vault.rename("made", to: "in/a")
        try withoutRecords(vault, "in/a") {
            _ = try vault.vault.makeDirectory(Array("below".utf8), in: $0, mode: 0o755)
        }
        try vault.makeFile("in/a/below/file")
        try vault.rename("in/a/below", to: "below")
        try vault.rename("in/a", to: "b")
        for path in ["in/a", "in/a/below"] { try vault.makeDirectory(path) }
        try vault.makeFile("in/a/below/file")
        #expect(try Set(vault.raw("in/a/below")).isDisjoint(with: vault.raw("below")))
    }

    /// Whether a directory is empty may not be known: it does not get another's id for that.
    @Test func aDirectoryThatCannotBeLookedInto() throws {
        let disk = CallFailingDisk()
        let vault = try TreeVault(disk: disk)
        try makePinned(vault, "old")
        try vault.makeFile("old/file")
        var failed = 0
        for call in 1...16 {
            try vault.makeDirectory("made")
            #expect(unlink(try vault.stored("made") + "/coffer.dir") == 0)
            disk.fault = CallFailingDisk.Fault(call: call, lasts: false, code: .ioError)
            do {
                try vault.makeFile("made/file")
            } catch VaultError.system(.ioError) {
                failed += 1
            }
            disk.fault = nil
            let left = try vault.raw("made")
            #expect(try Set(left).intersection(vault.raw("old")).subtracting(["coffer.dir"]) == [], "call \(call)")
            if try !vault.list("made").isEmpty { try vault.remove("made/file") }
            try vault.remove("made")
        }
        #expect(failed > 8)
    }

    /// Its owner may write in it, and not list it: it is looked into all the same, and its mode stays.
    @Test func aDirectoryThatItsOwnerMayNotList() throws {
        let vault = try TreeVault(disk: UnprivilegedDisk())
        try makePinned(vault, "old")
        try vault.makeFile("old/file")
        try vault.makeDirectory("made")
        let stored = try vault.stored("made")
        #expect(unlink(stored + "/coffer.dir") == 0 && chmod(stored, 0o300) == 0)
        let opened = try vault.directory("made")
        #expect(opened.directory.identity.isUnrecorded)
        var status = stat()
        #expect(stat(stored, &status) == 0 && status.st_mode & 0o7777 == 0o300)
        try vault.makeFile("made/file")
        #expect(chmod(stored, 0o700) == 0)
        #expect(try Set(vault.raw("made")).intersection(vault.raw("old")) == ["coffer.dir"])
    }
}

/// A real disk on which directories can be listed only where their owner may, whoever runs the test.
private final class UnprivilegedDisk: Disk, @unchecked Sendable {
    override func open(
        at directory: Int32, _ name: UnsafePointer<CChar>, flags: Int32, mode: mode_t = 0
    ) throws(Errno) -> Int32 {
        let descriptor = try super.open(at: directory, name, flags: flags, mode: mode)
        if flags & Disk.pathOnly != 0 { return descriptor }
        return try checked(descriptor)
    }

    override func reopen(_ descriptor: Int32, flags: Int32) throws(Errno) -> Int32 {
        try checked(try super.reopen(descriptor, flags: flags))
    }

    private func checked(_ descriptor: Int32) throws(Errno) -> Int32 {
        let mode = try status(descriptor).st_mode
        if mode & S_IFMT != S_IFDIR || mode & S_IRUSR != 0 { return descriptor }
        close(descriptor)
        throw .permissionDenied
    }
}
