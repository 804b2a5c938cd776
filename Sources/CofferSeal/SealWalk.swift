import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// Where a stored entry is. Directories share their parents' places.
public final class StoredPlace: Sendable {
    /// The directory that it is in; nil for the root.
    public let parent: StoredPlace?
    /// The stored name; empty for the root.
    public let name: [UInt8]

    init(in parent: StoredPlace?, _ name: [UInt8]) {
        self.parent = parent
        self.name = name
    }

    /// The stored names from the root down.
    public var names: [[UInt8]] {
        var names: [[UInt8]] = []
        var place = self
        while let parent = place.parent {
            names.append(place.name)
            place = parent
        }
        return names.reversed()
    }

    /// The names joined by slashes.
    public var path: [UInt8] { Array(names.joined(separator: [UInt8(ascii: "/")])) }
}

/// A walk through a vault's ciphertext in the order of a manifest, with a few descriptors and no recursion.
final class SealWalk {
    private struct Frame {
        let names: NameList
        let place: StoredPlace
        var index = 0
        var shared: SharedDirectory?
    }

    private let disk: Disk
    private var trail: DirectoryTrail
    private var frames: [Frame]

    /// A walk from the vault's root, whose descriptor stays the caller's.
    init(disk: Disk, root: Int32) throws(VaultError) {
        self.disk = disk
        trail = DirectoryTrail(disk: disk, first: root)
        frames = [
            Frame(
                names: try NameList(disk: disk, descriptor: root, isRoot: true), place: StoredPlace(in: nil, []))
        ]
    }

    /// The directory that the walk is in.
    var place: StoredPlace { frames[frames.count - 1].place }
    /// Its descriptor, an `O_PATH` one perhaps.
    var descriptor: Int32 { trail.last }
    /// Whether that is the root.
    var isInRoot: Bool { frames.count == 1 }
    /// What is in it and none of Coffer's.
    var foreign: [[UInt8]] { frames[frames.count - 1].names.foreign }

    /// The next name in the present directory; nil at its end.
    var name: [UInt8]? {
        guard let frame = frames.last, frame.index < frame.names.count else { return nil }
        return frame.names[frame.index]
    }

    /// Below 0 where it comes before `name`, 0 where it is that, above 0 where it comes after or there is none.
    func order(_ name: [UInt8]) -> Int {
        guard let frame = frames.last, frame.index < frame.names.count else { return 1 }
        return frame.names.order(frame.index, name)
    }

    /// Whether that was listed as a regular file.
    var isFile: Bool { frames[frames.count - 1].names.isFile(frames[frames.count - 1].index) }

    /// Goes on to the name after.
    func advance() { frames[frames.count - 1].index += 1 }

    /// The present directory, for whoever reads something in it later.
    func shared() throws(VaultError) -> SharedDirectory {
        if let shared = frames[frames.count - 1].shared { return shared }
        let shared = try SharedDirectory(disk: disk, duplicating: trail.last)
        frames[frames.count - 1].shared = shared
        return shared
    }

    /// Goes into a directory of the present one. Where this throws, the walk stays where it is.
    func enter(_ name: [UInt8]) throws(VaultError) {
        let descriptor = try system { () throws(Errno) in
            try disk.open(
                at: trail.last, StoredName(name).cString, flags: Disk.pathOnly | O_DIRECTORY | O_NOFOLLOW)
        }
        let names: NameList
        do throws(VaultError) {
            names = try NameList(disk: disk, descriptor: descriptor, isRoot: false)
        } catch {
            disk.close(descriptor)
            throw error
        }
        try system { () throws(Errno) in try trail.enter(descriptor) }
        frames.append(Frame(names: names, place: StoredPlace(in: place, name)))
    }

    /// Goes back to the directory that holds the present one, and on to the name after it. False in the root.
    func leave() throws(VaultError) -> Bool {
        guard frames.count > 1 else { return false }
        frames.removeLast()
        try system { () throws(Errno) in try trail.leave() }
        advance()
        return true
    }
}
