import CofferFormat
import Glibc
import SystemPackage

/// Owners, modes, times and extended attributes.
extension TreeExtraction {
    /// Extended attributes, by plaintext name.
    typealias Attributes = [(name: [UInt8], value: [UInt8])]

    private static let systemPrefix: [UInt8] = Array("system.".utf8)
    private static let aclPrefix: [UInt8] = Array("system.posix_acl_".utf8)
    private static let defaultACL = StoredName("system.posix_acl_default")

    /// The extended attributes of a vault's object, as far as they can be read; the others are told.
    func attributes(
        of object: Int32, _ status: stat, _ place: TreePlace, owner: () throws(VaultError) -> [UInt8]
    ) -> Attributes {
        let vault = tree.vault
        var result: Attributes = []
        do throws(VaultError) {
            let names = try vault.attributeNames(of: object, owner: owner) { _ in
                report(place, .damagedAttribute(Damage(.attribute)))
            }
            // Of the backing's own attributes only ACLs mean anything elsewhere.
            for name in names where !name.starts(with: Self.systemPrefix) || name.starts(with: Self.aclPrefix) {
                do throws(VaultError) {
                    result.append(
                        (name, try vault.attribute(name, of: object, mode: status.st_mode, owner: owner)))
                } catch {
                    switch error {
                    case .damaged(let damage): report(place, .damagedAttribute(damage))
                    // Removed meanwhile.
                    case .system(.noData): break
                    default: report(place, .incomplete(Self.attributeText(name), error.errno))
                    }
                }
            }
        } catch {
            report(place, .incomplete("extended attributes", error.errno))
        }
        return result
    }

    /// Gives an object of the destination what the vault's has. The order matters: a new owner takes set-id bits and capabilities away, a mode goes by
    /// what an ACL says, and each of these changes a time.
    func finish(
        _ descriptor: Int32, _ status: stat, _ attributes: Attributes, _ place: TreePlace
    ) throws(Failure) {
        if options.isPrivileged {
            try setting("owner", place) { () throws(Errno) in
                try disk.setOwner(descriptor, user: status.st_uid, group: status.st_gid)
            }
        }
        for (name, value) in attributes {
            try setting(Self.attributeText(name), place) { () throws(Errno) in
                try disk.setAttribute(descriptor, StoredName(name).cString, bytes: value, flags: 0)
            }
        }
        if status.st_mode & S_IFMT != S_IFLNK {
            try setting("mode", place) { () throws(Errno) in
                let keeps: mode_t = options.trustsModes || status.st_mode & S_IFMT == S_IFDIR ? 0o7777 : 0o1777
                try disk.setMode(descriptor, status.st_mode & keeps)
            }
        }
        try setting("times", place) { () throws(Errno) in
            try disk.setTimes(descriptor, access: status.st_atim, modification: status.st_mtim)
        }
    }

    func finishDirectory(_ source: TreeDirectory, _ status: stat, _ descriptor: Int32) throws(Failure) {
        let attributes = attributes(of: source.directory.descriptor, status, source.place) { () throws(VaultError) in
            AttributeCodec.noOwner
        }
        try finish(descriptor, status, attributes, source.place)
    }

    /// Takes away what everything that is made in a directory would inherit.
    func removeDefaultACL(of directory: Int32) throws(Failure) {
        let nothing = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        do throws(Errno) {
            guard try disk.attribute(directory, Self.defaultACL.cString, into: nothing) > 0 else { return }
        } catch {
            // None, or a file system without any.
            return
        }
        try setting("default ACL", start) { () throws(Errno) in
            try disk.removeAttribute(directory, Self.defaultACL.cString)
        }
    }

    /// A property that cannot be set is told, and the object stays; a full disk is another matter.
    private func setting(
        _ property: String, _ place: TreePlace, _ body: () throws(Errno) -> Void
    ) throws(Failure) {
        do throws(Errno) {
            try body()
        } catch {
            if error == .noSpace || error == .diskQuotaExceeded || error == .ioError { throw .destination(error) }
            report(place, .incomplete(property, error))
        }
    }

    private static func attributeText(_ name: [UInt8]) -> String {
        "attribute \(String(decoding: name, as: UTF8.self))"
    }
}
