import CofferDisk
import CofferFormat
import CofferSeal
import CofferVault
import Glibc
import SystemPackage

/// Where only what was sealed may be read.
extension FileSystem {
    /// Throws where something of another type was sealed under a stored name, or nothing. The caller holds `names`.
    func requireSealed(_ status: stat, _ parent: Inode, _ stored: StoredName) throws(VaultError) {
        guard let sealed else { return }
        guard let place = place(of: parent) else { throw .damaged(Damage(.unsealed)) }
        try sealed.verify(type: status.st_mode, at: place + [stored])
    }

    /// Throws where something was sealed under a name that is not there: what is missing is not hidden. The caller holds `names`.
    func requireUnsealed(
        _ name: [UInt8], _ parent: Inode, _ directory: VaultDirectory
    ) throws(VaultError) {
        guard let sealed, let place = place(of: parent) else { return }
        for stored in vault.storedNames(of: name, in: directory) where try sealed.has(place + [stored]) {
            throw .damaged(Damage(.missing))
        }
    }

    /// Reads a file as a whole, where that was not done since it changed last. Before it is opened, so that nobody waits for that who asks for something else.
    func verifyBeforeOpening(_ inode: Inode) throws(VaultError) {
        guard let sealed, inode.kind == S_IFREG else { return }
        let all = try names.read { () throws(VaultError) -> [[StoredName]] in try places(of: inode) }
        let descriptor = try names.read { () throws(VaultError) -> Int32 in
            try openBacking(inode, flags: O_RDONLY)
        }
        defer { disk.close(descriptor) }
        for place in all { try sealed.verify(descriptor, at: place) }
    }

    /// Every place where an inode is known to be. Nobody says by which of its names a file is opened, so it has to be what was sealed under each.
    func places(of inode: Inode) throws(VaultError) -> [[StoredName]] {
        var places: [[StoredName]] = []
        for link in table.links(of: inode) {
            guard let above = place(of: link.parent) else { continue }
            places.append(above + [link.stored])
        }
        guard !places.isEmpty else { throw .damaged(Damage(.unsealed)) }
        return places
    }

    /// What an open file is while it is as sealed; nil where that is nobody's to say. The caller holds `names`.
    func sealedStamp(_ inode: Inode, _ contents: FileContents) throws(VaultError) -> SealGuard.Stamp? {
        guard let sealed else { return nil }
        let places = try places(of: inode)
        return try contents.withDescriptor { descriptor throws(VaultError) in
            var stamp: SealGuard.Stamp?
            for place in places {
                let now = try sealed.verify(descriptor, at: place)
                if let before = stamp, before != now { throw .damaged(Damage(.otherThanSealed)) }
                stamp = now
            }
            return stamp
        }
    }

    /// Throws where an open file is not any more what was found to be as sealed: to be asked after something was read of it.
    func requireUnchanged(_ handle: FileHandle) throws(VaultError) {
        let now = try handle.contents.withDescriptor { descriptor throws(VaultError) in
            do throws(Errno) {
                return SealGuard.Stamp(try disk.status(descriptor))
            } catch {
                throw .system(error)
            }
        }
        guard handle.sealedStamp == now else { throw .damaged(Damage(.otherThanSealed)) }
    }
}
