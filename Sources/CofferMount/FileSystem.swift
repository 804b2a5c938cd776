import CofferDisk
import CofferFormat
import CofferSeal
import CofferVault
import Glibc
import Synchronization
import SystemPackage

/// A mounted vault: inodes and handles over ``Vault``. The requests are in extensions by concern; they speak in inodes and bytes, and know libfuse only by
/// its structs.
///
/// Locks, in the order they are taken: `names` (shared by all that look at or change entries, exclusive for renames), an inode's `opened`, a file's block
/// ranges, then the leaf locks of the table, the descriptors and an inode's identity.
final class FileSystem: @unchecked Sendable {
    let vault: Vault
    let disk: Disk
    let table: InodeTable
    let descriptors: DirectoryDescriptors
    let log: MountLog
    let names = ReadersWriterLock()
    /// New objects are given to the caller, which takes a privileged driver.
    let givesAway: Bool
    /// Whether nobody else writes to the vault, so that what the kernel and the driver remember of it stays true.
    var keepsCache: Bool { vault.company == .alone }
    /// What the change of names waits for where others change names too.
    let nameLock: NameLock?
    /// Seconds that the kernel may believe names and attributes.
    let timeout: Double
    /// What the kernel is told things through. Set once, before the first request.
    var session: OpaquePointer?
    /// Requests so far: tells whether anybody is there.
    let requests = Atomic<Int>(0)
    /// Requests that are being answered.
    let underWay = Atomic<Int>(0)
    /// What programs read keeps its time of access.
    let leavesFileAccessTimes: Bool
    let leavesDirectoryAccessTimes: Bool
    /// Answers what the serving threads cannot.
    let seeker = Seeker()
    /// Completes what libfuse tells the kernel.
    let handshake = Handshake()
    /// What writes are under way.
    let writeOrder: WriteOrder
    /// How many inodes may have open contents at once.
    let openLimit: Int
    /// Inodes with open contents. A leaf lock.
    let openInodes = Mutex<[ObjectIdentifier: Inode]>([:])
    /// What could be neither made nor taken away again. A leaf lock.
    let undone = Mutex<[Undone]>([])
    /// Listings that are under way.
    let listings = Listings()
    /// What everything has to be as; nil where that is nobody's to say.
    let sealed: SealGuard?
    /// Whether there is that: asked for each request, without counting references.
    let isSealed: Bool
    /// The kernel need not tell who opens a directory. Set before the first request.
    let needsNoOpening = Atomic<Bool>(false)
    /// Open files and directories, of those that the kernel tells of.
    let handles = Atomic<Int>(0)

    init(
        vault: Vault, options: MountOptions, sealed: SealGuard? = nil, log: MountLog, descriptorLimit: Int
    ) throws(VaultError) {
        self.sealed = sealed
        isSealed = sealed != nil
        leavesFileAccessTimes = options.leavesFileAccessTimes
        leavesDirectoryAccessTimes = options.leavesDirectoryAccessTimes
        self.vault = vault
        writeOrder = WriteOrder(threadCount: options.threadCount)
        disk = vault.disk
        self.log = log
        // Half a second, so that what others do is seen within one. Where a mount ends when nobody asks for anything, whoever uses it must ask in time.
        let most = options.idleSeconds.map { min(60, Double($0) / 2) } ?? 60
        timeout = vault.company == .alone ? most : min(most, 0.5)
        nameLock = vault.company == .together ? NameLock(disk: vault.disk, root: vault.rootDescriptor) : nil
        givesAway = geteuid() == 0
        let status: stat
        do throws(Errno) {
            status = try disk.status(vault.rootDescriptor)
        } catch {
            throw .system(error)
        }
        table = InodeTable(disk: disk, rootStatus: status)
        // Most descriptors are for open files; what directories get is plenty for a walk. A quarter of the rest is kept back, so that there
        // is something for listing and removing where programs hold as many files open as there may be.
        let directoryLimit = max(16, min(512, descriptorLimit / 4))
        openLimit = max(16, (descriptorLimit - directoryLimit) * 3 / 4)
        descriptors = DirectoryDescriptors(
            disk: disk, table: table, rootDescriptor: vault.rootDescriptor, limit: directoryLimit)
        table.root.directory?.derived.withLock { $0 = vault.rootID }
    }

    // MARK: Reaching backing objects. The caller holds `names`.

    /// What a directory answers to, read from disk the first time.
    func identity(
        of directory: Inode, _ descriptor: Int32, forReading: Bool = false
    ) throws(VaultError) -> DirectoryIdentity {
        guard keepsCache else { return try presentIdentity(of: directory, descriptor, forReading: forReading) }
        guard let state = directory.directory else { throw .system(.notDirectory) }
        if let known = state.identity.withLock({ $0 }) { return known }
        guard let derived = state.derived.withLock({ $0 }) else { throw .system(.staleNFSFileHandle) }
        let identity = try vault.identity(of: descriptor, derived: derived, inMarked: try isInMarked(directory))
        // Who was faster is right: what is not recorded yet must not be anything else for another.
        return state.identity.withLock { known in
            if let known { return known }
            known = identity
            return identity
        }
    }

    private func isInMarked(_ directory: Inode) throws(VaultError) -> Bool {
        guard let parent = table.links(of: directory).first?.parent, let state = parent.directory else { return false }
        if let known = state.identity.withLock({ $0 }) { return known.isMarked }
        // Its own record says that, whatever is above it.
        guard let derived = state.derived.withLock({ $0 }) else { return false }
        return try descriptors.with(parent) { descriptor throws(VaultError) in
            try vault.identity(of: descriptor, derived: derived).isMarked
        }
    }

    /// As above where others rename directories: only a place where the directory is now says what it answers to. A name made under what an old place
    /// derives would never verify. For reading, what was known last will do: what a directory answers to once it answers to wherever it is moved.
    private func presentIdentity(
        of directory: Inode, _ descriptor: Int32, forReading: Bool
    ) throws(VaultError) -> DirectoryIdentity {
        guard let state = directory.directory else { throw .system(.notDirectory) }
        var derived: DirectoryID?
        if directory === table.root {
            derived = vault.rootID
        } else if let link = table.links(of: directory).first, let place = link.derived,
            let parent = try descriptors.acquireIfThere(link.parent)
        {
            defer { descriptors.release(link.parent) }
            if let status = try statusIfThere(parent, link.stored), status.st_ino == directory.number,
                status.st_dev == directory.device
            {
                derived = place
            }
        }
        if let derived {
            let identity = try vault.identity(of: descriptor, derived: derived)
            state.identity.withLock { $0 = identity }
            return identity
        }
        // The kernel looks the path up once more when it hears this.
        guard forReading, let known = state.identity.withLock({ $0 }) else { throw .system(.staleNFSFileHandle) }
        return known
    }

    private func statusIfThere(_ parent: Int32, _ stored: StoredName) throws(VaultError) -> stat? {
        do throws(Errno) {
            return try disk.status(at: parent, stored.cString)
        } catch {
            if error == .noSuchFileOrDirectory { return nil }
            throw .system(error)
        }
    }

    /// Lends an open directory.
    func withDirectory<Result>(
        _ directory: Inode, forReading: Bool = false, _ body: (VaultDirectory) throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        try descriptors.with(directory) { descriptor throws(VaultError) in
            let identity = try identity(of: directory, descriptor, forReading: forReading)
            defer { if identity.isUnrecorded { noteRecorded(directory, descriptor, identity) } }
            return try body(VaultDirectory(descriptor: descriptor, identity: identity))
        }
    }

    /// Where something was made in a directory that had no record, it has one now.
    private func noteRecorded(_ directory: Inode, _ descriptor: Int32, _ identity: DirectoryIdentity) {
        do throws(VaultError) {
            let present = try vault.identity(of: descriptor, derived: identity.derived)
            directory.directory?.identity.withLock { if $0 == identity, present.pins == identity.pins { $0 = present } }
        } catch {
            // It is written once more with the next entry.
        }
    }

    /// Lends a parent's descriptor and the stored name by which an inode is there, checked to be still the same object.
    func withName<Result>(
        _ inode: Inode, _ body: (Int32, StoredName, stat) throws(VaultError) -> Result
    ) throws(VaultError) -> Result? {
        for link in table.links(of: inode) {
            guard let parent = try descriptors.acquireIfThere(link.parent) else { continue }
            defer { descriptors.release(link.parent) }
            guard let status = try statusIfThere(parent, link.stored) else { continue }
            if status.st_ino == inode.number && status.st_dev == inode.device {
                return try body(parent, link.stored, status)
            }
        }
        return nil
    }

    /// Lends a descriptor of whatever an inode is, good for attributes but not always for contents.
    func withObject<Result>(
        _ inode: Inode, _ body: (Int32) throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        if inode.isDirectory { return try descriptors.with(inode, body) }
        if let contents = openContents(of: inode) { return try body(contents.descriptor) }
        let orphan = table.orphan(of: inode)
        if orphan >= 0 { return try body(orphan) }
        let result = try withName(inode) { parent, stored, _ throws(VaultError) in
            let descriptor: Int32
            do throws(Errno) {
                descriptor = try disk.open(
                    at: parent, stored.cString, flags: DirectoryDescriptors.pathOnly | O_NOFOLLOW)
            } catch {
                throw .system(error)
            }
            defer { disk.close(descriptor) }
            return try body(descriptor)
        }
        guard let result else { throw .system(.staleNFSFileHandle) }
        return result
    }

    /// The contents of a file that is open now.
    func openContents(of inode: Inode) -> FileContents? {
        inode.opened.withLock { $0.contents }
    }

    /// The size of a file that is open now, where the driver knows better than the backing's attributes.
    func openSize(of inode: Inode) -> Int? {
        keepsCache ? openContents(of: inode)?.size : nil
    }

    /// Runs what makes, removes or renames entries; renames have the name space for themselves. Where others change names too, nobody else does meanwhile.
    func changingNames<Result>(
        alone: Bool = false, _ body: () throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        defer { listings.noteChange() }
        guard let nameLock else { return try alone ? names.write(body) : names.read(body) }
        return try names.write { () throws(VaultError) in try nameLock.with(body) }
    }

    // MARK: Messages

    /// Turns an error into what the kernel gets, and tells a person of damage.
    func report(_ error: VaultError, _ inode: Inode, name: [UInt8]? = nil) -> Int32 {
        if case .damaged(let damage) = error {
            let (plain, stored) = paths(of: inode, name)
            log.damage(damage, plain: plain, stored: stored)
        }
        return error.errno.rawValue
    }

    /// An inode's plaintext path from the root of the mount, and its stored path from the root of the vault.
    func paths(of inode: Inode, _ name: [UInt8]? = nil) -> (plain: String, stored: String) {
        var plain: [String] = []
        var stored: [String] = []
        if let name { plain.append(String(decoding: name, as: UTF8.self)) }
        var current = inode
        while current !== table.root, let link = table.links(of: current).first {
            plain.append(String(decoding: link.name, as: UTF8.self))
            stored.append(link.stored.description)
            current = link.parent
        }
        if current !== table.root { plain.append("(removed)") }
        return (plain.reversed().joined(separator: "/"), stored.reversed().joined(separator: "/"))
    }
}
