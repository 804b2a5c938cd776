import CofferDisk
import CofferFormat
import Glibc
import SystemPackage
import Testing

@testable import CofferVault

/// Random changes to a tree, against a model in memory: after each step everything reads as it should, and no two directories answer to one id.
struct RenameModelTests {
    /// A file's contents, or a directory's entries.
    private final class Node {
        let text: String?
        var entries: [String: Node] = [:]

        init(text: String?) {
            self.text = text
        }

        func holds(_ other: Node) -> Bool { self === other || entries.values.contains { $0.holds(other) } }
    }

    private struct Case {
        let vault: TreeVault
        let root = Node(text: nil)
        var random: SplitMix
        var count = 0

        init(seed: UInt64, epochs: [UInt8]) throws {
            vault = try TreeVault(nameMax: 143, epochs: epochs)
            random = SplitMix(state: seed)
        }

        /// Few names, so that they meet; one of them a long one.
        mutating func name() -> String {
            ["a", "b", "c", String(repeating: "l", count: 120)][random.below(4)]
        }

        mutating func directory() -> (path: String, node: Node) {
            var (path, node) = ("", root)
            for _ in 0..<random.below(4) {
                let below = node.entries.filter { $0.value.text == nil }.sorted { $0.key < $1.key }
                guard !below.isEmpty else { break }
                let next = below[random.below(below.count)]
                (path, node) = (path + "/" + next.key, next.value)
            }
            return (path, node)
        }
    }

    @Test(arguments: 0..<12)
    func randomChanges(seed: Int) throws {
        var test = try Case(seed: UInt64(seed), epochs: seed % 3 == 0 ? [0, 1] : [0])
        for step in 0..<120 {
            try change(&test)
            if step % 10 == 9 { try check(test, step) }
        }
    }

    private func change(_ test: inout Case) throws {
        let (path, node) = test.directory()
        let name = test.name()
        let full = path + "/" + name
        switch test.random.below(10) {
        case 0, 1:
            try expect(node.entries[name] == nil ? nil : .fileExists) {
                try test.vault.makeDirectory(full)
            } then: {
                node.entries[name] = Node(text: nil)
            }
        case 2, 3:
            test.count += 1
            let text = "file \(test.count)"
            try expect(node.entries[name] == nil ? nil : .fileExists) {
                try test.vault.makeFile(full, Array(text.utf8))
            } then: {
                node.entries[name] = Node(text: text)
            }
        case 4:
            let old = node.entries[name]
            let error: Errno? = old.map { $0.entries.isEmpty ? nil : .directoryNotEmpty } ?? .noSuchFileOrDirectory
            try expect(error) {
                try test.vault.remove(full)
            } then: {
                node.entries[name] = nil
            }
        case 5: try rename(&test, path, node, name, .exchange)
        default: try rename(&test, path, node, name, .replace)
        }
    }

    private func rename(
        _ test: inout Case, _ path: String, _ node: Node, _ name: String, _ mode: Disk.RenameMode
    ) throws {
        let (newPath, newNode) = test.directory()
        let newName = test.name()
        guard let old = node.entries[name] else { return }
        let existing = newNode.entries[newName]
        // Into itself or over what holds it: the system refuses, and in which of several ways does not matter here.
        guard !old.holds(newNode), existing.map({ !$0.holds(node) }) ?? true, old !== existing else { return }
        var error: Errno?
        if mode == .exchange {
            error = existing == nil ? .noSuchFileOrDirectory : nil
        } else if let existing {
            switch (old.text == nil, existing.text == nil) {
            case (true, false): error = .notDirectory
            case (false, true): error = .isDirectory
            case (true, true): error = existing.entries.isEmpty ? nil : .directoryNotEmpty
            case (false, false): error = nil
            }
        }
        let vault = test.vault
        try expect(error) {
            try vault.rename(path + "/" + name, to: newPath + "/" + newName, mode)
        } then: {
            node.entries[name] = mode == .exchange ? existing : nil
            newNode.entries[newName] = old
        }
    }

    private func expect(_ error: Errno?, _ body: () throws -> Void, then: () -> Void) throws {
        do {
            try body()
            #expect(error == nil)
            then()
        } catch let failure as VaultError {
            #expect(failure == error.map { .system($0) })
        }
    }

    private func check(_ test: Case, _ step: Int) throws {
        var ids: Set<DirectoryID> = []
        try check(test.vault, "", test.root, &ids, step)
    }

    private func check(
        _ vault: TreeVault, _ path: String, _ node: Node, _ ids: inout Set<DirectoryID>, _ step: Int
    ) throws {
        try #require(try vault.list(path) == node.entries.keys.sorted(), "step \(step), \(path)")
        let id = try vault.directory(path).directory.identity.creating
        #expect(ids.insert(id).inserted, "two directories with one id, step \(step), \(path)")
        for (name, entry) in node.entries {
            if let text = entry.text {
                #expect(try vault.text(path + "/" + name) == text)
            } else {
                try check(vault, path + "/" + name, entry, &ids, step)
            }
        }
    }
}

/// SplitMix64: the same numbers for the same state.
private struct SplitMix {
    var state: UInt64

    mutating func below(_ limit: Int) -> Int {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return Int((mixed ^ (mixed >> 31)) % UInt64(limit))
    }
}
