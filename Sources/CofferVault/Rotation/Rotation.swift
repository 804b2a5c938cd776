import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Seals everything in a vault again that is not sealed under its newest key.
///
/// Nobody else may have the vault open for writing. Between any two calls to the system everything can be read by whoever has all of the vault's keys, and what was done
/// need not be done again, so that it may stop at any point and go on later. Entries keep the ids that their names are bound to, files their ids.
public final class Rotation {
    /// Files that wait for one sync, and their bytes.
    private static let batchLimit = 64
    private static let batchBytes = 64 << 20

    let vault: Vault
    let disk: Disk
    let scratch: Scratch
    let pending: RotationDirectory
    /// How far it is.
    public internal(set) var totals = RotationTotals()
    private let onProblem: (TreePlace, VaultError) -> Void
    private let onProgress: (RotationTotals) -> Void
    private var batch: [Replacement] = []
    private var batchCount = 0
    private var isStopped = false
    /// The file system that the vault is on.
    let device: UInt64
    /// Whatever would be changed is a problem.
    private(set) var isLooking = false
    /// Files and links of several names, by device and inode, and where they were met.
    var groups: [NodeNumber: [TreePlace]] = [:]

    /// A file behind whatever names.
    struct NodeNumber: Hashable {
        let device: UInt64
        let inode: UInt64

        init(_ status: stat) {
            device = UInt64(status.st_dev)
            inode = UInt64(status.st_ino)
        }
    }

    /// A rotation of `vault`, whose ring holds all of its keys. `onProblem` gets what could not be sealed again, and why.
    public init(
        _ vault: Vault, onProblem: @escaping (TreePlace, VaultError) -> Void,
        onProgress: @escaping (RotationTotals) -> Void
    ) throws(VaultError) {
        self.vault = vault
        disk = vault.disk
        do throws(CryptoError) {
            scratch = try Scratch()
        } catch {
            throw .cryptography
        }
        device = UInt64(try system { () throws(Errno) in try vault.disk.status(vault.rootDescriptor) }.st_dev)
        pending = RotationDirectory(disk: vault.disk, root: vault.rootDescriptor, ring: vault.ring)
        self.onProblem = onProblem
        self.onProgress = onProgress
    }

    /// Does all that is left. Afterwards nothing is sealed under an older key, unless `totals.problems` is not 0. Throws what keeps it from going on, such as a
    /// full disk.
    public func run() throws(VaultError) {
        try pending.settle()
        try count()
        do throws(VaultError) {
            try turnTree()
            try flush()
        } catch {
            abandon(batch)
            batch = []
            throw error
        }
        try turnGroups()
        try pending.remove()
        try system { () throws(Errno) in try disk.syncFileSystem(vault.rootDescriptor) }
        onProgress(totals)
    }

    /// Looks through everything and changes nothing: for a vault whose ring holds the newest key only, before the others are given up. What that key does not open is a problem.
    /// `last` is what the rotation before came to: how much there is.
    public func look(after last: RotationTotals) throws(VaultError) {
        isLooking = true
        totals.entryCount = last.entryCount
        totals.byteCount = last.byteCount
        try turnTree()
        try pending.remove()
        onProgress(totals)
    }

    // MARK: Problems and progress

    /// Runs what concerns one entry. What stops everything is thrown on.
    func attempt(_ place: TreePlace, _ body: () throws(VaultError) -> Void) throws(VaultError) {
        do throws(VaultError) {
            try body()
        } catch {
            try take(error, at: place)
        }
    }

    func take(_ error: VaultError, at place: TreePlace) throws(VaultError) {
        if isStopped { throw error }
        switch error {
        case .system(.noSpace), .system(.diskQuotaExceeded), .system(.readOnlyFileSystem), .cryptography: throw error
        case .system, .damaged: break
        }
        totals.problems += 1
        onProblem(place, error)
    }

    func tell(_ change: (inout RotationTotals) -> Void) {
        change(&totals)
        onProgress(totals)
    }

    /// How far the file is that is being written.
    func tellWithin(_ count: Int) {
        var now = totals
        now.bytes += count
        onProgress(now)
    }

    // MARK: Files that wait for a sync

    /// Takes over a file that was written anew.
    func enqueue(_ replacement: Replacement) throws(VaultError) {
        batch.append(replacement)
        batchCount += replacement.storedSize
        if batch.count >= Self.batchLimit || batchCount >= Self.batchBytes { try flush() }
    }

    /// Whether files wait for a sync: when they have their places, there is room again for as much.
    var isHoldingRoom: Bool { !batch.isEmpty }

    private func abandon(_ replacements: some Sequence<Replacement>) {
        for replacement in replacements {
            discard(replacement.temporary, in: replacement.directory.descriptor)
            restoreTimes(replacement.directory)
            disk.close(replacement.descriptor)
        }
    }

    /// Puts the files that wait in their places: when they are on the disk, and read back from there.
    func flush() throws(VaultError) {
        let replacements = batch
        batch = []
        batchCount = 0
        guard !replacements.isEmpty else { return }
        var done = 0
        defer { for replacement in replacements[..<done] { disk.close(replacement.descriptor) } }
        do throws(VaultError) {
            try sync(replacements)
            for replacement in replacements {
                try verify(replacement.descriptor, storedSize: replacement.storedSize, replacement.header)
            }
            for replacement in replacements {
                let directory = replacement.directory
                guard try isUnchanged(replacement) else {
                    discard(replacement.temporary, in: directory.descriptor)
                    try take(.damaged(Damage(.changed)), at: replacement.place)
                    done += 1
                    continue
                }
                try system { () throws(Errno) in
                    try disk.rename(
                        from: directory.descriptor, replacement.temporary.cString, to: directory.descriptor,
                        replacement.name.cString)
                }
                directory.isTouched = true
                done += 1
                tell { $0.files += 1 }
            }
        } catch {
            abandon(replacements[done...])
            restoreTimes(replacements[..<done])
            // It is no matter of the entry that happens to be looked at: the disk does not keep what is written to it.
            isStopped = true
            throw error
        }
        restoreTimes(replacements[...])
    }

    /// Where a sync of the file system does what it says, those of the files have nothing left to do.
    private func sync(_ replacements: [Replacement]) throws(VaultError) {
        try system { () throws(Errno) in
            if replacements.count > 1 { try disk.syncFileSystem(vault.rootDescriptor) }
            for replacement in replacements { try disk.sync(replacement.descriptor) }
        }
    }

    /// Reads back what was written, from the disk where that can be had. Throws damage where it is not that.
    func verify(_ file: Int32, storedSize: Int, _ header: FileHeader) throws(VaultError) {
        disk.forgetCached(file)
        let (size, raw) = try system { () throws(Errno) in
            (Int(try disk.status(file).st_size), try disk.readBytes(file, limit: FileHeader.byteCount))
        }
        guard size == storedSize, raw == header.bytes else { throw .damaged(Damage(.header)) }
        var check = FileCheck(disk: disk, ring: vault.ring, scratch: scratch)
        if let bad = try check.run(file, storedSize: storedSize, contents: true).first {
            throw .damaged(Damage(bad.kind, block: bad.blocks.lowerBound))
        }
    }

    /// Whether the file is what was read: a copy tool may have put another one in its place.
    private func isUnchanged(_ replacement: Replacement) throws(VaultError) -> Bool {
        let source = replacement.source
        let now: stat
        do throws(Errno) {
            now = try disk.status(at: replacement.directory.descriptor, replacement.name.cString)
        } catch {
            if error == .noSuchFileOrDirectory { return false }
            throw .system(error)
        }
        func nanoseconds(_ time: timespec) -> (Int, Int) { (time.tv_sec, time.tv_nsec) }
        return NodeNumber(now) == NodeNumber(source) && now.st_size == source.st_size
            && nanoseconds(now.st_mtim) == nanoseconds(source.st_mtim)
            && nanoseconds(now.st_ctim) == nanoseconds(source.st_ctim)
    }

    private func restoreTimes(_ replacements: ArraySlice<Replacement>) {
        for replacement in replacements { restoreTimes(replacement.directory) }
    }

    /// A directory looks as it did before its entries were exchanged for others.
    func restoreTimes(_ directory: TurnedDirectory) {
        guard directory.isTouched else { return }
        do throws(Errno) {
            try disk.setTimes(
                directory.descriptor, access: directory.before.st_atim, modification: directory.before.st_mtim)
            directory.isTouched = false
            // Not every file system does at a sync of the whole what it says.
            if !vault.keepsEntryOrder { try disk.sync(directory.descriptor) }
        } catch {
            // Somebody else's directory: it shows that something was changed in it.
        }
    }

    /// Removes a file that did not get its name.
    func discard(_ name: StoredName, in directory: Int32) {
        do throws(Errno) {
            try disk.remove(at: directory, name.cString)
        } catch {
            // The next run does.
        }
    }
}
