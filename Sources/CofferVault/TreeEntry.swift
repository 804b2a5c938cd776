import CofferFormat
import Glibc

/// What stands under a name in the tree.
public struct TreeEntry: Sendable {
    /// The plaintext name, or a placeholder's.
    public let name: [UInt8]
    /// The stored name.
    public let stored: StoredName
    /// The id that the name verified under; nil where it did not.
    public let id: DirectoryID?
    /// The attributes that a program sees: sizes in plaintext.
    public let status: stat
    /// The backing object's attributes, as they are.
    public let backing: stat

    /// A well-formed name that does not verify where it stands: whatever it names cannot be read.
    public var isPlaceholder: Bool { id == nil }
    /// The file type's bits of the mode, `S_IFREG` and so on.
    public var type: mode_t { status.st_mode & S_IFMT }
    /// Whether it is a directory.
    public var isDirectory: Bool { type == S_IFDIR }
    /// Whether it is a symbolic link.
    public var isLink: Bool { type == S_IFLNK }
    /// Whether it is a regular file.
    public var isFile: Bool { type == S_IFREG }
}

/// A directory of the tree that is open as long as this lives.
public final class TreeDirectory {
    /// Its descriptor and what it answers to.
    public let directory: VaultDirectory
    /// Where it stands.
    public let place: TreePlace
    private let vault: Vault
    private let ownsDescriptor: Bool

    init(vault: Vault, directory: VaultDirectory, place: TreePlace, ownsDescriptor: Bool) {
        self.vault = vault
        self.directory = directory
        self.place = place
        self.ownsDescriptor = ownsDescriptor
    }

    deinit {
        if ownsDescriptor { vault.disk.close(directory.descriptor) }
    }

    /// The place of an entry in it.
    public func place(of entry: TreeEntry) -> TreePlace {
        TreePlace(in: place, name: entry.name, stored: entry.stored.bytes)
    }

    /// The place of a listed entry in it.
    public func place(of listed: ListedEntry) -> TreePlace {
        TreePlace(in: place, name: listed.name, stored: listed.stored.bytes)
    }
}

/// What a path leads to.
public enum TreeTarget {
    /// A directory, opened; the root among them.
    case directory(TreeDirectory)
    /// Anything else, and the directory it is in.
    case entry(TreeEntry, in: TreeDirectory)
}
