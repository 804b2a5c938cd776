import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// A vault's contents, walked in plaintext terms and only read.
///
/// Everything is found from the root on, each directory by a descriptor of its parent: no path is ever longer than a name, and no symbolic link is followed.
public struct Tree: Sendable {
    /// The vault.
    public let vault: Vault

    /// The tree of an unlocked vault.
    public init(_ vault: Vault) {
        self.vault = vault
    }

    /// The root directory.
    public func root() throws(VaultError) -> TreeDirectory {
        TreeDirectory(vault: vault, directory: try vault.root(), place: TreePlace(), ownsDescriptor: false)
    }

    /// What a path leads to. `ENOENT` and `ENOTDIR` as the kernel would; damage for a placeholder's name.
    public func find(_ path: TreePath) throws(VaultError) -> TreeTarget {
        var directory = try root()
        for (index, name) in path.names.enumerated() {
            let entry = try entry(name, in: directory)
            if entry.isDirectory {
                directory = try open(entry, in: directory)
            } else {
                guard index == path.names.count - 1 else { throw .system(.notDirectory) }
                return .entry(entry, in: directory)
            }
        }
        return .directory(directory)
    }

    /// The directory at a plaintext place; nil where there is none, or it cannot be reached for damage.
    func directory(at place: TreePlace) throws(VaultError) -> TreeDirectory? {
        do throws(VaultError) {
            guard case .directory(let directory) = try find(try TreePath(place.path)) else { return nil }
            return directory
        } catch {
            switch error {
            case .system(.noSuchFileOrDirectory), .system(.notDirectory), .damaged: return nil
            default: throw error
            }
        }
    }

    /// The entry of a name.
    public func entry(_ name: [UInt8], in directory: TreeDirectory) throws(VaultError) -> TreeEntry {
        guard let found = try vault.lookUp(name, in: directory.directory) else {
            if name.starts(with: DirectoryStream.placeholderPrefix),
                try list(directory).contains(where: { $0.isPlaceholder && $0.name == name })
            {
                throw .damaged(Damage(.name))
            }
            throw .system(.noSuchFileOrDirectory)
        }
        return TreeEntry(
            name: name, stored: found.name.entry, id: found.id,
            status: try vault.presented(
                found.status, at: directory.directory.descriptor, found.name.entry),
            backing: found.status)
    }

    /// The entry that a listing named; nil where it has gone since.
    public func entry(_ listed: ListedEntry, in directory: TreeDirectory) throws(VaultError) -> TreeEntry? {
        let descriptor = directory.directory.descriptor
        do throws(VaultError) {
            let status = try system { () throws(Errno) in
                try vault.disk.status(at: descriptor, listed.stored.cString)
            }
            return TreeEntry(
                name: listed.name, stored: listed.stored, id: listed.id,
                status: try vault.presented(status, at: descriptor, listed.stored), backing: status)
        } catch {
            if error == .system(.noSuchFileOrDirectory) { return nil }
            throw error
        }
    }

    /// Opens a directory. Where there is something else under the name by now, `ENOTDIR` or `ELOOP`.
    public func open(_ entry: TreeEntry, in parent: TreeDirectory) throws(VaultError) -> TreeDirectory {
        guard let id = entry.id else { throw .damaged(Damage(.name)) }
        let descriptor = try system { () throws(Errno) in
            try vault.disk.open(
                at: parent.directory.descriptor, entry.stored.cString,
                flags: Disk.pathOnly | O_DIRECTORY | O_NOFOLLOW)
        }
        do throws(VaultError) {
            let identity = try vault.identity(
                of: descriptor, derived: id.child(entry.name), inMarked: parent.directory.identity.isMarked)
            return TreeDirectory(
                vault: vault, directory: VaultDirectory(descriptor: descriptor, identity: identity),
                place: parent.place(of: entry), ownsDescriptor: true)
        } catch {
            vault.disk.close(descriptor)
            throw error
        }
    }

    /// All entries but the dots, placeholders included, in the order of their names' bytes.
    public func list(_ directory: TreeDirectory) throws(VaultError) -> [ListedEntry] {
        let descriptor = try system { () throws(Errno) in
            try vault.disk.open(at: directory.directory.descriptor, ".", flags: O_RDONLY | O_DIRECTORY)
        }
        let stream = DirectoryStream(vault: vault, descriptor: descriptor)
        var entries: [ListedEntry] = []
        while let entry = try stream.next(directory.directory.identity) {
            if entry.id != nil || entry.isPlaceholder { entries.append(entry) }
        }
        return entries.sorted { $0.name.lexicographicallyPrecedes($1.name) }
    }

    /// The attributes of an open directory.
    public func status(of directory: TreeDirectory) throws(VaultError) -> stat {
        try system { () throws(Errno) in try vault.disk.status(directory.directory.descriptor) }
    }

    /// The target of a symbolic link.
    public func readLink(_ entry: TreeEntry, in directory: TreeDirectory) throws(VaultError) -> [UInt8] {
        guard !entry.isPlaceholder else { throw .damaged(Damage(.name)) }
        return try vault.readLink(entry.stored, in: directory.directory.descriptor)
    }

    /// Opens a regular file's contents; with `salvaging` also those of one whose size no file can have.
    public func read(
        _ entry: TreeEntry, in directory: TreeDirectory, salvaging: Bool = false, _ scratch: Scratch
    ) throws(VaultError) -> TreeFile {
        guard !entry.isPlaceholder else { throw .damaged(Damage(.name)) }
        return try TreeFile(
            vault: vault, directory: directory.directory.descriptor, name: entry.stored, salvaging: salvaging, scratch)
    }
}
