import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// The walk: directory by directory, each one's own entries before those below.
extension Rotation {
    /// A directory that is still to be gone into.
    private struct Child {
        let place: TreePlace
        let stored: StoredName
        let derived: DirectoryID
    }

    /// Everything below the root, and the root.
    func turnTree() throws(VaultError) {
        var trail = DirectoryTrail(disk: disk, first: vault.rootDescriptor)
        let root = try system { () throws(Errno) in
            try disk.open(at: vault.rootDescriptor, ".", flags: O_RDONLY | O_DIRECTORY)
        }
        // What is left of each directory on the way.
        var frames = [try turn(root, derived: vault.rootID, TreePlace())]
        while let child = frames[frames.count - 1].popLast() {
            try attempt(child.place) { () throws(VaultError) in
                let descriptor = try openDirectory(child.stored, in: trail.last)
                let entered = try system { () throws(Errno) in try disk.duplicate(descriptor) }
                do throws(Errno) {
                    try trail.enter(entered)
                } catch {
                    disk.close(descriptor)
                    throw .system(error)
                }
                // From here on the walk is in it, whatever fails.
                frames.append([])
                frames[frames.count - 1] = try turn(descriptor, derived: child.derived, child.place)
            }
            while frames.count > 1, frames[frames.count - 1].isEmpty {
                frames.removeLast()
                try system { () throws(Errno) in try trail.leave() }
            }
        }
    }

    /// Opens a directory for reading. Where a mode keeps its owner out, of it or of the one that holds it, the mode is lifted for as long as that takes.
    func openDirectory(_ name: StoredName, in directory: Int32) throws(VaultError) -> Int32 {
        try system { () throws(Errno) in
            do throws(Errno) {
                return try disk.open(at: directory, name.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
            } catch {
                if error != .permissionDenied { throw error }
            }
            return try disk.withMode(0o100, of: directory) { () throws(Errno) in
                let object = try disk.open(
                    at: directory, name.cString, flags: Disk.pathOnly | O_DIRECTORY | O_NOFOLLOW)
                defer { disk.close(object) }
                return try disk.withMode(0o500, of: object) { () throws(Errno) in
                    try disk.reopen(object, flags: O_RDONLY | O_DIRECTORY)
                }
            }
        }
    }

    /// One directory: its records, its attributes, its entries. `descriptor` is owned from here on. Returns the directories in it.
    private func turn(_ descriptor: Int32, derived: DirectoryID, _ place: TreePlace) throws(VaultError) -> [Child] {
        let before: stat
        do throws(Errno) {
            before = try disk.status(descriptor)
        } catch {
            disk.close(descriptor)
            throw .system(error)
        }
        guard UInt64(before.st_dev) == device else {
            disk.close(descriptor)
            throw .damaged(Damage(.elsewhere))
        }
        let mode = before.st_mode & 0o7777
        let isLifted = mode & 0o700 != 0o700 && before.st_uid == geteuid() && geteuid() != 0
        guard isLifted else { return try turnLifted(descriptor, derived, place, before) }
        do throws(VaultError) {
            try pending.write(.mode(UInt32(mode), path: place.storedNames))
        } catch {
            disk.close(descriptor)
            throw error
        }
        let children: Result<[Child], VaultError> = Result { () throws(VaultError) in
            do throws(Errno) {
                try disk.setMode(descriptor, mode | 0o700)
            } catch {
                disk.close(descriptor)
                throw .system(error)
            }
            let children = try turnLifted(descriptor, derived, place, before)
            try flush()
            return children
        }
        try pending.settle()
        return try children.get()
    }

    private func turnLifted(
        _ descriptor: Int32, _ derived: DirectoryID, _ place: TreePlace, _ before: stat
    ) throws(VaultError) -> [Child] {
        // Without what its records say nothing in a directory is to be judged; they stay as they are.
        let identity: DirectoryIdentity
        do throws(VaultError) {
            identity = try vault.recordedIdentity(of: descriptor, derived: derived)
        } catch {
            disk.close(descriptor)
            throw error
        }
        let directory = TurnedDirectory(
            disk: disk, descriptor: descriptor, identity: identity, place: place, before: before)
        let problems = totals.problems
        let entries = try list(directory)
        try attempt(place) { () throws(VaultError) in
            // A record that does not verify here may be the one that an entry needs which does not verify either.
            if totals.problems == problems,
                try vault.renewRecords(of: descriptor, identity, onlyLooking: isLooking)
            {
                tell { $0.names += 1 }
            }
            try renewAttributes(of: descriptor, before.st_mode, place)
        }
        var children: [Child] = []
        for entry in entries {
            try attempt(TreePlace(in: place, name: entry.name, stored: entry.stored.bytes)) { () throws(VaultError) in
                let (status, stored) = try turn(entry, in: directory)
                guard status.st_mode & S_IFMT == S_IFDIR else { return }
                children.append(
                    Child(
                        place: TreePlace(in: place, name: entry.name, stored: stored.bytes), stored: stored,
                        derived: entry.id.child(entry.name)))
            }
            tell { $0.entries += 1 }
        }
        restoreTimes(directory)
        return children
    }

    // MARK: Counting

    /// How much there is, by what the system says of it.
    func count() throws(VaultError) {
        var trail = DirectoryTrail(disk: disk, first: vault.rootDescriptor)
        var frames: [[StoredName]] = [try count(in: vault.rootDescriptor)]
        while let name = frames[frames.count - 1].popLast() {
            do throws(VaultError) {
                let descriptor = try openDirectory(name, in: trail.last)
                try system { () throws(Errno) in try trail.enter(descriptor) }
                frames.append([])
                frames[frames.count - 1] = try count(in: descriptor)
            } catch {
                // It is met again, and told then.
            }
            while frames.count > 1, frames[frames.count - 1].isEmpty {
                frames.removeLast()
                try system { () throws(Errno) in try trail.leave() }
            }
        }
    }

    /// Counts one directory's entries. Returns the directories in it.
    private func count(in descriptor: Int32) throws(VaultError) -> [StoredName] {
        var names: [StoredName] = []
        try RawDirectory(disk: disk, descriptor: descriptor).forEach { bytes, _ in
            switch NameCodec.kind(of: bytes) {
            case .short, .long: names.append(StoredName(bytes))
            case .dots, .companion, .reserved, .foreign: break
            }
            return true
        }
        var directories: [StoredName] = []
        for name in names {
            let status = try system { () throws(Errno) in try disk.status(at: descriptor, name.cString) }
            totals.entryCount += 1
            if status.st_mode & S_IFMT == S_IFREG { totals.byteCount &+= Int(status.st_size) }
            if status.st_mode & S_IFMT == S_IFDIR { directories.append(name) }
        }
        return directories
    }
}

extension TreePlace {
    /// The stored names from the root down to here.
    var storedNames: [StoredName] {
        var names: [StoredName] = []
        var place = self
        while let parent = place.parent {
            names.append(StoredName(place.stored))
            place = parent
        }
        return names.reversed()
    }
}
