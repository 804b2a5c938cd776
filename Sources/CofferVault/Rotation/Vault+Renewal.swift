import CofferFormat
import Glibc
import SystemPackage

/// What is sealed under the vault's newest key already, and sealing small things under it.
extension Vault {
    /// Whether any attribute of an object is sealed under an older key. Throws damage for one that does not verify.
    func hasOldAttributes(
        _ descriptor: Int32, mode: mode_t, owner: () throws(VaultError) -> [UInt8]
    ) throws(VaultError) -> Bool {
        var isOld = false
        try forEachAttribute(descriptor, mode: mode, owner: owner) { attribute, _ in
            isOld = isOld || !attribute.isCurrent
        }
        return isOld
    }

    /// Seals the attributes of an object again that are sealed under an older key. Returns how many.
    func renewAttributes(
        of descriptor: Int32, mode: mode_t, owner: () throws(VaultError) -> [UInt8]
    ) throws(VaultError) -> Int {
        var count = 0
        try forEachAttribute(descriptor, mode: mode, owner: owner) { attribute, ownerID throws(VaultError) in
            if attribute.isCurrent { return }
            count += 1
            if attribute.isSuperseded {
                return try system { () throws(Errno) in
                    try disk.removeAttribute(descriptor, attribute.stored.cString)
                }
            }
            try setAttribute(
                attribute.name, of: descriptor, mode: mode, value: attribute.value, flags: 0,
                owner: { () throws(VaultError) in ownerID })
        }
        return count
    }

    /// Gives `target`, which has none, the attributes of `source`, sealed under the newest key. Those that are none of Coffer's go along as far as they may.
    func copyAttributes(
        from source: Int32, to target: Int32, mode: mode_t, owner: [UInt8]
    ) throws(VaultError) {
        for name in try rawNames(source) {
            guard case .foreign = AttributeCodec.kind(of: name) else { continue }
            do throws(Errno) {
                let value = try disk.attributeBytes(
                    source, StoredName(name).cString, limit: Self.maximumAttributeCount)
                try disk.setAttribute(target, StoredName(name).cString, bytes: value, flags: 0)
            } catch {
                // An access list says who may read; the rest is what other programs noted beside the vault.
                if name == Array("system.posix_acl_access".utf8) { throw .system(error) }
            }
        }
        try forEachAttribute(source, mode: mode, owner: { () throws(VaultError) in owner }) {
            attribute, ownerID throws(VaultError) in
            if attribute.isSuperseded { return }
            try setAttribute(
                attribute.name, of: target, mode: mode, value: attribute.value, flags: 0,
                owner: { () throws(VaultError) in ownerID })
        }
    }

    private struct StoredAttribute {
        let name: [UInt8]
        let value: [UInt8]
        let stored: StoredName
        let isCurrent: Bool
        /// It is there under the newest key as well, where it was set last.
        let isSuperseded: Bool
    }

    private func forEachAttribute(
        _ descriptor: Int32, mode: mode_t, owner: () throws(VaultError) -> [UInt8],
        _ body: (StoredAttribute, [UInt8]) throws(VaultError) -> Void
    ) throws(VaultError) {
        let names = try rawNames(descriptor).filter { AttributeCodec.kind(of: $0) != .foreign }
        guard !names.isEmpty else { return }
        let ownerID = try owner()
        let prefix = Self.prefix(for: mode)
        for stored in names {
            let raw = try rawAttribute(StoredName(stored), of: descriptor)
            let plain: [UInt8]? =
                switch AttributeCodec.kind(of: stored) {
                case .short(let sealed): attributes.openName(sealed, owner: ownerID)
                case .long(let tag): attributes.longName(in: raw, tag: tag, owner: ownerID)
                case .foreign: nil
                }
            guard let plain, let newest = attributes.storedNames(of: plain, owner: ownerID, prefix: prefix).first
            else { throw .damaged(Damage(.attribute)) }
            let value: [UInt8]
            do throws(FormatError) {
                value = try attributes.open(raw, name: plain, owner: ownerID, prefix: prefix)
            } catch {
                throw .damaged(Damage(.attribute))
            }
            let isCurrent = newest.bytes == stored && raw.first == ring.newest
            try body(
                StoredAttribute(
                    name: plain, value: value, stored: StoredName(stored), isCurrent: isCurrent,
                    isSuperseded: newest.bytes != stored && names.contains(newest.bytes)),
                ownerID)
        }
    }

    /// Writes `coffer.dir` again where it is not what the newest key would make of it; that is damage where there is only looking. Returns whether it was written.
    func renewRecords(
        of descriptor: Int32, _ identity: DirectoryIdentity, onlyLooking: Bool
    ) throws(VaultError) -> Bool {
        guard let present = try recordBytes(of: descriptor) else { return false }
        do throws(FormatError) {
            if present == (try records.encode([identity])) { return false }
        } catch {
            throw .damaged(Damage(.directory))
        }
        if onlyLooking { throw .damaged(Damage(.directory)) }
        try writeRecords([identity], in: descriptor)
        return true
    }

    /// Seals a link's overflow file again where it is sealed under an older key. `file` is its name, `companion` its random bytes. Returns whether it was.
    func renewOverflow(_ file: StoredName, _ companion: [UInt8], in directory: Int32) throws(VaultError) -> Bool {
        let sealed = try readOverflow(file, in: directory)
        if sealed.first == ring.newest { return false }
        let target: [UInt8]
        do throws(FormatError) {
            target = try links.open(sealed, companion: companion)
        } catch {
            throw .damaged(Damage(.link))
        }
        let making = ReservedName.making(random: DirectoryID.random().bytes)
        let renewed = try seal(target, companion: companion)
        try system { () throws(Errno) in
            let before = try disk.status(at: directory, file.cString)
            let descriptor = try disk.open(
                at: directory, making.cString, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
            defer { disk.close(descriptor) }
            try disk.write(descriptor, bytes: renewed)
            let now = try disk.status(descriptor)
            if now.st_uid != before.st_uid || now.st_gid != before.st_gid {
                try disk.setOwner(descriptor, user: before.st_uid, group: before.st_gid)
            }
            try disk.setMode(descriptor, before.st_mode & 0o777)
            try disk.sync(descriptor)
            try disk.rename(from: directory, making.cString, to: directory, file.cString)
        }
        return true
    }
}
