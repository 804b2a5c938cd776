import CofferFormat
import Glibc
import SystemPackage

/// Extended attributes of what a descriptor (an `O_PATH` one will do) names.
///
/// `owner` gives the file id of a regular file, and is only asked where an attribute is stored at all: most files have none, and the id costs a read.
extension Vault {
    /// The most bytes that an attribute's value may have, as the kernel has it.
    public static let maximumAttributeCount = 65536
    /// XATTR_CREATE and XATTR_REPLACE of setxattr(2).
    private static let createFlag: Int32 = 1
    private static let replaceFlag: Int32 = 2
    private static let systemPrefix: [UInt8] = Array("system.".utf8)
    /// The namespaces that Linux knows besides.
    private static let prefixes = ["user.", "trusted.", "security."].map { Array($0.utf8) }

    /// `ENOTSUP` for a namespace that there is none of, `EINVAL` for a name that is one and nothing more.
    private func checkNamespace(_ name: [UInt8]) throws(VaultError) {
        guard let prefix = Self.prefixes.first(where: { name.starts(with: $0) }) else { throw .system(.notSupported) }
        if name.count == prefix.count { throw .system(.invalidArgument) }
    }

    /// The value of an attribute; `ENODATA` where there is none.
    public func attribute(
        _ name: [UInt8], of descriptor: Int32, mode: mode_t, owner: () throws(VaultError) -> [UInt8]
    ) throws(VaultError) -> [UInt8] {
        if name.starts(with: Self.systemPrefix) { return try rawAttribute(StoredName(name), of: descriptor) }
        try checkNamespace(name)
        guard try hasAttributes(descriptor) else { throw .system(.noData) }
        let owner = try owner()
        let prefix = Self.prefix(for: mode)
        guard let stored = try storedName(of: name, on: descriptor, owner: owner, prefix: prefix) else {
            throw .system(.noData)
        }
        let sealed = try rawAttribute(stored, of: descriptor)
        do throws(FormatError) {
            return try attributes.open(sealed, name: name, owner: owner, prefix: prefix)
        } catch {
            throw .damaged(Damage(.attribute))
        }
    }

    /// Sets an attribute; `flags` as setxattr(2).
    public func setAttribute(
        _ name: [UInt8], of descriptor: Int32, mode: mode_t, value: [UInt8], flags: Int32,
        owner: () throws(VaultError) -> [UInt8]
    ) throws(VaultError) {
        if name.starts(with: Self.systemPrefix) {
            return try setRawAttribute(StoredName(name), of: descriptor, value, flags: flags)
        }
        try checkNamespace(name)
        let owner = try owner()
        let prefix = Self.prefix(for: mode)
        let present = try storedName(of: name, on: descriptor, owner: owner, prefix: prefix)
        guard let newest = attributes.storedNames(of: name, owner: owner, prefix: prefix).first else {
            throw .cryptography
        }
        if flags & Self.createFlag != 0 && present != nil { throw .system(.fileExists) }
        if flags & Self.replaceFlag != 0 && present == nil { throw .system(.noData) }
        let sealed: [UInt8]
        do throws(FormatError) {
            sealed = try attributes.seal(value, name: name, owner: owner, prefix: prefix)
        } catch {
            throw .cryptography
        }
        try setRawAttribute(newest, of: descriptor, sealed, flags: 0)
        try removeOlder(name, of: descriptor, owner: owner, prefix: prefix)
    }

    /// An attribute has one value, under whatever key: what it was under older ones goes.
    private func removeOlder(
        _ name: [UInt8], of descriptor: Int32, owner: [UInt8], prefix: [UInt8]
    ) throws(VaultError) {
        for stored in attributes.storedNames(of: name, owner: owner, prefix: prefix).dropFirst() {
            do throws(Errno) {
                try disk.removeAttribute(descriptor, stored.cString)
            } catch {
                if error != .noData { throw .system(error) }
            }
        }
    }

    /// Removes an attribute; `ENODATA` where there is none.
    public func removeAttribute(
        _ name: [UInt8], of descriptor: Int32, mode: mode_t, owner: () throws(VaultError) -> [UInt8]
    ) throws(VaultError) {
        if name.starts(with: Self.systemPrefix) {
            return try system { () throws(Errno) in
                try disk.removeAttribute(descriptor, StoredName(name).cString)
            }
        }
        try checkNamespace(name)
        guard try hasAttributes(descriptor) else { throw .system(.noData) }
        let owner = try owner()
        let prefix = Self.prefix(for: mode)
        guard let stored = try storedName(of: name, on: descriptor, owner: owner, prefix: prefix) else {
            throw .system(.noData)
        }
        // The older ones first: else one of them would be the value for a moment.
        try removeOlder(name, of: descriptor, owner: owner, prefix: prefix)
        do throws(Errno) {
            try disk.removeAttribute(descriptor, stored.cString)
        } catch {
            // It was one of them.
            if error != .noData || ring.epochsNewestFirst.count == 1 { throw .system(error) }
        }
    }

    /// The names of all attributes that verify, `system.` ones as the backing lists them. Damaged ones are told to `onDamage` and left out: a list has no
    /// place for an error.
    public func attributeNames(
        of descriptor: Int32, owner: () throws(VaultError) -> [UInt8], onDamage: (StoredName) -> Void
    ) throws(VaultError) -> [[UInt8]] {
        let stored = try rawNames(descriptor)
        guard !stored.isEmpty else { return [] }
        var names: [[UInt8]] = []
        // Between two steps of a rotation an attribute is there under both keys.
        let mayBeTwice = ring.epochsNewestFirst.count > 1
        func add(_ name: [UInt8]) {
            if !mayBeTwice || !names.contains(name) { names.append(name) }
        }
        var ownerID: [UInt8]?
        for name in stored {
            let kind = AttributeCodec.kind(of: name)
            if case .foreign = kind {
                if name.starts(with: Self.systemPrefix) { names.append(name) }
                continue
            }
            let id = if let ownerID { ownerID } else { try owner() }
            ownerID = id
            switch kind {
            case .short(let sealed):
                if let plain = attributes.openName(sealed, owner: id) {
                    add(plain)
                } else {
                    onDamage(StoredName(name))
                }
            case .long(let tag):
                let value = try rawAttribute(StoredName(name), of: descriptor)
                if let plain = attributes.longName(in: value, tag: tag, owner: id) {
                    add(plain)
                } else {
                    onDamage(StoredName(name))
                }
            case .foreign: break
            }
        }
        return names
    }

    /// Whether anything at all is stored as an attribute.
    private func hasAttributes(_ descriptor: Int32) throws(VaultError) -> Bool {
        do throws(Errno) {
            return try disk.listAttributes(descriptor, into: UnsafeMutableBufferPointer(start: nil, count: 0)) > 0
        } catch {
            if error == .notSupported { return false }
            throw .system(error)
        }
    }

    func rawNames(_ descriptor: Int32) throws(VaultError) -> [[UInt8]] {
        guard try hasAttributes(descriptor) else { return [] }
        let list = try system { () throws(Errno) in
            try disk.attributeListBytes(descriptor, limit: Self.maximumAttributeCount)
        }
        return list.split(separator: 0).map { Array($0) }
    }

    private func storedName(
        of name: [UInt8], on descriptor: Int32, owner: [UInt8], prefix: [UInt8]
    ) throws(VaultError) -> StoredName? {
        for stored in attributes.storedNames(of: name, owner: owner, prefix: prefix) {
            do throws(Errno) {
                _ = try disk.attribute(
                    descriptor, stored.cString, into: UnsafeMutableRawBufferPointer(start: nil, count: 0))
                return stored
            } catch {
                // Whoever may not read values, the owner of a file that is closed to its owner, may list names all the same.
                if error == .permissionDenied {
                    if try rawNames(descriptor).contains(stored.bytes) { return stored }
                } else if error != .noData && error != .notSupported {
                    throw .system(error)
                }
            }
        }
        return nil
    }

    func rawAttribute(_ name: StoredName, of descriptor: Int32) throws(VaultError) -> [UInt8] {
        try system { () throws(Errno) in
            try disk.attributeBytes(descriptor, name.cString, limit: Self.maximumAttributeCount)
        }
    }

    private func setRawAttribute(
        _ name: StoredName, of descriptor: Int32, _ value: [UInt8], flags: Int32
    ) throws(VaultError) {
        try system { () throws(Errno) in
            try disk.setAttribute(descriptor, name.cString, bytes: value, flags: flags)
        }
    }

    /// Objects other than files and directories cannot carry `user.` attributes.
    static func prefix(for mode: mode_t) -> [UInt8] {
        switch mode & S_IFMT {
        case S_IFREG, S_IFDIR: AttributeCodec.userPrefix
        default: AttributeCodec.trustedPrefix
        }
    }
}
