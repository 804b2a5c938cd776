import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Everything that is neither a regular file nor a directory, and further names of what was brought out before.
extension TreeExtraction {
    func extractLink(
        _ entry: TreeEntry, in source: TreeDirectory, _ place: TreePlace, into target: Int32
    ) throws(Failure) {
        let text = try fromVault { () throws(VaultError) in try tree.readLink(entry, in: source) }
        // No link that a program made is empty or has NUL in it.
        guard !text.isEmpty, !text.contains(0) else { throw .source(.damaged(Damage(.link))) }
        let name = StoredName(entry.name)
        try toDestination { () throws(Errno) in
            try disk.makeLink(at: target, name.cString, target: StoredName(text).cString)
        }
        change { $0.links += 1 }
        try finishNode(entry, in: source, place, into: target)
    }

    func extractNode(
        _ entry: TreeEntry, in source: TreeDirectory, _ place: TreePlace, into target: Int32
    ) throws(Failure) {
        let isDevice = entry.type == S_IFCHR || entry.type == S_IFBLK
        if isDevice && !(options.isPrivileged && options.trustsModes) { return report(place, .skippedDevice) }
        let name = StoredName(entry.name)
        try toDestination { () throws(Errno) in
            try disk.makeNode(
                at: target, name.cString, mode: entry.type | 0o600, device: isDevice ? entry.backing.st_rdev : 0)
        }
        change { $0.nodes += 1 }
        try finishNode(entry, in: source, place, into: target)
    }

    /// Attributes of what was just made by its name.
    private func finishNode(
        _ entry: TreeEntry, in source: TreeDirectory, _ place: TreePlace, into target: Int32
    ) throws(Failure) {
        remember(entry, as: entry.name, in: source.place, nil)
        let object = try fromVault { () throws(VaultError) in
            try system { () throws(Errno) in
                try disk.open(
                    at: source.directory.descriptor, entry.stored.cString, flags: Disk.pathOnly | O_NOFOLLOW)
            }
        }
        defer { disk.close(object) }
        let name = StoredName(entry.name)
        let descriptor = try toDestination { () throws(Errno) in
            try disk.open(at: target, name.cString, flags: Disk.pathOnly | O_NOFOLLOW)
        }
        defer { disk.close(descriptor) }
        let attributes = attributes(of: object, entry.backing, place) { () throws(VaultError) in
            AttributeCodec.noOwner
        }
        try finish(descriptor, entry.backing, attributes, place)
    }

    // MARK: Several names

    /// Remembers something that has more names, which may be met later.
    func remember(
        _ entry: TreeEntry, as name: [UInt8], in directory: TreePlace, _ problem: TreeProblem.Reason?
    ) {
        guard entry.backing.st_nlink > 1 else { return }
        made[Self.identity(entry.backing)] = Made(
            directory: directory, name: name, problem: problem, namesLeft: Int(entry.backing.st_nlink) - 1)
    }

    /// Makes another name for what was brought out before; false where it was not, or where the name cannot be made, so that it becomes an object of its own.
    func linkToMade(
        _ entry: TreeEntry, names: [ListedEntry], _ place: TreePlace, into target: Int32
    ) throws(Failure) -> Bool {
        guard entry.backing.st_nlink > 1 else { return false }
        let identity = Self.identity(entry.backing)
        guard var first = made[identity] else { return false }
        first.namesLeft -= 1
        made[identity] = first.namesLeft > 0 ? first : nil
        var name = entry.name
        if first.problem != nil { name = Self.salvageName(for: name, besides: names) }
        do throws(Errno) {
            let (directory, isOwned) = try openAgain(first.directory)
            defer { if isOwned { disk.close(directory) } }
            try disk.hardLink(
                from: directory, StoredName(first.name).cString, to: target, StoredName(name).cString)
        } catch {
            if error == .fileExists { throw .destination(error) }
            report(place, .incomplete("hard link", error))
            return false
        }
        change { $0.hardLinks += 1 }
        if case .salvaged(let damage, _, let lost) = first.problem {
            report(place, .salvaged(damage, name: name, lost: lost))
        }
        return true
    }

    /// The destination's directory for a place, found name by name from the destination down.
    private func openAgain(_ place: TreePlace) throws(Errno) -> (descriptor: Int32, isOwned: Bool) {
        var descriptor = destination
        for name in place.names(below: start) {
            let parent = descriptor
            defer { if parent != destination { disk.close(parent) } }
            descriptor = try disk.open(
                at: parent, StoredName(name).cString, flags: Disk.pathOnly | O_DIRECTORY | O_NOFOLLOW)
        }
        return (descriptor, descriptor != destination)
    }

    private static func identity(_ status: stat) -> Identity {
        Identity(device: UInt64(status.st_dev), number: UInt64(status.st_ino))
    }
}
