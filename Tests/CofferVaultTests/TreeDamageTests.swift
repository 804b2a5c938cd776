import CofferDisk
import CofferFormat
import Glibc
import SystemPackage
import Testing

@testable import CofferVault

/// Damage is told and never passed on as good, and nothing in the way is overwritten.
struct TreeDamageTests {
    private let block = 4096

    private func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8($0 / 4096 % 255 + 1) } }

    private func flip(_ path: String, at offset: Int) throws {
        var bytes = try rawBytes(path)
        bytes[offset] ^= 0x10
        try setRawBytes(path, bytes)
    }

    private func names(in path: String) throws -> [String] {
        let descriptor = try openFile(path, flags: O_RDONLY | O_DIRECTORY)
        defer { close(descriptor) }
        var names: [String] = []
        try RawDirectory(disk: Disk(), descriptor: descriptor).forEach { name, _ in
            names.append(String(decoding: name, as: UTF8.self))
            return true
        }
        return names.filter { $0 != "." && $0 != ".." }.sorted()
    }

    @Test func aDamagedFileIsLeftOutAndTheRestIsNot() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("a")
        try vault.makeFile("a/bad", pattern(10 * block))
        try vault.makeFile("a/good", pattern(10 * block))
        try flip(try vault.stored("a/bad"), at: 32 + 4128 * 7 + 100)
        let out = try vault.extract()
        #expect(try names(in: out.path + "/a") == ["good"])
        #expect(try rawBytes(out.path + "/a/good") == pattern(10 * block))
        #expect(out.problems.map(\.summary) == ["a/bad: damaged, block 7"])
        #expect(try vault.stored("a/bad").hasSuffix(String(decoding: out.problems[0].place.storedPath, as: UTF8.self)))
        #expect(out.totals.damaged == 1 && out.totals.files == 1)
    }

    @Test func salvageKeepsWhatVerifies() throws {
        let vault = try TreeVault()
        try vault.makeFile("bad", pattern(600 * block + 5))
        try vault.makeFile("bad.damaged", [1])
        try vault.makeHardLink("bad", to: "linked")
        for index in [0, 7, 300, 600] { try flip(try vault.stored("bad"), at: 32 + 4128 * index + 20) }
        let out = try vault.extract(salvages: true)
        #expect(try names(in: out.path) == ["bad.damaged", "bad.damaged.2", "linked.damaged"])
        var expected = pattern(600 * block + 5)
        for index in [0, 7, 300, 600] {
            let range = (index * block)..<min((index + 1) * block, expected.count)
            expected.replaceSubrange(range, with: repeatElement(0, count: range.count))
        }
        #expect(try rawBytes(out.path + "/bad.damaged.2") == expected)
        #expect(try rawBytes(out.path + "/linked.damaged") == expected)
        #expect(
            out.problems.map(\.summary) == [
                "bad: salvaged as bad.damaged.2 but \(3 * block + 5), block 0",
                "linked: salvaged as linked.damaged but \(3 * block + 5), block 0",
            ])
    }

    @Test(arguments: [70, 32 + 4128 * 5 + 20, 32 + 4128 * 5, 32 + 4128 * 5 + 1000])
    func salvageOfACutFile(count: Int) throws {
        let vault = try TreeVault()
        try vault.makeFile("cut", pattern(10 * block))
        #expect(truncate(try vault.stored("cut"), count) == 0)
        let out = try vault.extract(salvages: true)
        let bytes = try rawBytes(out.path + "/cut.damaged")
        // The end is not known to be one, so what is in the last block is not known to be whole.
        let whole = max(0, (count - 32) / 4128 - (count % 4128 == 32 ? 1 : 0) - ((count - 32) % 4128 == 20 ? 1 : 0))
        #expect(bytes.prefix(whole * block) == pattern(10 * block).prefix(whole * block))
        #expect(bytes.dropFirst(whole * block).allSatisfy { $0 == 0 })
        #expect(out.totals.damaged == 1 && out.totals.salvaged == 1)
    }

    @Test func salvageOfZerosThatNothingVouchesFor() throws {
        let vault = try TreeVault()
        try vault.makeFile("zeroed", pattern(400 * block))
        var bytes = try rawBytes(try vault.stored("zeroed"))
        let range = (32 + 4128 * 10)..<(32 + 4128 * 390)
        bytes.replaceSubrange(range, with: repeatElement(0, count: range.count))
        try setRawBytes(try vault.stored("zeroed"), bytes)
        let out = try vault.extract(salvages: true)
        #expect(out.problems.map(\.summary) == ["zeroed: salvaged as zeroed.damaged but \(380 * block), hole 10"])
        let saved = try rawBytes(out.path + "/zeroed.damaged")
        #expect(saved.prefix(10 * block) == pattern(400 * block).prefix(10 * block))
        #expect(saved.suffix(10 * block) == pattern(400 * block).suffix(10 * block))
    }

    @Test func everyKindOfDamageIsTold() throws {
        let vault = try TreeVault()
        for name in ["empty", "header", "target", "wandering", "whole"] { try vault.makeFile(name) }
        try vault.makeDirectory("directory")
        try vault.makeFile("directory/unreachable")
        try vault.makeLink("link", to: "target")
        try setRawBytes(try vault.stored("empty"), [])
        try flip(try vault.stored("header"), at: 0)
        let link = try vault.stored("link")
        var text = try Disk().linkBytes(at: AT_FDCWD, link)
        text[20] = text[20] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
        try removeFile(link)
        #expect(symlink(String(decoding: text, as: UTF8.self), link) == 0)
        try setRawBytes(vault.home.file("vault/notes.txt"), [1])
        for path in ["wandering", "directory"] {
            let stored = try vault.stored(path)
            let last = stored.hasSuffix("A") ? "w" : "A"
            #expect(rename(stored, stored.dropLast() + last) == 0)
        }
        let out = try vault.extract(salvages: true)
        let placeholders = out.problems.filter { $0.summary.hasPrefix("coffer.unreadable.c") }
        #expect(placeholders.count == 2)
        #expect(placeholders.allSatisfy { $0.summary.hasSuffix(": damaged, name -1") })
        #expect(
            out.problems.map(\.summary).filter { !$0.hasPrefix("coffer.") } == [
                "empty: damaged, size -1", "header: damaged, header -1", "link: damaged, link -1",
            ])
        #expect(try names(in: out.path) == ["target", "whole"])
        #expect(try vault.list().filter { $0 == "?" }.count == 2)
        let census = try TreeCensus(of: vault.tree)
        #expect(census.foreign == 1 && census.unreadable == 2 && census.empty == 1)
    }

    @Test func aDamagedAttributeIsTold() throws {
        let vault = try TreeVault()
        try vault.makeFile("file")
        let descriptor = try openFile(try vault.stored("file"))
        defer { close(descriptor) }
        try vault.vault.setAttribute(
            Array("user.comment".utf8), of: descriptor, mode: S_IFREG, value: [1], flags: 0
        ) { () throws(VaultError) in try vault.vault.fileID(of: descriptor) }
        let stored = try Disk().attributeListBytes(descriptor, limit: 1000).split(separator: 0).map { StoredName($0) }
        try Disk().setAttribute(descriptor, try #require(stored.first).cString, bytes: [0, 1, 2], flags: 0)
        let out = try vault.extract()
        #expect(out.problems.map(\.summary) == ["file: attribute"])
        #expect(try rawBytes(out.path + "/file") == Array("contents".utf8))
        #expect(out.totals.damaged == 1)
    }

    @Test func nothingIsReplaced() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("made")
        try vault.makeFile("made/file", [1])
        try vault.rename("made", to: "a")
        // The same name twice, under two ids.
        let opened = try vault.directory("a")
        try vault.makeFile(
            Array("file".utf8),
            in: VaultDirectory(
                descriptor: opened.directory.descriptor,
                identity: DirectoryIdentity(derived: opened.directory.identity.derived)), [2])
        let out = try vault.extract()
        #expect(out.problems.map(\.summary) == ["a/file: unwritable, \(EEXIST)"])
        #expect(try names(in: out.path + "/a") == ["file"])
    }

    @Test func aFullDiskStopsAndLeavesNoHalfFile() throws {
        let disk = FillingDisk()
        let vault = try TreeVault(disk: disk)
        try vault.makeFile("a", pattern(block))
        try vault.makeFile("b", pattern(3 << 20))
        disk.isFull = true
        #expect(throws: Errno.noSpace) { try vault.extract() }
        #expect(try names(in: vault.home.file("out")) == ["a"])
    }

    @Test func aBlockThatIsBeingWrittenIsReadAgain() throws {
        let disk = UnsteadyDisk()
        let vault = try TreeVault(disk: disk)
        try vault.makeFile("file", pattern(3 * block))
        disk.badReads = 1
        #expect(try vault.read("file") == pattern(3 * block))
        disk.badReads = 1
        let out = try vault.extract()
        #expect(out.problems.isEmpty)
        #expect(try rawBytes(out.path + "/file") == pattern(3 * block))
        // A file at rest is read twice and no more.
        disk.badReads = 2
        #expect(throws: VaultError.damaged(Damage(.block, block: 0))) { try vault.read("file") }
        // One that keeps changing, more often.
        let stored = try vault.stored("file")
        disk.onBadRead = { chmod(stored, 0o600) }
        disk.badReads = 5
        #expect(try vault.read("file") == pattern(3 * block))
    }

    @Test func pathsIntoTheTree() throws {
        let vault = try TreeVault()
        try vault.makeDirectory("a")
        try vault.makeFile("a/file")
        try vault.makeLink("link", to: "a")
        func find(_ path: String) throws -> TreeTarget { try vault.tree.find(try TreePath(path.utf8)) }
        for path in ["", "/", "a", "/a/", "./a//."] {
            guard case .directory = try find(path) else {
                Issue.record("\(path) is no directory")
                continue
            }
        }
        guard case .entry(let entry, _) = try find("link") else {
            Issue.record("the link was followed")
            return
        }
        #expect(entry.isLink)
        #expect(throws: VaultError.system(.invalidArgument)) { try find("a/../a") }
        #expect(throws: VaultError.system(.notDirectory)) { try find("link/file") }
        #expect(throws: VaultError.system(.notDirectory)) { try find("a/file/x") }
        #expect(throws: VaultError.system(.noSuchFileOrDirectory)) { try find("b") }
        let stored = try vault.stored("a/file")
        let moved = stored.dropLast() + (stored.hasSuffix("A") ? "w" : "A")
        #expect(rename(stored, String(moved)) == 0)
        let name = String(moved.split(separator: "/").last ?? "")
        #expect(throws: VaultError.damaged(Damage(.name))) { try find("a/coffer.unreadable.\(name)") }
        #expect(throws: VaultError.system(.noSuchFileOrDirectory)) { try find("coffer.unreadable.\(name)") }
    }
}

/// A disk that takes no more than a block at once when it is full.
private final class FillingDisk: Disk, @unchecked Sendable {
    var isFull = false

    override func write(
        _ descriptor: Int32, _ buffer: UnsafeRawPointer, count: Int, at offset: Int
    ) throws(Errno) {
        if isFull && count > 4096 { throw .noSpace }
        try super.write(descriptor, buffer, count: count, at: offset)
    }
}

/// A disk whose next reads of blocks meet a write that is half done.
private final class UnsteadyDisk: Disk, @unchecked Sendable {
    var badReads = 0
    var onBadRead: () -> Void = {}

    override func read(
        _ descriptor: Int32, into buffer: UnsafeMutableRawPointer, count: Int, at offset: Int
    ) throws(Errno) -> Int {
        let got = try super.read(descriptor, into: buffer, count: count, at: offset)
        if badReads > 0, offset == 32, got > 4128 {
            badReads -= 1
            buffer.storeBytes(of: buffer.load(fromByteOffset: 50, as: UInt8.self) ^ 1, toByteOffset: 50, as: UInt8.self)
            onBadRead()
        }
        return got
    }
}
