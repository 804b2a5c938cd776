import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Names, directory records, links and attributes.
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

    /// `coffer.dir` as the copy has it, where that says something at this place.
    func healRecords(of place: TreePlace, changing: Bool) throws(VaultError) -> Outcome {
        guard let directory = try counterpartDirectory(of: place) else { return .notHealed }
        let identity = directory.directory.identity
        do throws(VaultError) {
            _ = try copy.vault.recordedIdentity(of: directory.directory.descriptor, derived: identity.derived)
        } catch {
            return .notHealed
        }
        guard changing else { return .healed(1) }
        return try withDirectory(place) { (descriptor) throws(VaultError) in
            let present = try readRecords(in: descriptor)
            try lost.keep(present, as: "coffer.dir." + Base64URL.text(identity.derived.bytes))
            try vault.writeRecords([identity], in: descriptor)
            return .healed(1)
        }
    }

    private func readRecords(in directory: Int32) throws(VaultError) -> [UInt8] {
        try system { () throws(Errno) in
            let file = try disk.open(
                at: directory, ReservedName.directory.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            defer { disk.close(file) }
            return try disk.readBytes(file, limit: 1 << 16)
        }
    }

    /// A link with the text that it has in the copy.
    func healLink(_ place: TreePlace, changing: Bool) throws(VaultError) -> Outcome {
        guard let (entry, directory) = try counterpart(of: place), entry.isLink else { return .notHealed }
        let target: [UInt8]
        do throws(VaultError) {
            target = try copy.readLink(entry, in: directory)
        } catch {
            return .notHealed
        }
        guard changing else { return .healed(1) }
        return try disk.withParent(of: place.storedNames, below: vault.rootDescriptor) {
            (parent, name) throws(VaultError) in
            let before = try system { () throws(Errno) in try disk.status(at: parent, name.cString) }
            guard before.st_mode & S_IFMT == S_IFLNK else { return .notHealed }
            let text = try vault.linkText(at: parent, name)
            try lost.keep(text, as: "link." + Base64URL.text(DirectoryID.random().bytes))
            let making = ReservedName.making(random: DirectoryID.random().bytes)
            let sealed = Base64URL.encode(try vault.seal(target))
            let (newText, overflow) = LinkCodec.parseOverflow(text).map { (text, Optional($0)) } ?? (sealed, nil)
            try system { () throws(Errno) in
                if let overflow {
                    // The link says where its target is; that is what is damaged, or gone.
                    let content: [UInt8]
                    do throws(VaultError) {
                        content = try vault.seal(target, companion: overflow.companion)
                    } catch {
                        throw .ioError
                    }
                    try replace(overflow.file, with: content, in: parent)
                    return
                }
                try disk.makeLink(at: parent, making.cString, target: StoredName(newText).cString)
                let new = try disk.open(at: parent, making.cString, flags: Disk.pathOnly | O_NOFOLLOW)
                defer { disk.close(new) }
                let now = try disk.status(new)
                if now.st_uid != before.st_uid || now.st_gid != before.st_gid {
                    try disk.setOwner(new, user: before.st_uid, group: before.st_gid)
                }
                try disk.setTimes(new, access: before.st_atim, modification: before.st_mtim)
                try disk.rename(from: parent, making.cString, to: parent, name.cString)
            }
            return .healed(1)
        }
    }

    private func replace(_ name: StoredName, with bytes: [UInt8], in directory: Int32) throws(Errno) {
        let making = ReservedName.making(random: DirectoryID.random().bytes)
        let file = try disk.open(
            at: directory, making.cString, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o644)
        defer { disk.close(file) }
        try disk.write(file, bytes: bytes)
        try disk.sync(file)
        try disk.rename(from: directory, making.cString, to: directory, name.cString)
    }

    /// A name that does not verify: a long one's pieces as the copy has them, or, where the name itself is another, the one that the same file has in the copy.
    func healName(_ place: TreePlace, changing: Bool) throws(VaultError) -> Outcome {
        guard let parent = place.parent, let other = try counterpartDirectory(of: parent) else { return .notHealed }
        return try withDirectory(parent) { (descriptor) throws(VaultError) in
            if case .long(let tag) = vault.names.kind(of: place.stored) {
                let count = try takePieces(tag, from: other.directory.descriptor, to: descriptor, changing)
                if count > 0 { return .healed(count) }
            }
            return try giveNameBack(place, descriptor, other, changing)
        }
    }

    private func takePieces(
        _ tag: [UInt8], from source: Int32, to target: Int32, _ changing: Bool
    ) throws(VaultError) -> Int {
        var pieces: [[UInt8]] = []
        try listing(source) { bytes in
            if case .companion(tag, _, _) = vault.names.kind(of: bytes) { pieces.append(bytes) }
        }
        var made = 0
        for piece in pieces {
            let name = StoredName(piece)
            do throws(Errno) {
                _ = try disk.status(at: target, name.cString)
                continue
            } catch {
                if error != .noSuchFileOrDirectory { throw .system(error) }
            }
            made += 1
            guard changing else { continue }
            try system { () throws(Errno) in
                disk.close(
                    try disk.open(
                        at: target, name.cString, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600))
            }
        }
        return made
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

    /// A file is known by its id, which is in its header; what has no id is not known again.
    private func giveNameBack(
        _ place: TreePlace, _ directory: Int32, _ other: TreeDirectory, _ changing: Bool
    ) throws(VaultError) -> Outcome {
        let name = StoredName(place.stored)
        guard let id = try fileID(name, in: directory) else { return .notHealed }
        for listed in try copy.list(other) where !listed.isPlaceholder {
            guard try fileID(listed.stored, in: other.directory.descriptor) == id, let boundID = listed.id else {
                continue
            }
            let encoding: EncodedName
            do throws(FormatError) {
                encoding = try vault.names.encoding(of: listed.name, in: boundID)
            } catch {
                return .notHealed
            }
            let here = VaultDirectory(
                descriptor: directory,
                identity: DirectoryIdentity(derived: other.directory.identity.derived))
            if !changing { return .healed(1) }
            do throws(VaultError) {
                try vault.withCompanions(of: encoding, in: here) { () throws(Errno) in
                    try disk.rename(
                        from: directory, name.cString, to: directory, encoding.entry.cString, mode: .noReplace)
                }
            } catch {
                // Something has the name by now: this is another copy of the same file, and stays.
                return error == .system(.fileExists) ? .notHealed : .failed(error.errno)
            }
            return .healed(1)
        }
        return .notHealed
    }

    private func fileID(_ name: StoredName, in directory: Int32) throws(VaultError) -> [UInt8]? {
        let status = try system { () throws(Errno) in try disk.status(at: directory, name.cString) }
        guard status.st_mode & S_IFMT == S_IFREG else { return nil }
        return try system { () throws(Errno) in
            let file = try disk.open(at: directory, name.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            defer { disk.close(file) }
            let raw = try disk.readBytes(file, limit: FileHeader.byteCount)
            return raw.count == FileHeader.byteCount ? Array(raw[8..<24]) : nil
        }
    }

    /// Attributes that do not verify go, and those that the copy has and the vault has not are set.
    func healAttributes(of place: TreePlace, changing: Bool) throws(VaultError) -> Outcome {
        let isRoot = place.parent == nil
        let source: (descriptor: Int32, mode: mode_t, owner: [UInt8])
        if isRoot {
            source = (copy.vault.rootDescriptor, S_IFDIR, AttributeCodec.noOwner)
        } else if let (entry, directory) = try counterpart(of: place) {
            let object = try system { () throws(Errno) in
                try disk.open(
                    at: directory.directory.descriptor, entry.stored.cString,
                    flags: entry.isFile ? O_RDONLY | O_NOFOLLOW | O_NONBLOCK : Disk.pathOnly | O_NOFOLLOW)
            }
            let owner = entry.isFile ? try copy.vault.fileID(of: object) : AttributeCodec.noOwner
            source = (object, entry.backing.st_mode, owner)
        } else if let directory = try counterpartDirectory(of: place) {
            let object = try system { () throws(Errno) in try disk.duplicate(directory.directory.descriptor) }
            source = (object, S_IFDIR, AttributeCodec.noOwner)
        } else {
            return .notHealed
        }
        defer { if !isRoot { disk.close(source.descriptor) } }
        if isRoot { return try healAttributes(of: vault.rootDescriptor, by: source, changing) }
        return try disk.withParent(of: place.storedNames, below: vault.rootDescriptor) {
            (parent, name) throws(VaultError) in
            let object = try system { () throws(Errno) in
                try disk.open(at: parent, name.cString, flags: Disk.pathOnly | O_NOFOLLOW)
            }
            defer { disk.close(object) }
            return try healAttributes(of: object, by: source, changing)
        }
    }

    private func healAttributes(
        of object: Int32, by source: (descriptor: Int32, mode: mode_t, owner: [UInt8]), _ changing: Bool
    ) throws(VaultError) -> Outcome {
        var damaged: [StoredName] = []
        var present = try vault.attributeNames(
            of: object, owner: { () throws(VaultError) in source.owner }, onDamage: { damaged.append($0) })
        for name in present {
            do throws(VaultError) {
                _ = try vault.attribute(name, of: object, mode: source.mode) { () throws(VaultError) in source.owner }
            } catch {
                guard case .damaged = error else { continue }
                // Set anew, it replaces what does not verify.
                present.removeAll { $0 == name }
            }
        }
        var healed = 0
        let names = try copy.vault.attributeNames(
            of: source.descriptor, owner: { () throws(VaultError) in source.owner }, onDamage: { _ in })
        for name in names where !present.contains(name) && !name.starts(with: Array("system.".utf8)) {
            let value: [UInt8]
            do throws(VaultError) {
                value = try copy.vault.attribute(name, of: source.descriptor, mode: source.mode) {
                    () throws(VaultError) in source.owner
                }
            } catch {
                continue
            }
            healed += 1
            guard changing else { continue }
            try vault.setAttribute(name, of: object, mode: source.mode, value: value, flags: 0) {
                () throws(VaultError) in source.owner
            }
        }
        guard healed > 0 else { return .notHealed }
        for name in damaged where changing {
            let value = try vault.rawAttribute(name, of: object)
            try lost.keep(name.bytes + [0] + value, as: "attribute." + Base64URL.text(DirectoryID.random().bytes))
            try system { () throws(Errno) in try disk.removeAttribute(object, name.cString) }
        }
        return .healed(healed)
    }
}
