import CofferFormat
import Glibc
import SystemPackage

/// Symbolic links.
extension Vault {
    /// Makes a symbolic link to `target` (1 to 4095 bytes).
    public func makeLink(
        _ name: [UInt8], in directory: VaultDirectory, target: [UInt8]
    ) throws(VaultError) -> EncodedName {
        guard !target.isEmpty else { throw .system(.noSuchFileOrDirectory) }
        guard target.count <= LinkCodec.maximumPlainCount else { throw .system(.fileNameTooLong) }
        let stored = try vacantName(name, in: directory).name
        let text = StoredName(Base64URL.encode(try seal(target)))
        do throws(VaultError) {
            // PATH_MAX counts the NUL; some file systems take less.
            guard text.count < 4096 else { throw .system(.fileNameTooLong) }
            try withCompanions(of: stored, in: directory) { () throws(Errno) in
                try disk.makeLink(at: directory.descriptor, stored.entry.cString, target: text.cString)
            }
        } catch {
            guard error == .system(.fileNameTooLong) else { throw error }
            try makeOverflowingLink(stored, in: directory, target: target)
        }
        return stored
    }

    /// The target of a symbolic link.
    public func readLink(_ entry: StoredName, in directory: Int32) throws(VaultError) -> [UInt8] {
        let text = try linkText(at: directory, entry)
        do throws(FormatError) {
            guard let overflow = LinkCodec.parseOverflow(text) else {
                guard let sealed = Base64URL.decode(text) else { throw .malformed }
                return try links.open(sealed)
            }
            let sealed: [UInt8]
            do throws(VaultError) {
                sealed = try readOverflow(overflow.file, in: directory)
            } catch {
                throw .notAuthentic
            }
            return try links.open(sealed, companion: overflow.companion)
        } catch {
            throw .damaged(Damage(.link))
        }
    }

    /// A link's stored text.
    func linkText(at directory: Int32, _ name: StoredName) throws(VaultError) -> [UInt8] {
        try system { () throws(Errno) in try disk.linkBytes(at: directory, name.cString) }
    }

    /// The overflow file of a link, where it has one.
    func overflowFile(of entry: VaultEntry, in directory: VaultDirectory) throws(VaultError) -> StoredName? {
        guard entry.isLink, entry.status.st_size == LinkCodec.overflowTextCount else { return nil }
        return LinkCodec.parseOverflow(try linkText(at: directory.descriptor, entry.name.entry))?.file
    }

    /// Gives a link's overflow file a second name in the directory that the link goes to. Returns it where there is one.
    @discardableResult
    func carryOverflow(
        of entry: VaultEntry, from source: VaultDirectory, to target: VaultDirectory
    ) throws(VaultError) -> StoredName? {
        guard let file = try overflowFile(of: entry, in: source) else { return nil }
        if source.descriptor != target.descriptor {
            do throws(Errno) {
                try disk.hardLink(from: source.descriptor, file.cString, to: target.descriptor, file.cString)
            } catch {
                if error != .fileExists { throw .system(error) }
            }
            // A link on the disk without it would be one that leads nowhere.
            if !keepsEntryOrder {
                try system { () throws(Errno) in
                    try syncFile(file, in: target.descriptor)
                    try syncDirectory(target.descriptor)
                }
            }
        }
        return file
    }

    private func makeOverflowingLink(
        _ stored: EncodedName, in directory: VaultDirectory, target: [UInt8]
    ) throws(VaultError) {
        let companion = DirectoryID.random().bytes
        let (text, file) = LinkCodec.overflow(companion: companion, plainCount: target.count)
        let sealed = try seal(target, companion: companion)
        try system { () throws(Errno) in
            let descriptor = try disk.open(
                at: directory.descriptor, file.cString, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o644)
            defer { disk.close(descriptor) }
            try disk.write(descriptor, bytes: sealed)
            try disk.sync(descriptor)
            if !keepsEntryOrder { try syncDirectory(directory.descriptor) }
        }
        do throws(VaultError) {
            try withCompanions(of: stored, in: directory) { () throws(Errno) in
                try disk.makeLink(at: directory.descriptor, stored.entry.cString, target: text.cString)
            }
        } catch {
            try removeQuietly(file, in: directory)
            throw error
        }
    }

    func readOverflow(_ file: StoredName, in directory: Int32) throws(VaultError) -> [UInt8] {
        try system { () throws(Errno) in
            let descriptor = try disk.open(at: directory, file.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            defer { disk.close(descriptor) }
            return try disk.readBytes(descriptor, limit: 8192)
        }
    }

    func seal(_ target: [UInt8], companion: [UInt8] = []) throws(VaultError) -> [UInt8] {
        do throws(FormatError) {
            return try links.seal(target, companion: companion)
        } catch {
            throw .cryptography
        }
    }
}
