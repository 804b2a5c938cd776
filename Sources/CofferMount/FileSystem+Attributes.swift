import CofferFormat
import CofferVault
import Glibc

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

    /// Sets an attribute.
    func setAttribute(_ inode: Inode, _ name: [UInt8], _ value: [UInt8], flags: Int32) throws(VaultError) {
        try names.read { () throws(VaultError) in
            try withObject(inode) { descriptor throws(VaultError) in
                try vault.setAttribute(name, of: descriptor, mode: inode.kind, value: value, flags: flags) {
                    () throws(VaultError) in try owner(inode, descriptor)
                }
            }
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
        return try vault.fileID(of: descriptor)
    }
}
