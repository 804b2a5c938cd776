import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Renaming. What has to be on disk before an entry moves is put there first, so that at every moment the entry, and all in it, can be read where it is.
extension Vault {
    /// What a rename changed besides the entries.
    public struct RenameOutcome: Sendable {
        /// The moved entry's stored name at the new place.
        public var newName: EncodedName
        /// The stored name at the old place of what came there in an exchange.
        public var oldName: EncodedName
        /// The identity of the moved entry, where it is a directory.
        public var moved: DirectoryIdentity?
        /// The identity of what came the other way in an exchange, where it is a directory.
        public var exchanged: DirectoryIdentity?
        /// The directory that was left is marked now.
        public var isSourceMarked: Bool
        /// The target directory is marked now (something left it in an exchange).
        public var isTargetMarked: Bool
        /// Both names were the same file: nothing was done, as POSIX wants it.
        public var isNothing = false
    }

    /// Renames an entry. Errors as renameat2(2).
    public func rename(
        _ name: [UInt8], in source: VaultDirectory, to newName: [UInt8], in target: VaultDirectory,
        mode: Disk.RenameMode
    ) throws(VaultError) -> RenameOutcome {
        let old = try find(name, in: source)
        let existing = try lookUp(newName, in: target)
        if mode == .noReplace && existing != nil { throw .system(.fileExists) }
        if mode == .exchange && existing == nil { throw .system(.noSuchFileOrDirectory) }
        let fresh = try self.newName(newName, in: target)
        let new = existing.map { ($0.name, $0.id) } ?? fresh
        var outcome = RenameOutcome(
            newName: new.0, oldName: old.name, isSourceMarked: source.identity.isMarked,
            isTargetMarked: target.identity.isMarked)
        if let existing, existing.status.st_ino == old.status.st_ino, existing.status.st_dev == old.status.st_dev {
            outcome.isNothing = true
            return outcome
        }

        var movedDirectory: Move?
        var exchangedDirectory: Move?
        defer {
            if let movedDirectory { disk.close(movedDirectory.descriptor) }
            if let exchangedDirectory { disk.close(exchangedDirectory.descriptor) }
        }
        if old.isDirectory {
            let move = try prepare(
                old, in: source, from: old.id.child(name), to: new.1.child(newName),
                intoMarked: target.identity.isMarked)
            movedDirectory = move
            outcome.moved = move.identity
            if move.leavesID { outcome.isSourceMarked = try mark(source) }
        }
        if mode == .exchange, let existing, existing.isDirectory {
            let move = try prepare(
                existing, in: target, from: existing.id.child(newName), to: old.id.child(name),
                intoMarked: source.identity.isMarked)
            exchangedDirectory = move
            outcome.exchanged = move.identity
            if move.leavesID { outcome.isTargetMarked = try mark(target) }
        }
        let overflow = try carryOverflow(of: old, from: source, to: target)
        let otherOverflow = try existing.flatMap { entry throws(VaultError) in
            mode == .exchange
                ? try carryOverflow(of: entry, from: target, to: source) : try overflowFile(of: entry, in: target)
        }
        if mode == .replace, let existing, existing.isDirectory { _ = try clearLeftovers(of: existing, in: target) }

        try withCompanions(of: new.0, in: target) { () throws(Errno) in
            try disk.rename(
                from: source.descriptor, old.name.entry.cString, to: target.descriptor, new.0.entry.cString, mode: mode)
        }

        // From here on the rename has happened; what is left over now is harmless where it cannot be removed.
        if mode != .exchange { try removeCompanions(of: old.name, in: source) }
        if let overflow, source.descriptor != target.descriptor { try removeQuietly(overflow, in: source) }
        if let otherOverflow, mode != .exchange || source.descriptor != target.descriptor {
            if mode == .exchange || existing?.status.st_nlink == 1 { try removeQuietly(otherOverflow, in: target) }
        }
        try movedDirectory.map { move throws(VaultError) in try finish(move) }
        try exchangedDirectory.map { move throws(VaultError) in try finish(move) }
        return outcome
    }

    /// A directory on its way.
    private struct Move {
        let descriptor: Int32
        let identity: DirectoryIdentity
        /// It goes on using the id that its old place derives, so the parent must be marked.
        let leavesID: Bool
        let wroteRecords: Bool
    }

    /// Puts records for both places into a directory that is about to move.
    private func prepare(
        _ entry: VaultEntry, in parent: VaultDirectory, from oldPlace: DirectoryID, to newPlace: DirectoryID,
        intoMarked: Bool
    ) throws(VaultError) -> Move {
        let descriptor = try openForRecords(entry, in: parent)
        do throws(VaultError) {
            let before = try identity(of: descriptor, derived: oldPlace)
            var leftovers: [StoredName] = []
            if !intoMarked, try holdsOnlyLeftovers(descriptor, names: &leftovers) {
                // Nothing in it is bound to an id, so it takes the one of its new place.
                let hadRecords = leftovers.contains(ReservedName.directory)
                if hadRecords { try writeRecords([], in: descriptor) }
                return Move(
                    descriptor: descriptor, identity: DirectoryIdentity(derived: newPlace), leavesID: false,
                    wroteRecords: false)
            }
            var pins = before.pins
            if pins.isEmpty {
                pins = [oldPlace]
            } else if !pins.contains(oldPlace), try hasEntries(under: oldPlace, butNot: pins, in: descriptor) {
                pins.append(oldPlace)
            }
            let after = DirectoryIdentity(derived: newPlace, pins: pins, isMarked: before.isMarked)
            try writeRecords([before, after], in: descriptor)
            return Move(
                descriptor: descriptor, identity: after, leavesID: pins.contains(oldPlace), wroteRecords: true)
        } catch {
            disk.close(descriptor)
            throw error
        }
    }

    /// A descriptor that a directory's entries can be listed and its records written through, whatever its mode keeps its owner from.
    private func openForRecords(_ entry: VaultEntry, in parent: VaultDirectory) throws(VaultError) -> Int32 {
        try system { () throws(Errno) in
            try disk.open(
                at: parent.descriptor, entry.name.entry.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        }
    }

    /// Drops the records of the place that was left.
    private func finish(_ move: Move) throws(VaultError) {
        guard move.wroteRecords else { return }
        try writeRecords([move.identity], in: move.descriptor)
    }

    /// Marks a directory that another leaves; true.
    private func mark(_ directory: VaultDirectory) throws(VaultError) -> Bool {
        if directory.identity.isMarked { return true }
        // The caller's idea of it may be older than what is on disk.
        let present = try identity(of: directory.descriptor, derived: directory.identity.derived)
        if !present.isMarked {
            let marked = DirectoryIdentity(derived: present.derived, pins: present.pins, isMarked: true)
            try writeRecords([marked], in: directory.descriptor)
        }
        return true
    }

    /// Whether some entry of a pinned directory verifies under `id` only.
    private func hasEntries(
        under id: DirectoryID, butNot pins: [DirectoryID], in descriptor: Int32
    ) throws(VaultError) -> Bool {
        let raw = RawDirectory(disk: disk, descriptor: descriptor)
        var isFound = false
        try raw.forEach { bytes, _ in
            switch names.kind(of: bytes) {
            case .short(let sealed):
                isFound = names.open(sealed, in: pins) == nil && names.open(sealed, in: [id]) != nil
            // A long name's pieces are not at hand here; keeping one more id costs a record and loses nothing.
            case .long: isFound = true
            default: break
            }
            return !isFound
        }
        return isFound
    }
}
