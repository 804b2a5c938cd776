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
        /// The target directory is marked now: something left it in an exchange, or came that is closed there.
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
            movedDirectory.map(letGo)
            exchangedDirectory.map(letGo)
        }
        if old.isDirectory {
            var intoMarked = target.identity.isMarked
            if let existing, existing.isDirectory {
                if mode == .exchange {
                    // What comes the other way may go on using the id that this place derives.
                    intoMarked = true
                } else if try retire(existing, in: target) {
                    outcome.isTargetMarked = true
                    intoMarked = true
                }
            }
            let move = try prepare(
                old, in: source, from: old.id.child(name), to: new.1.child(newName), intoMarked: intoMarked)
            movedDirectory = move
            outcome.moved = move.identity
            if move.leavesID { outcome.isSourceMarked = try mark(source) }
            // Should it lose its record there, it must not be taken for one that has the id of the place.
            if move.identity.isClosed { outcome.isTargetMarked = try mark(target) }
        }
        if mode == .exchange, let existing, existing.isDirectory {
            let move = try prepare(
                existing, in: target, from: existing.id.child(newName), to: old.id.child(name),
                intoMarked: outcome.isSourceMarked)
            exchangedDirectory = move
            outcome.exchanged = move.identity
            if move.leavesID { outcome.isTargetMarked = try mark(target) }
        }
        let overflow = try carryOverflow(of: old, from: source, to: target)
        let otherOverflow = try existing.flatMap { entry throws(VaultError) in
            mode == .exchange
                ? try carryOverflow(of: entry, from: target, to: source) : try overflowFile(of: entry, in: target)
        }
        // Without overflow files it does not matter, and costs nothing to know.
        let isElsewhere = overflow != nil || otherOverflow != nil ? try !isSame(source, target) : false
        try move(old, from: source, to: new.0, replacing: mode == .replace ? existing : nil, in: target, mode)

        // From here on the rename has happened, whatever becomes of the rest.
        if mode != .exchange { tidy { () throws(VaultError) in try removeCompanions(of: old.name, in: source) } }
        // A link's overflow file stays where another name of the same link may need it.
        if let overflow, isElsewhere, old.status.st_nlink == 1 {
            tidy { () throws(VaultError) in try removeOverflow(overflow, in: source) }
        }
        if let otherOverflow, isElsewhere || mode != .exchange, existing?.status.st_nlink == 1 {
            tidy { () throws(VaultError) in try removeOverflow(otherOverflow, in: target) }
        }
        for move in [movedDirectory, exchangedDirectory] {
            if let move { tidy { () throws(VaultError) in try finish(move) } }
        }
        return outcome
    }

    /// Moves the entry itself. A directory that is empty for a person, if not for the system, is replaced like any other empty one.
    private func move(
        _ old: VaultEntry, from source: VaultDirectory, to new: EncodedName, replacing existing: VaultEntry?,
        in target: VaultDirectory, _ mode: Disk.RenameMode
    ) throws(VaultError) {
        do throws(VaultError) {
            try moveOnce(old, from: source, to: new, in: target, mode)
        } catch {
            guard error == .system(.directoryNotEmpty) || error == .system(.fileExists),
                old.isDirectory, let existing, existing.isDirectory, try clearLeftovers(of: existing, in: target)
            else {
                // Some file systems say of a directory in the way only that it exists.
                let isFull = mode == .replace && error == .system(.fileExists) && old.isDirectory
                throw isFull && existing?.isDirectory == true ? .system(.directoryNotEmpty) : error
            }
            try moveOnce(old, from: source, to: new, in: target, mode)
        }
    }

    private func moveOnce(
        _ old: VaultEntry, from source: VaultDirectory, to new: EncodedName, in target: VaultDirectory,
        _ mode: Disk.RenameMode
    ) throws(VaultError) {
        try withCompanions(of: new, in: target) { () throws(Errno) in
            try disk.rename(
                from: source.descriptor, old.name.entry.cString, to: target.descriptor, new.entry.cString, mode: mode)
        }
    }

    /// Runs what removes leftovers. Where it fails they stay, which is harmless; the rename must not look as if it had failed.
    func tidy(_ body: () throws(VaultError) -> Void) {
        do throws(VaultError) {
            try body()
        } catch {
            // The next rename or removal here meets the same leftovers again.
        }
    }

    private func isSame(_ one: VaultDirectory, _ other: VaultDirectory) throws(VaultError) -> Bool {
        if one.descriptor == other.descriptor { return true }
        return try system { () throws(Errno) in
            let (first, second) = (try disk.status(one.descriptor), try disk.status(other.descriptor))
            return first.st_ino == second.st_ino && first.st_dev == second.st_dev
        }
    }

    /// Marks the parent of a directory that is about to go for good, where the directory is marked itself: else a new one of the same name would derive the
    /// ids again that directories renamed away from this one keep using. Returns whether the parent is marked.
    func retire(_ entry: VaultEntry, in parent: VaultDirectory) throws(VaultError) -> Bool {
        if parent.identity.isMarked { return true }
        let derived = entry.id.child(entry.plainName)
        do throws(VaultError) {
            let isMarked = try withLifted(entry, in: parent) { descriptor throws(VaultError) in
                try identity(of: descriptor, derived: derived).isMarked
            }
            return isMarked ? try mark(parent) : false
        } catch {
            guard error == .system(.permissionDenied) else { throw error }
        }
        // Somebody else's, who does not let us look: its place is kept from being used again, whether need be or not.
        return try mark(parent)
    }

    /// Lends a directory in which its owner may do everything, whatever its mode says; that goes back after.
    func withLifted<Result>(
        _ entry: VaultEntry, in parent: VaultDirectory, _ body: (Int32) throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        let descriptor = try openForRecords(entry, in: parent)
        defer { disk.close(descriptor) }
        let lifted = try lift(entry, descriptor)
        defer { restoreMode(descriptor, lifted) }
        return try body(descriptor)
    }

    /// Lets a directory's owner do everything in it. Returns the mode it had, where that was changed.
    private func lift(_ entry: VaultEntry, _ descriptor: Int32) throws(VaultError) -> mode_t? {
        let mode = entry.status.st_mode & 0o7777
        guard mode & 0o700 != 0o700, entry.status.st_uid == geteuid(), geteuid() != 0 else { return nil }
        try system { () throws(Errno) in try disk.setMode(descriptor, mode | 0o700) }
        return mode
    }

    /// A directory on its way.
    private struct Move {
        let descriptor: Int32
        let identity: DirectoryIdentity
        /// It goes on using the id that its old place derives, so the parent must be marked.
        let leavesID: Bool
        /// It has records of the place that it leaves.
        let hasOldRecords: Bool
        /// The mode that it had, where that was lifted so that its owner may put records in.
        let liftedMode: mode_t?
    }

    /// Puts records for both places into a directory that is about to move.
    private func prepare(
        _ entry: VaultEntry, in parent: VaultDirectory, from oldPlace: DirectoryID, to newPlace: DirectoryID,
        intoMarked: Bool
    ) throws(VaultError) -> Move {
        let descriptor = try openForRecords(entry, in: parent)
        var lifted: mode_t?
        do throws(VaultError) {
            lifted = try lift(entry, descriptor)
            let before = try recordedIdentity(of: descriptor, derived: oldPlace)
            try settle(descriptor)
            var leftovers: [StoredName] = []
            let isEmpty = try holdsOnlyLeftovers(descriptor, names: &leftovers)
            if isEmpty, keepsEntryOrder, !intoMarked, !before.isMarked,
                try recordedIdentity(of: descriptor, derived: newPlace) == DirectoryIdentity(derived: newPlace)
            {
                // Nothing is bound to an id of it, so it takes the one of its new place. Where a file system may write what is in it and not that it is there, nothing may be bound to that.
                return Move(
                    descriptor: descriptor, identity: DirectoryIdentity(derived: newPlace), leavesID: false,
                    hasOldRecords: leftovers.contains(ReservedName.directory), liftedMode: lifted)
            }
            var pins = before.pins
            var atOldPlace = before
            if pins.isEmpty {
                // Nobody else's, whatever the place that it leaves has been before: as ``identity(of:derived:inMarked:)`` has it. But what was renamed away from a marked one may go on using
                // ids of this one's, so the place is left with a mark.
                pins = isEmpty && (!before.isMarked || parent.identity.isMarked) ? [.random()] : [oldPlace]
                // It may be found there after all, with what was made in it since.
                atOldPlace = DirectoryIdentity(
                    derived: oldPlace, pins: pins, isMarked: before.isMarked,
                    isClosed: parent.identity.isMarked && !pins.contains(oldPlace))
            } else if before.accepted.contains(oldPlace), !pins.contains(oldPlace),
                try hasEntries(under: oldPlace, butNot: pins, in: descriptor)
            {
                pins.append(oldPlace)
            }
            let after = DirectoryIdentity(
                derived: newPlace, pins: pins, isMarked: before.isMarked,
                isClosed: intoMarked && !pins.contains(newPlace))
            try writeRecords([atOldPlace, after], in: descriptor)
            // What was renamed away from it may go on using an id of this place's as well.
            let leavesID = pins.contains(oldPlace) || before.isMarked && before.accepted.contains(oldPlace)
            return Move(
                descriptor: descriptor, identity: after, leavesID: leavesID, hasOldRecords: true, liftedMode: lifted)
        } catch {
            restoreMode(descriptor, lifted)
            disk.close(descriptor)
            throw error
        }
    }

    /// A descriptor that a directory's entries can be listed through. Where its own mode keeps its owner out, the mode is lifted for as long
    /// as the opening takes.
    private func openForRecords(_ entry: VaultEntry, in parent: VaultDirectory) throws(VaultError) -> Int32 {
        try system { () throws(Errno) in
            do throws(Errno) {
                return try disk.open(
                    at: parent.descriptor, entry.name.entry.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
            } catch {
                guard error == .permissionDenied, entry.status.st_uid == geteuid() else { throw error }
            }
            let object = try disk.open(
                at: parent.descriptor, entry.name.entry.cString, flags: Disk.pathOnly | O_DIRECTORY | O_NOFOLLOW)
            defer { disk.close(object) }
            return try openListing(object)
        }
    }

    /// Ends what `prepare` began.
    private func letGo(_ move: Move) {
        restoreMode(move.descriptor, move.liftedMode)
        disk.close(move.descriptor)
    }

    private func restoreMode(_ descriptor: Int32, _ mode: mode_t?) {
        guard let mode else { return }
        do throws(Errno) {
            try disk.setMode(descriptor, mode)
        } catch {
            // Its owner can still do so; the directory is where it belongs.
        }
    }

    /// Drops the records of the place that was left, once nothing can lead back there.
    private func finish(_ move: Move) throws(VaultError) {
        guard move.hasOldRecords else { return }
        // Where a file system may write what is in a directory, and not that it has moved, it must have written that first. One that needs no record where it is keeps them: with one it is not
        // removed before what was removed from it is gone for good.
        if !keepsEntryOrder, !move.identity.needsRecord { return }
        try settle(move.descriptor)
        try writeRecords([move.identity], in: move.descriptor)
    }

    /// Marks a directory that another leaves, or comes to and is closed; true.
    private func mark(_ directory: VaultDirectory) throws(VaultError) -> Bool {
        if directory.identity.isMarked { return true }
        try recordIdentity(of: directory)
        // The caller's idea of it may be older than what is on disk.
        let present = try recordedIdentity(of: directory.descriptor, derived: directory.identity.derived)
        if !present.isMarked {
            try settle(directory.descriptor)
            try writeRecords([present.marked], in: directory.descriptor)
        }
        return true
    }

    /// Whether some entry of a pinned directory verifies under `id` only.
    private func hasEntries(
        under id: DirectoryID, butNot pins: [DirectoryID], in descriptor: Int32
    ) throws(VaultError) -> Bool {
        let raw = RawDirectory(disk: disk, descriptor: descriptor)
        var isFound = false
        var longTags: [[UInt8]] = []
        var pieces = LongNamePieces()
        try raw.forEach { bytes, _ in
            let kind = NameCodec.kind(of: bytes)
            switch kind {
            case .short(let sealed): isFound = isBound(sealed, to: id, butNot: pins)
            case .long(let tag): longTags.append(tag)
            default: pieces.add(kind)
            }
            return !isFound
        }
        return isFound
            || longTags.contains { tag in
                guard let sealed = pieces.sealed(tag) else { return pins.count < Self.doubtfulPins }
                return isBound(sealed, to: id, butNot: pins)
            }
    }

    /// A long name whose pieces are missing may be bound to any id. To keep one more loses nothing, but with each rename there would be another.
    private static var doubtfulPins: Int { 8 }

    private func isBound(_ sealed: [UInt8], to id: DirectoryID, butNot pins: [DirectoryID]) -> Bool {
        names.open(sealed, in: pins) == nil && names.open(sealed, in: [id]) != nil
    }
}
