import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Names that are stored in pieces.
extension VaultRepair {
    /// Lends a directory of the vault that is found by its stored names; the root where there are none.
    private func withDirectory<Result>(
        _ place: TreePlace, _ body: (Int32) throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        let names = place.storedNames
        if names.isEmpty { return try body(vault.rootDescriptor) }
        return try disk.withParent(of: names, below: vault.rootDescriptor) { (parent, name) throws(VaultError) in
            let descriptor = try system { () throws(Errno) in
                try disk.open(at: parent, name.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
            }
            defer { disk.close(descriptor) }
            return try body(descriptor)
        }
    }

    /// The pieces of a long name as the copy has them, where together they are a name of the directory.
    func healName(_ place: TreePlace, changing: Bool) throws(VaultError) -> Outcome {
        guard let parent = place.parent, case .long(let tag) = NameCodec.kind(of: place.stored),
            let other = try counterpartDirectory(of: parent), let here = try directory(parent)
        else { return .notHealed }
        var pieces = LongNamePieces()
        var names: [StoredName] = []
        try listing(other.directory.descriptor) { bytes in
            let kind = NameCodec.kind(of: bytes)
            guard case .companion(tag, _, _) = kind else { return }
            pieces.add(kind)
            names.append(StoredName(bytes))
        }
        guard let sealed = pieces.sealed(tag),
            vault.names.open(sealed, in: here.directory.identity.accepted) != nil
        else { return .notHealed }
        return try withDirectory(parent) { (descriptor) throws(VaultError) in
            // Pieces of its own that are others would be taken for these; they say nothing, and go where they can be found.
            var others: [StoredName] = []
            try listing(descriptor) { bytes in
                if case .companion(tag, _, _) = NameCodec.kind(of: bytes), !names.contains(StoredName(bytes)) {
                    others.append(StoredName(bytes))
                }
            }
            guard changing else { return .healed(1) }
            for name in others {
                try lost.keep(name.bytes, as: "name." + Base64URL.text(DirectoryID.random().bytes))
                try system { () throws(Errno) in try disk.remove(at: descriptor, name.cString) }
            }
            for name in names {
                try system { () throws(Errno) in
                    do throws(Errno) {
                        disk.close(
                            try disk.open(
                                at: descriptor, name.cString, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
                                mode: 0o600))
                    } catch {
                        if error != .fileExists { throw error }
                    }
                }
            }
            return .healed(1)
        }
    }

    /// A directory of the vault by its plaintext place; nil where it cannot be reached.
    private func directory(_ place: TreePlace) throws(VaultError) -> TreeDirectory? {
        try Tree(vault).directory(at: place)
    }

    private func listing(_ directory: Int32, _ body: ([UInt8]) -> Void) throws(VaultError) {
        let descriptor = try system { () throws(Errno) in
            try disk.open(at: directory, ".", flags: O_RDONLY | O_DIRECTORY)
        }
        defer { disk.close(descriptor) }
        try RawDirectory(disk: disk, descriptor: descriptor).forEach { bytes, _ in
            body(bytes)
            return true
        }
    }
}
