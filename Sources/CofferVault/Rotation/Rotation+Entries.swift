import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// An entry that verified, as it is stored.
struct TurnedEntry {
    let name: [UInt8]
    let id: DirectoryID
    let stored: StoredName
}

/// One directory's entries: names, and what they stand for.
extension Rotation {
    /// The entries of a directory. What an earlier run left is removed; overflow files of links, which are no entries, are sealed again here.
    func list(_ directory: TurnedDirectory) throws(VaultError) -> [TurnedEntry] {
        var kinds: [(bytes: [UInt8], kind: StoredNameKind)] = []
        var pieces = LongNamePieces()
        try RawDirectory(disk: disk, descriptor: directory.descriptor).forEach { bytes, _ in
            let kind = NameCodec.kind(of: bytes)
            pieces.add(kind)
            switch kind {
            case .short, .long, .reserved, .foreign: kinds.append((bytes, kind))
            case .dots, .companion: break
            }
            return true
        }
        var entries: [TurnedEntry] = []
        var longTags: Set<[UInt8]> = []
        for (bytes, kind) in kinds {
            let place = TreePlace(in: directory.place, name: DirectoryStream.placeholder(for: bytes), stored: bytes)
            try attempt(place) { () throws(VaultError) in
                switch kind {
                case .short(let sealed): entries.append(try entry(bytes, sealed, directory))
                case .long(let tag):
                    longTags.insert(tag)
                    entries.append(try entry(bytes, pieces.sealed(tag), directory))
                case .foreign:
                    if try holdsSealed(StoredName(bytes), directory) { throw .damaged(Damage(.foreign)) }
                default: try turnReserved(bytes, directory)
                }
            }
        }
        try removeLoneCompanions(pieces, but: longTags, of: entries, directory)
        return entries
    }

    private func entry(
        _ bytes: [UInt8], _ sealed: [UInt8]?, _ directory: TurnedDirectory
    ) throws(VaultError) -> TurnedEntry {
        guard let sealed, let (name, id) = vault.names.open(sealed, in: directory.identity.accepted) else {
            throw .damaged(Damage(.name))
        }
        return TurnedEntry(name: name, id: id, stored: StoredName(bytes))
    }

    /// Whether something that has none of Coffer's names holds what is sealed, as conflict copies do: it could not be opened any more by whoever gives it its name back.
    private func holdsSealed(_ name: StoredName, _ directory: TurnedDirectory) throws(VaultError) -> Bool {
        let status = try system { () throws(Errno) in try disk.status(at: directory.descriptor, name.cString) }
        switch status.st_mode & S_IFMT {
        case S_IFREG:
            let file = try open(name, in: directory.descriptor)
            defer { disk.close(file) }
            let raw = try system { () throws(Errno) in try disk.readBytes(file, limit: FileHeader.byteCount) }
            do throws(FormatError) {
                return try FileHeader(parsing: raw).epoch != vault.ring.newest
            } catch {
                return false
            }
        case S_IFDIR:
            let inner = try openDirectory(name, in: directory.descriptor)
            defer { disk.close(inner) }
            var isSealed = false
            try RawDirectory(disk: disk, descriptor: inner).forEach { bytes, _ in
                switch NameCodec.kind(of: bytes) {
                case .short, .long: isSealed = true
                default: break
                }
                return !isSealed
            }
            return isSealed
        default: return false
        }
    }

    private func turnReserved(_ bytes: [UInt8], _ directory: TurnedDirectory) throws(VaultError) {
        if isLooking && ReservedName.isMaking(StoredName(bytes)) { return }
        let name = StoredName(bytes)
        if let companion = ReservedName.overflowCompanion(bytes) {
            do throws(VaultError) {
                if try vault.renewOverflow(name, companion, in: directory.descriptor) {
                    directory.isTouched = true
                    tell { $0.names += 1 }
                }
            } catch {
                // What no link leads to was left by something that was cut short, and says nothing.
                guard case .damaged = error, try !isNamed(name, in: directory) else { throw error }
            }
        } else if ReservedName.isMaking(name) {
            let status = try system { () throws(Errno) in try disk.status(at: directory.descriptor, name.cString) }
            if status.st_mode & S_IFMT == S_IFDIR {
                try vault.removeMade(name, in: directory.descriptor)
            } else {
                try system { () throws(Errno) in try disk.remove(at: directory.descriptor, name.cString) }
            }
            directory.isTouched = true
        }
    }

    /// Whether a link in a directory leads to an overflow file.
    private func isNamed(_ file: StoredName, in directory: TurnedDirectory) throws(VaultError) -> Bool {
        var names: [StoredName] = []
        try RawDirectory(disk: disk, descriptor: directory.descriptor).forEach { bytes, _ in
            names.append(StoredName(bytes))
            return true
        }
        for name in names {
            let status = try system { () throws(Errno) in try disk.status(at: directory.descriptor, name.cString) }
            guard status.st_mode & S_IFMT == S_IFLNK, status.st_size == LinkCodec.overflowTextCount else { continue }
            if LinkCodec.parseOverflow(try vault.linkText(at: directory.descriptor, name))?.file == file {
                return true
            }
        }
        return false
    }

    /// Companions that an entry left behind would tell its name to whoever has the older key. Where some are gone already, the entry's new name tells whose they were.
    private func removeLoneCompanions(
        _ pieces: LongNamePieces, but tags: Set<[UInt8]>, of entries: [TurnedEntry], _ directory: TurnedDirectory
    ) throws(VaultError) {
        let lone = pieces.tags.filter { !tags.contains($0) }
        guard !lone.isEmpty, !isLooking else { return }
        var names = entries.map { (name: $0.name, id: $0.id) }
        for tag in lone {
            if let sealed = pieces.sealed(tag), let found = vault.names.open(sealed, in: directory.identity.accepted) {
                names.append(found)
            }
        }
        for (name, id) in names where vault.names.mayBeLong(name) {
            for encoding in try encodings(of: name, in: id).dropFirst() where lone.contains(where: encoding.isNamed) {
                try vault.removeCompanions(
                    of: encoding,
                    in: VaultDirectory(descriptor: directory.descriptor, identity: directory.identity))
                directory.isTouched = true
            }
        }
    }

    private func encodings(of name: [UInt8], in id: DirectoryID) throws(VaultError) -> [EncodedName] {
        do throws(FormatError) {
            return try vault.names.encodings(of: name, in: id)
        } catch {
            throw .damaged(Damage(.name))
        }
    }

    /// An entry's name, then what it stands for. Returns its attributes and the name that it has now.
    func turn(
        _ entry: TurnedEntry, in directory: TurnedDirectory
    ) throws(VaultError) -> (stat, StoredName) {
        let status = try system { () throws(Errno) in
            try disk.status(at: directory.descriptor, entry.stored.cString)
        }
        let stored = try turnName(entry, in: directory)
        let place = TreePlace(in: directory.place, name: entry.name, stored: stored.bytes)
        switch status.st_mode & S_IFMT {
        case S_IFREG: try turnFile(stored, place, in: directory)
        case S_IFLNK: try turnLink(stored, status, place, in: directory)
        case S_IFDIR: break
        default: try turnNode(stored, status, place, in: directory)
        }
        return (status, stored)
    }

    private func turnName(_ entry: TurnedEntry, in directory: TurnedDirectory) throws(VaultError) -> StoredName {
        let all = try encodings(of: entry.name, in: entry.id)
        guard let newest = all.first else { throw .cryptography }
        // A name that was stored long where it need not have been is none of these.
        let old = all.first { $0.entry == entry.stored } ?? EncodedName(entry: entry.stored, companions: [])
        if old == newest { return entry.stored }
        let here = VaultDirectory(descriptor: directory.descriptor, identity: directory.identity)
        try vault.withCompanions(of: newest, in: here) { () throws(Errno) in
            try self.rename(entry.stored, to: newest.entry, in: directory)
        }
        try vault.removeCompanions(of: old, in: here)
        directory.isTouched = true
        tell { $0.names += 1 }
        return newest.entry
    }

    private func rename(_ name: StoredName, to newName: StoredName, in directory: TurnedDirectory) throws(Errno) {
        let descriptor = directory.descriptor
        do throws(Errno) {
            try disk.rename(
                from: descriptor, name.cString, to: descriptor, newName.cString, mode: .noReplace)
        } catch {
            // Some file systems know no flags.
            guard error == .invalidArgument else { throw error }
            do throws(Errno) {
                _ = try disk.status(at: descriptor, newName.cString)
            } catch {
                guard error == .noSuchFileOrDirectory else { throw error }
                return try disk.rename(from: descriptor, name.cString, to: descriptor, newName.cString)
            }
            throw .fileExists
        }
    }

    private func turnLink(
        _ name: StoredName, _ status: stat, _ place: TreePlace, in directory: TurnedDirectory
    ) throws(VaultError) {
        let object = try system { () throws(Errno) in
            try disk.open(at: directory.descriptor, name.cString, flags: Disk.pathOnly | O_NOFOLLOW)
        }
        defer { disk.close(object) }
        let text = try vault.linkText(at: directory.descriptor, name)
        let isOverflowing = LinkCodec.parseOverflow(text) != nil
        let sealed = isOverflowing ? nil : Base64URL.decode(text)
        if isOverflowing || sealed?.first == vault.ring.newest {
            return try renewAttributes(of: object, status.st_mode, place)
        }
        if status.st_nlink > 1 && !isLooking {
            groups[NodeNumber(status), default: []].append(place)
            return
        }
        let making = ReservedName.making(random: DirectoryID.random().bytes)
        directory.isTouched = true
        try makeTwin(ofLink: object, name, status, in: directory.descriptor, making, in: directory.descriptor)
        do throws(Errno) {
            try disk.rename(from: directory.descriptor, making.cString, to: directory.descriptor, name.cString)
        } catch {
            discard(making, in: directory.descriptor)
            throw .system(error)
        }
        tell { $0.names += 1 }
    }

    /// Makes a link that says the same under the newest key. Where this throws, nothing is left.
    func makeTwin(
        ofLink object: Int32, _ name: StoredName, _ status: stat, in directory: Int32, _ newName: StoredName,
        in newDirectory: Int32
    ) throws(VaultError) {
        if isLooking { throw .damaged(Damage(.link)) }
        let target = try vault.readLink(name, in: directory)
        let text = StoredName(Base64URL.encode(try vault.seal(target)))
        try system { () throws(Errno) in
            try disk.makeLink(at: newDirectory, newName.cString, target: text.cString)
        }
        do throws(VaultError) {
            let new = try system { () throws(Errno) in
                try disk.open(at: newDirectory, newName.cString, flags: Disk.pathOnly | O_NOFOLLOW)
            }
            defer { disk.close(new) }
            try giveOwner(of: status, to: new)
            try vault.copyAttributes(from: object, to: new, mode: status.st_mode, owner: AttributeCodec.noOwner)
            try system { () throws(Errno) in
                try disk.setTimes(new, access: status.st_atim, modification: status.st_mtim)
            }
        } catch {
            discard(newName, in: newDirectory)
            throw error
        }
    }

    private func turnNode(
        _ name: StoredName, _ status: stat, _ place: TreePlace, in directory: TurnedDirectory
    ) throws(VaultError) {
        let object = try system { () throws(Errno) in
            try disk.open(at: directory.descriptor, name.cString, flags: Disk.pathOnly | O_NOFOLLOW)
        }
        defer { disk.close(object) }
        try renewAttributes(of: object, status.st_mode, place)
    }

    /// Seals an object's attributes again, in place. Old and new have to fit beside each other for a moment; where they do not, that is this object's problem and no full disk.
    func renewAttributes(of object: Int32, _ mode: mode_t, _ place: TreePlace) throws(VaultError) {
        do throws(VaultError) {
            let count = try vault.renewAttributes(of: object, mode: mode) { AttributeCodec.noOwner }
            tell { $0.names += count }
        } catch {
            guard error == .system(.noSpace) else { throw error }
            throw .damaged(Damage(.attributeRoom))
        }
    }

    /// The owner and group that another object has.
    func giveOwner(of status: stat, to descriptor: Int32) throws(VaultError) {
        try system { () throws(Errno) in
            let now = try disk.status(descriptor)
            if now.st_uid != status.st_uid || now.st_gid != status.st_gid {
                try disk.setOwner(descriptor, user: status.st_uid, group: status.st_gid)
            }
        }
    }
}

extension EncodedName {
    /// Whether this is a long name with this tag.
    func isNamed(by tag: [UInt8]) -> Bool {
        !companions.isEmpty && entry.bytes.suffix(22) == Base64URL.encode(tag)[...]
    }
}
