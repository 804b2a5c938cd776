import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Looks for what the newest key does not open, before the others are given up.
public struct RotationCheck {
    private let tree: Tree
    private let newest: UInt8

    /// A look through `vault`, whose ring holds the newest key only.
    public init(_ vault: Vault) {
        tree = Tree(vault)
        newest = vault.ring.newest
    }

    /// The places of what the key does not open: names, links, attributes, and files by their headers. `onEntry` is called for each entry.
    public func run(onEntry: () -> Void) throws(VaultError) -> [TreePlace] {
        var found: [TreePlace] = []
        let walk = try TreeWalk(tree, from: try tree.root())
        if try !opensAttributes(of: walk.directory.directory.descriptor, S_IFDIR, AttributeCodec.noOwner) {
            found.append(walk.directory.place)
        }
        while let step = try walk.next() {
            guard case .entry(let listed) = step else { continue }
            onEntry()
            let place = TreePlace(in: walk.directory.place, name: listed.name, stored: listed.stored.bytes)
            guard !listed.isPlaceholder, let entry = try tree.entry(listed, in: walk.directory) else {
                found.append(place)
                continue
            }
            do throws(VaultError) {
                if try !opens(entry, in: walk.directory) { found.append(place) }
                if entry.isDirectory { try walk.enter(entry) }
            } catch {
                guard case .damaged = error else { throw error }
                found.append(place)
            }
        }
        return found
    }

    private func opens(_ entry: TreeEntry, in directory: TreeDirectory) throws(VaultError) -> Bool {
        let disk = tree.vault.disk
        let object = try system { () throws(Errno) in
            try disk.open(
                at: directory.directory.descriptor, entry.stored.cString, flags: Disk.pathOnly | O_NOFOLLOW)
        }
        defer { disk.close(object) }
        var owner = AttributeCodec.noOwner
        if entry.isFile {
            let descriptor = try system { () throws(Errno) in
                try disk.withMode(0o400, of: object) { () throws(Errno) in
                    try disk.reopen(object, flags: O_RDONLY | O_NONBLOCK)
                }
            }
            defer { disk.close(descriptor) }
            let raw = try system { () throws(Errno) in
                try disk.readBytes(descriptor, limit: FileHeader.byteCount)
            }
            do throws(FormatError) {
                let header = try FileHeader(parsing: raw)
                guard header.epoch == newest else { return false }
                owner = header.fileID
            } catch {
                return false
            }
        } else if entry.isLink {
            _ = try tree.readLink(entry, in: directory)
        }
        return try opensAttributes(of: object, entry.backing.st_mode, owner)
    }

    private func opensAttributes(of object: Int32, _ mode: mode_t, _ owner: [UInt8]) throws(VaultError) -> Bool {
        try !tree.vault.hasOldAttributes(object, mode: mode) { owner }
    }
}
