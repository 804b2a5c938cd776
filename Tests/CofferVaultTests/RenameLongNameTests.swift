import CofferFormat
import Glibc
import SystemPackage
import Testing

@testable import CofferVault

/// Names that are longer than what the vault may store, and link targets that are longer than what a link may hold.
struct RenameLongNameTests {
    private static let lengths = [1, 15, 16, 31, 32, 100, 143, 159, 160, 254, 255]

    private func name(_ letter: String, _ count: Int) -> String { String(repeating: letter, count: count) }

    @Test(arguments: [64, 143, 255])
    func namesOfEveryLength(limit: Int) throws {
        let vault = try TreeVault(nameMax: limit)
        for count in Self.lengths {
            try vault.makeFile(name("f", count), Array("\(count)".utf8))
            try vault.makeDirectory(name("d", count))
            try vault.makeFile(name("d", count) + "/" + name("i", count))
            try vault.makeLink(name("l", count), to: "target")
        }
        #expect(try vault.raw().allSatisfy { $0.utf8.count <= limit })
        #expect(try vault.list().count == 3 * Self.lengths.count)
        for count in Self.lengths {
            try vault.rename(name("f", count), to: name("g", count))
            #expect(try vault.text(name("g", count)) == "\(count)")
            try vault.rename(name("d", count), to: name("e", count))
            #expect(try vault.list(name("e", count)) == [name("i", count)])
            #expect(try vault.target(name("l", count)) == "target")
            try vault.remove(name("e", count) + "/" + name("i", count))
            for letter in ["e", "g", "l"] { try vault.remove(name(letter, count)) }
        }
        #expect(try vault.raw() == ["coffer.dir"])
    }

    @Test func aNameThatIsTooLongIsRefused() throws {
        let vault = try TreeVault()
        #expect(throws: VaultError.system(.fileNameTooLong)) { try vault.makeFile(name("x", 256)) }
        #expect(try vault.raw() == [])
    }

    @Test func aMissingPieceIsAPlaceholder() throws {
        let vault = try TreeVault(nameMax: 64)
        try vault.makeFile(name("x", 200))
        let companions = try vault.entry(name("x", 200)).name.companions
        #expect(companions.count > 5)
        let path = vault.home.file("vault/\(companions[3])")
        try removeFile(path)
        #expect(try vault.list() == ["?"])
        try setRawBytes(path, [])
        #expect(try vault.list() == [name("x", 200)])
    }

    private static let target = String(repeating: "t", count: 4000)

    private func overflowFiles(_ vault: TreeVault, _ path: String) throws -> Int {
        try vault.raw(path).filter { $0.hasPrefix("coffer.link.") }.count
    }

    @Test func anOverflowingLinkMovesWithItsTarget() throws {
        let vault = try TreeVault()
        for path in ["a", "b"] { try vault.makeDirectory(path) }
        try vault.makeLink("a/link", to: Self.target)
        try vault.rename("a/link", to: "a/link2")
        #expect(try overflowFiles(vault, "a") == 1)
        try vault.rename("a/link2", to: "b/link")
        #expect(try vault.target("b/link") == Self.target)
        #expect(try overflowFiles(vault, "a") == 0)
        try vault.makeLink("a/other", to: "short")
        try vault.rename("b/link", to: "a/other", .exchange)
        #expect(try vault.target("a/other") == Self.target)
        #expect(try vault.target("b/link") == "short")
        #expect(try overflowFiles(vault, "b") == 0)
        try vault.remove("a/other")
        #expect(try vault.raw("a") == [])
    }

    @Test func anOverflowingLinkThatIsReplacedLeavesNothing() throws {
        let vault = try TreeVault()
        try vault.makeLink("link", to: Self.target)
        try vault.makeFile("file")
        try vault.rename("file", to: "link")
        #expect(try overflowFiles(vault, "") == 0)
        #expect(try vault.text("link") == "contents")
    }

    @Test func hardLinksOfAnOverflowingLink() throws {
        let vault = try TreeVault()
        for path in ["a", "b"] { try vault.makeDirectory(path) }
        try vault.makeLink("a/one", to: Self.target)
        try vault.makeHardLink("a/one", to: "a/two")
        try vault.makeHardLink("a/one", to: "b/three")
        // The other name in the directory that is left needs the target as well.
        try vault.rename("a/one", to: "b/one")
        for path in ["a/two", "b/one", "b/three"] { #expect(try vault.target(path) == Self.target) }
        try vault.remove("b/one")
        for path in ["a/two", "b/three"] { #expect(try vault.target(path) == Self.target) }
        try vault.remove("b/three")
        try vault.remove("a/two")
        #expect(try overflowFiles(vault, "a") == 0)
        // What may be left over elsewhere keeps no directory from going.
        try vault.remove("b")
        try vault.remove("a")
        #expect(try vault.list() == [])
    }

    @Test func aDamagedTargetIsToldAsSuch() throws {
        let vault = try TreeVault()
        try vault.makeLink("link", to: Self.target)
        let file = try #require(try vault.raw().first { $0.hasPrefix("coffer.link.") })
        var bytes = try rawBytes(vault.home.file("vault/\(file)"))
        bytes[100] ^= 1
        try setRawBytes(vault.home.file("vault/\(file)"), bytes)
        #expect(throws: VaultError.damaged(Damage(.link))) { try vault.target("link") }
        try removeFile(vault.home.file("vault/\(file)"))
        #expect(throws: VaultError.damaged(Damage(.link))) { try vault.target("link") }
    }
}
