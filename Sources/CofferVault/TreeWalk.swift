import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// A walk through everything below a directory, depth first, with a few descriptors and no recursion however deep the tree is.
///
/// Each call of ``next()`` gives an entry of ``directory``; ``enter(_:)`` goes into it before the walk goes on. Not for several threads at once.
public final class TreeWalk {
    /// What a walk meets.
    public enum Step {
        /// An entry of the present directory.
        case entry(ListedEntry)
        /// The present directory has no more entries; the next step is in the one that holds it.
        case end
    }

    private struct Frame {
        let identity: DirectoryIdentity
        let place: TreePlace
        let status: stat
        let entries: [ListedEntry]
        var index = 0
        var isAtEnd = false
        var shared: SharedDirectory?
    }

    private let tree: Tree
    private var trail: DirectoryTrail
    private var frames: [Frame] = []
    private let start: TreeDirectory
    /// The directory that the walk is in; open until the step after its end.
    public private(set) var directory: TreeDirectory

    /// A walk that begins in `start`.
    public init(_ tree: Tree, from start: TreeDirectory) throws(VaultError) {
        self.tree = tree
        self.start = start
        directory = start
        trail = DirectoryTrail(disk: tree.vault.disk, first: start.directory.descriptor)
        frames.append(
            Frame(
                identity: start.directory.identity, place: start.place, status: try tree.status(of: start),
                entries: try tree.list(start)))
    }

    /// Whether the present directory is the one that the walk began in.
    public var isAtStart: Bool { frames.count == 1 }

    /// The present directory's entries.
    public var entries: [ListedEntry] { frames.last?.entries ?? [] }

    /// The present directory's attributes when the walk came to it.
    public var status: stat { frames.last?.status ?? stat() }

    /// The present directory, open for whoever reads something in it later.
    func sharedDirectory() throws(VaultError) -> SharedDirectory {
        if let shared = frames.last?.shared { return shared }
        let shared = try SharedDirectory(disk: tree.vault.disk, duplicating: directory.directory.descriptor)
        frames[frames.count - 1].shared = shared
        return shared
    }

    /// The next step; nil when the walk is back where it began and through with that.
    public func next() throws(VaultError) -> Step? {
        if let frame = frames.last, frame.isAtEnd {
            try leave()
        }
        guard let frame = frames.last else { return nil }
        if frame.index < frame.entries.count {
            frames[frames.count - 1].index += 1
            return .entry(frame.entries[frame.index])
        }
        frames[frames.count - 1].isAtEnd = true
        return .end
    }

    /// Goes into a directory among the present one's entries. Where this throws, the walk stays where it is.
    public func enter(_ entry: TreeEntry) throws(VaultError) {
        let child = try tree.open(entry, in: directory)
        let entries = try tree.list(child)
        let descriptor = try system { () throws(Errno) in
            let descriptor = try tree.vault.disk.duplicate(child.directory.descriptor)
            try trail.enter(descriptor)
            return descriptor
        }
        frames.append(
            Frame(identity: child.directory.identity, place: child.place, status: entry.backing, entries: entries))
        directory = view(descriptor, child.directory.identity, child.place)
    }

    /// Leaves the present directory, whatever it has left.
    public func leave() throws(VaultError) {
        frames.removeLast()
        guard let frame = frames.last else { return }
        try system { () throws(Errno) in try trail.leave() }
        directory = isAtStart ? start : view(trail.last, frame.identity, frame.place)
    }

    private func view(_ descriptor: Int32, _ identity: DirectoryIdentity, _ place: TreePlace) -> TreeDirectory {
        TreeDirectory(
            vault: tree.vault, directory: VaultDirectory(descriptor: descriptor, identity: identity), place: place,
            ownsDescriptor: false)
    }
}
