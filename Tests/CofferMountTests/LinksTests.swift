import CofferFormat
import Glibc
import Testing

@testable import CofferMount

/// An inode's names, of which there are none, one or several.
struct LinksTests {
    private let parent = Inode(stat())

    private func link(_ name: String) -> Link {
        Link(parent: parent, stored: StoredName(name.utf8), name: Array(name.utf8), derived: nil)
    }

    private func names(_ links: Links) -> [String] { links.map { String(decoding: $0.name, as: UTF8.self) } }

    @Test func theLastIsFirst() {
        var links = Links.none
        #expect(links.isEmpty && links.first == nil)
        for (count, name) in ["a", "b", "c", "d"].enumerated() {
            links.putFirst(link(name))
            #expect(links.count == count + 1 && links.first?.name == Array(name.utf8))
        }
        #expect(names(links) == ["d", "c", "b", "a"])
        #expect(links[3].stored == StoredName("a".utf8))
    }

    @Test func someGo() {
        var links = Links.none
        links.removeAll { _ in true }
        #expect(links.isEmpty)
        for name in ["a", "b", "c"] { links.putFirst(link(name)) }
        links.removeAll { $0.name == [UInt8(ascii: "x")] }
        #expect(names(links) == ["c", "b", "a"])
        links.removeAll { $0.name == [UInt8(ascii: "b")] }
        #expect(names(links) == ["c", "a"])
        links.removeAll { $0.name == [UInt8(ascii: "c")] }
        #expect(names(links) == ["a"])
        if case .one = links {} else { Issue.record("one name takes no memory of its own") }
        links.putFirst(link("e"))
        #expect(names(links) == ["e", "a"])
        links.removeAll { _ in true }
        if case .none = links {} else { Issue.record("no name left") }
    }
}
