import CofferFormat
import Glibc
import SystemPackage

/// What a vault's directories hold besides entries that can be read.
public struct TreeCensus: Equatable, Sendable {
    /// Entries that are none of Coffer's. A directory counts as one, with all in it.
    public private(set) var foreign = 0
    /// Names that are Coffer's by their form and do not verify where they are. A directory counts as one.
    public private(set) var unreadable = 0
    /// Ciphertext files of no bytes, which no file can have: left by a crash or by an unfinished copy.
    public private(set) var empty = 0

    /// Counts through the whole tree.
    public init(of tree: Tree) throws(VaultError) {
        let walk = try TreeWalk(tree, from: try tree.root())
        foreign = try Self.foreignEntries(tree, walk.directory)
        while let step = try walk.next() {
            guard case .entry(let listed) = step else { continue }
            if listed.isPlaceholder { unreadable += 1 }
            guard let entry = try tree.entry(listed, in: walk.directory) else { continue }
            if entry.isFile && entry.backing.st_size == 0 { empty += 1 }
            if entry.isDirectory && !entry.isPlaceholder {
                try walk.enter(entry)
                foreign += try Self.foreignEntries(tree, walk.directory)
            }
        }
    }

    private static func foreignEntries(_ tree: Tree, _ directory: TreeDirectory) throws(VaultError) -> Int {
        let disk = tree.vault.disk
        let descriptor = try system { () throws(Errno) in
            try disk.open(at: directory.directory.descriptor, ".", flags: O_RDONLY | O_DIRECTORY)
        }
        defer { disk.close(descriptor) }
        var count = 0
        try RawDirectory(disk: disk, descriptor: descriptor).forEach { name, _ in
            if NameCodec.kind(of: name) == .foreign { count += 1 }
            return true
        }
        return count
    }
}
