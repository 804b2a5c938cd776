import CofferDisk
import CofferFormat
import Glibc

/// How much there is to look at.
public enum TreeSize {
    /// The stored bytes of all files of a tree, as far as it can be walked; nil where it cannot.
    public static func bytes(below tree: Tree) -> Int? {
        var total = 0
        do throws(VaultError) {
            let walk = try TreeWalk(tree, from: try tree.root())
            while let step = try walk.next() {
                guard case .entry(let listed) = step,
                    let entry = try tree.entry(listed, in: walk.directory), !entry.isPlaceholder
                else { continue }
                if entry.isFile { total &+= Int(entry.backing.st_size) }
                if entry.isDirectory { try walk.enter(entry) }
            }
            return total
        } catch {
            // What keeps it from being walked is told when it is looked at.
            return nil
        }
    }
}
