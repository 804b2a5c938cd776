import SystemPackage

/// A path in plaintext terms, from the vault's root down.
public struct TreePath: Hashable, Sendable {
    /// The names on the way; none for the root itself.
    public let names: [[UInt8]]

    /// A path from its bytes. Slashes at either end, doubled ones and `.` mean nothing; `EINVAL` for `..` and for NUL bytes.
    public init(_ bytes: some Sequence<UInt8>) throws(VaultError) {
        let names = Array(bytes).split(separator: UInt8(ascii: "/")).map { Array($0) }.filter { $0 != [0x2E] }
        guard !names.contains(where: { $0 == [0x2E, 0x2E] || $0.contains(0) }) else {
            throw .system(.invalidArgument)
        }
        self.names = names
    }

    /// The names joined by slashes.
    public var bytes: [UInt8] { Array(names.joined(separator: [UInt8(ascii: "/")])) }
}

/// Where something stands in the tree: its name and, by its parents, every name on the way to it.
///
/// Directories share their parents' places, so that millions of places cost little more than their last names.
public final class TreePlace: Sendable {
    /// The place of the directory it is in; nil for the root.
    public let parent: TreePlace?
    /// The plaintext name, or a placeholder's; empty for the root.
    public let name: [UInt8]
    /// The stored name's bytes; empty for the root.
    public let stored: [UInt8]

    /// The root.
    public init() {
        parent = nil
        name = []
        stored = []
    }

    /// A place below another.
    public init(in parent: TreePlace, name: [UInt8], stored: [UInt8]) {
        self.parent = parent
        self.name = name
        self.stored = stored
    }

    /// The plaintext path from the root, without a slash at either end.
    public var path: [UInt8] { joined { $0.name } }

    /// The path of the ciphertext from the vault's root directory.
    public var storedPath: [UInt8] { joined { $0.stored } }

    /// The plaintext names from `ancestor`, which is left out, down to here.
    func names(below ancestor: TreePlace) -> [[UInt8]] {
        var names: [[UInt8]] = []
        var place = self
        while place !== ancestor, let parent = place.parent {
            names.append(place.name)
            place = parent
        }
        return names.reversed()
    }

    private func joined(_ part: (TreePlace) -> [UInt8]) -> [UInt8] {
        var parts: [[UInt8]] = []
        var place = self
        while let parent = place.parent {
            parts.append(part(place))
            place = parent
        }
        return Array(parts.reversed().joined(separator: [UInt8(ascii: "/")]))
    }
}
