import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// A ciphertext directory that is open: a descriptor, and the ids its entries may be bound to. The descriptor is the caller's.
public struct VaultDirectory: Sendable {
    /// An `O_PATH` or ordinary descriptor of the ciphertext directory.
    public let descriptor: Int32
    /// What the directory answers to.
    public let identity: DirectoryIdentity

    /// A directory from its parts.
    public init(descriptor: Int32, identity: DirectoryIdentity) {
        self.descriptor = descriptor
        self.identity = identity
    }
}

/// An entry that was found: how it is stored, and what it is.
public struct VaultEntry: Sendable {
    /// The name in plaintext.
    public let plainName: [UInt8]
    /// The stored name and its companions.
    public let name: EncodedName
    /// The id that the name verified under: what a directory's own id derives from.
    public let id: DirectoryID
    /// The backing object's attributes, as they are.
    public let status: stat

    /// Whether it is a directory.
    public var isDirectory: Bool { status.st_mode & S_IFMT == S_IFDIR }
    /// Whether it is a symbolic link.
    public var isLink: Bool { status.st_mode & S_IFMT == S_IFLNK }
    /// Whether it is a regular file.
    public var isFile: Bool { status.st_mode & S_IFMT == S_IFREG }
}

/// An unlocked vault over a directory, in plaintext terms.
///
/// Holds no state that changes: what is open, and which names lead to it, is the caller's to know. Names are plaintext bytes without NUL. Calls that
/// change directory entries are safe to make from several threads as long as no two change the same name, or rename a directory that another call works in;
/// the mount keeps that order.
public final class Vault: Sendable {
    /// The room for system calls.
    public let disk: Disk
    /// The vault's keys.
    public let ring: KeyRing
    /// What new contents are sealed with.
    public let cipher: CipherSuite
    /// Who else may change the vault's files meanwhile.
    public let company: Company
    /// What makes power cuts harmless; nil where nothing is written, or where others write too.
    public let log: IntentLog?
    /// The root directory; its descriptor is closed with the vault.
    public let rootDescriptor: Int32
    /// The root's id.
    public let rootID: DirectoryID

    /// Whether entries come to the disk in the order in which they were made.
    let keepsEntryOrder: Bool
    let names: NameCodec
    let records: DirectoryRecords
    let links: LinkCodec
    let attributes: AttributeCodec

    /// A vault over `rootDescriptor`, which it owns from here on. `nameMax` is 64 to 255.
    public init(
        disk: Disk, rootDescriptor: Int32, ring: KeyRing, vaultID: [UInt8], cipher: CipherSuite, nameMax: Int,
        company: Company = .alone, log: IntentLog? = nil
    ) {
        self.log = log
        self.company = company
        self.disk = disk
        self.rootDescriptor = rootDescriptor
        self.ring = ring
        self.cipher = cipher
        rootID = DirectoryID.root(vaultID: vaultID)
        keepsEntryOrder = disk.keepsEntryOrder(rootDescriptor)
        names = NameCodec(ring: ring, limit: nameMax)
        records = DirectoryRecords(ring: ring)
        links = LinkCodec(ring: ring)
        attributes = AttributeCodec(ring: ring)
    }

    deinit {
        disk.close(rootDescriptor)
    }

    /// The root directory, with what its records say.
    public func root() throws(VaultError) -> VaultDirectory {
        VaultDirectory(
            descriptor: rootDescriptor, identity: try identity(of: rootDescriptor, derived: rootID))
    }

    // MARK: Finding

    /// Finds an entry. `ENOENT`, `ENAMETOOLONG`, `EINVAL` as the kernel would.
    public func find(_ name: [UInt8], in directory: VaultDirectory) throws(VaultError) -> VaultEntry {
        guard let entry = try lookUp(name, in: directory) else { throw .system(.noSuchFileOrDirectory) }
        return entry
    }

    /// As ``find(_:in:)``, with nil for an entry that does not exist.
    public func lookUp(_ name: [UInt8], in directory: VaultDirectory) throws(VaultError) -> VaultEntry? {
        for id in directory.identity.accepted {
            for encoding in try storableEncodings(of: name, in: id) {
                do throws(Errno) {
                    let status = try disk.status(at: directory.descriptor, encoding.entry.cString)
                    return VaultEntry(plainName: name, name: encoding, id: id, status: status)
                } catch {
                    if error != .noSuchFileOrDirectory { throw .system(error) }
                }
            }
        }
        return nil
    }

    /// The plaintext of a sealed name and the id that it verified under; nil where it is of none of these directories.
    package func open(_ sealed: [UInt8], in ids: [DirectoryID]) -> (name: [UInt8], id: DirectoryID)? {
        names.open(sealed, in: ids)
    }

    /// All stored names that an entry of this name might have in a directory.
    package func storedNames(of name: [UInt8], in directory: VaultDirectory) -> [StoredName] {
        directory.identity.accepted.flatMap { id in
            do throws(FormatError) {
                return try names.encodings(of: name, in: id).map(\.entry)
            } catch {
                // No entry can have it.
                return []
            }
        }
    }

    /// The stored form that a new entry gets, and the id it is bound to.
    public func newName(
        _ name: [UInt8], in directory: VaultDirectory
    ) throws(VaultError) -> (name: EncodedName, id: DirectoryID) {
        let id = directory.identity.creating
        guard let first = try storableEncodings(of: name, in: id).first else { throw .cryptography }
        return (first, id)
    }

    /// As ``newName(_:in:)``, with `EEXIST` for a name that is taken under another id or epoch. Where a name has one encoding only, making the entry tells.
    func vacantName(
        _ name: [UInt8], in directory: VaultDirectory
    ) throws(VaultError) -> (name: EncodedName, id: DirectoryID) {
        if names.epochCount > 1 || directory.identity.accepted.count > 1, try lookUp(name, in: directory) != nil {
            throw .system(.fileExists)
        }
        return try newName(name, in: directory)
    }

    /// The stored forms of a name that may be an entry's.
    func encodings(of name: [UInt8], in id: DirectoryID) -> [EncodedName] {
        do throws(FormatError) {
            return try names.encodings(of: name, in: id)
        } catch {
            return []
        }
    }

    /// What a sealed name decrypts to, whatever directory it is of; nil where that is no name. Not to be believed: only people can say whether it is right.
    func unverifiedName(_ sealed: [UInt8]) -> [UInt8]? { names.unverified(sealed) }

    private func storableEncodings(of name: [UInt8], in id: DirectoryID) throws(VaultError) -> [EncodedName] {
        do throws(FormatError) {
            return try names.encodings(of: name, in: id)
        } catch {
            throw .system(error == .tooLong ? .fileNameTooLong : .invalidArgument)
        }
    }

    // MARK: Attributes in plaintext terms

    /// The attributes that a program sees: the backing object's, with the size in plaintext. `name` is the entry in `directory`, for link texts.
    public func presented(
        _ status: stat, at directory: Int32, _ name: StoredName
    ) throws(VaultError) -> stat {
        var result = status
        switch status.st_mode & S_IFMT {
        case S_IFREG:
            result.st_size = BlockGeometry.plausibleSize(cipherSize: status.st_size)
        case S_IFLNK:
            result.st_size = LinkCodec.plainCount(textCount: status.st_size)
            if status.st_size == LinkCodec.overflowTextCount,
                let overflow = LinkCodec.parseOverflow(try linkText(at: directory, name))
            {
                result.st_size = overflow.plainCount
            }
        default: break
        }
        result.st_blksize = BlockGeometry.plainCount
        return result
    }

    /// Attributes of the file system behind the vault.
    public func fileSystemStatus() throws(VaultError) -> statvfs {
        var status = try system { () throws(Errno) in try disk.fileSystemStatus(rootDescriptor) }
        // What programs may still write is less than what the disk has room for.
        status.f_bavail -= status.f_bavail / UInt(BlockGeometry.storedCount / BlockGeometry.overhead)
        status.f_namemax = UInt(NameCodec.maximumPlainCount)
        return status
    }

    // MARK: Contents

    /// The id of the file behind a descriptor that can be read through, from its header.
    public func fileID(of descriptor: Int32) throws(VaultError) -> [UInt8] {
        let raw = try system { () throws(Errno) in
            try disk.readBytes(descriptor, limit: FileHeader.byteCount)
        }
        do throws(FormatError) {
            return try FileHeader(parsing: raw).fileID
        } catch {
            throw .damaged(Damage(.header))
        }
    }

    /// Opens the contents behind a descriptor, which the result owns from here on, also where this throws. `place` tells the intent log where the file is: stored
    /// names from the root, nil where it has none.
    public func contents(
        of descriptor: Int32, isWritable: Bool, emptying: Bool = false,
        place: @escaping @Sendable () -> [StoredName]?, _ scratch: Scratch
    ) throws(VaultError) -> FileContents {
        try FileContents(
            disk: disk, ring: ring, cipher: cipher, descriptor: descriptor, isWritable: isWritable, emptying: emptying,
            company: company, log: log, place: place, scratch: scratch)
    }

    /// A new, empty file behind a descriptor, which the result owns from here on, also where this throws. Where there is an intent log, `making` is its leave, and
    /// still held; ``FileContents/follow(_:)`` has to tell where the file is before anything is done with it.
    public func newContents(
        of descriptor: Int32, making: IntentLog.Making?, _ scratch: Scratch
    ) throws(VaultError) -> FileContents {
        try FileContents(
            creating: descriptor, disk: disk, ring: ring, cipher: cipher, company: company, log: log, making: making,
            place: { nil }, scratch: scratch)
    }
}
