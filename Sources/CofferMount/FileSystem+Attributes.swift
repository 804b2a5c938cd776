import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// Extended attributes.
extension FileSystem {
    /// The value of an attribute.
    func attribute(_ inode: Inode, _ name: [UInt8]) throws(VaultError) -> [UInt8] {
        try names.read { () throws(VaultError) in
            try withObject(inode) { descriptor throws(VaultError) in
                try vault.attribute(name, of: descriptor, mode: inode.kind) { () throws(VaultError) in
                    try owner(inode, descriptor)
                }
            }
        }
    }

    /// Sets an attribute. `belongs` tells whether the caller is in a group, or may do without.
    func setAttribute(
        _ inode: Inode, _ name: [UInt8], _ value: [UInt8], flags: Int32, belongs: (gid_t) -> Bool
    ) throws(VaultError) {
        try names.read { () throws(VaultError) in
            try withObject(inode) { descriptor throws(VaultError) in
                try vault.setAttribute(name, of: descriptor, mode: inode.kind, value: value, flags: flags) {
                    () throws(VaultError) in try owner(inode, descriptor)
                }
                // As chmod(2) does for such a caller; the backing saw only the driver.
                if name.elementsEqual("system.posix_acl_access".utf8) {
                    try dropGroupBit(descriptor, evenExecutable: true, belongs)
                }
            }
        }
    }

    /// Takes the set-group-id bit from an object whose group the caller is not in.
    ///
    /// With write-back the kernel asks for this only where the group may execute the file; a file that was to be locked mandatorily once
    /// loses it too where the driver knows who changes it. True where it was taken.
    @discardableResult
    func dropGroupBit(
        _ descriptor: Int32, evenExecutable: Bool = false, _ belongs: (gid_t) -> Bool
    ) throws(VaultError) -> Bool {
        do throws(Errno) {
            let status = try disk.status(descriptor)
            guard status.st_mode & S_ISGID != 0, evenExecutable || status.st_mode & S_IXGRP == 0,
                !belongs(status.st_gid)
            else { return false }
            try disk.setMode(descriptor, status.st_mode & 0o7777 & ~S_ISGID)
            return true
        } catch {
            throw .system(error)
        }
    }

    /// Takes the set-id bits that changing a file's contents takes from it. True where there were any.
    func dropSetID(_ descriptor: Int32, _ belongs: (gid_t) -> Bool) throws(VaultError) -> Bool {
        do throws(Errno) {
            let status = try disk.status(descriptor)
            var mode = status.st_mode & 0o7777 & ~S_ISUID
            if mode & S_ISGID != 0, mode & S_IXGRP != 0 || !belongs(status.st_gid) { mode &= ~S_ISGID }
            if mode == status.st_mode & 0o7777 { return false }
            try disk.setMode(descriptor, mode)
            return true
        } catch {
            throw .system(error)
        }
    }

    /// The names of all attributes.
    func attributeNames(_ inode: Inode) throws(VaultError) -> [[UInt8]] {
        try names.read { () throws(VaultError) in
            try withObject(inode) { descriptor throws(VaultError) in
                try vault.attributeNames(of: descriptor) { () throws(VaultError) in
                    try owner(inode, descriptor)
                } onDamage: { _ in
                    _ = report(.damaged(Damage(.attribute)), inode)
                }
            }
        }
    }

    /// Removes an attribute.
    func removeAttribute(_ inode: Inode, _ name: [UInt8]) throws(VaultError) {
        try names.read { () throws(VaultError) in
            try withObject(inode) { descriptor throws(VaultError) in
                try vault.removeAttribute(name, of: descriptor, mode: inode.kind) { () throws(VaultError) in
                    try owner(inode, descriptor)
                }
            }
        }
    }

    /// What an inode's attributes are bound to.
    private func owner(_ inode: Inode, _ descriptor: Int32) throws(VaultError) -> [UInt8] {
        guard inode.kind == S_IFREG else { return AttributeCodec.noOwner }
        if let contents = openContents(of: inode) { return contents.fileID }
        let file = try reopen(descriptor, flags: O_RDONLY | O_NONBLOCK)
        defer { disk.close(file) }
        return try vault.fileID(of: file)
    }
}
