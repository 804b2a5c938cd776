import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import Synchronization

/// Every inode that the kernel remembers, by backing object.
///
/// The lock guards the dictionary and each inode's lookup count, names and orphan descriptor. It is a leaf but for none: nothing else is taken under it,
/// and no system call but close(2) is made.
final class InodeTable: @unchecked Sendable {
    private struct Key: Hashable {
        let device: dev_t
        let number: ino_t
    }

    private let disk: Disk
    private let inodes = Mutex<[Key: Inode]>([:])
    let root: Inode

    init(disk: Disk, rootStatus: stat) {
        self.disk = disk
        root = Inode(rootStatus)
        root.lookups = 1
        let key = Key(device: rootStatus.st_dev, number: rootStatus.st_ino)
        let root = self.root
        inodes.withLock { $0[key] = root }
    }

    /// The inode for a node id.
    @inline(__always)
    func inode(_ nodeID: UInt64) -> Inode {
        if nodeID == 1 { return root }
        guard let pointer = UnsafeRawPointer(bitPattern: UInt(nodeID)) else { return root }
        return Unmanaged<Inode>.fromOpaque(pointer).takeUnretainedValue()
    }

    /// The inode of a backing object, made if there is none, with one more look-up counted and this name among its names.
    func reference(_ status: stat, link: Link?) -> Inode {
        let key = Key(device: status.st_dev, number: status.st_ino)
        return inodes.withLock { inodes in
            let inode: Inode
            if let known = inodes[key], known.kind == status.st_mode & S_IFMT {
                inode = known
            } else {
                // Another kind under the same number: the object was exchanged underneath, and the old one is gone.
                inodes[key]?.isUnlinked = true
                inode = Inode(status)
                inodes[key] = inode
            }
            if inode.lookups == 0 { _ = Unmanaged.passRetained(inode) }
            inode.lookups += 1
            if let link { Self.add(link, to: inode, onlyName: status.st_nlink == 1 || inode.isDirectory) }
            return inode
        }
    }

    /// The inode of a backing object, if the kernel knows it.
    func known(_ status: stat) -> Inode? {
        inodes.withLock { $0[Key(device: status.st_dev, number: status.st_ino)] }
    }

    /// Adds a look-up of the driver's own, so that the inode stays the object's only one whatever the kernel forgets. False where another has taken its place.
    func pin(_ inode: Inode) -> Bool {
        inodes.withLock { inodes in
            if inode.lookups == 0 {
                let key = Key(device: inode.device, number: inode.number)
                guard !inode.isUnlinked, inodes[key] == nil else { return false }
                inodes[key] = inode
                _ = Unmanaged.passRetained(inode)
            }
            inode.lookups += 1
            return true
        }
    }

    /// Takes back `count` look-ups; true where the kernel has forgotten the inode, which is gone from the table then.
    func forget(_ inode: Inode, _ count: UInt64) -> Bool {
        guard inode !== root else { return false }
        let (isGone, orphan) = inodes.withLock { inodes -> (Bool, Int32) in
            inode.lookups -= min(count, inode.lookups)
            guard inode.lookups == 0 else { return (false, -1) }
            let key = Key(device: inode.device, number: inode.number)
            if inodes[key] === inode { inodes[key] = nil }
            let orphan = inode.orphan
            inode.orphan = -1
            return (true, orphan)
        }
        if orphan >= 0 { disk.close(orphan) }
        return isGone
    }

    /// The inode's names now.
    func links(of inode: Inode) -> Links {
        inodes.withLock { _ in inode.links }
    }

    /// The descriptor that stands for an inode none of whose names is known, or was when one went; or -1.
    func orphan(of inode: Inode) -> Int32 {
        inodes.withLock { _ in inode.orphan }
    }

    /// Another name.
    func add(_ link: Link, to inode: Inode) {
        inodes.withLock { _ in Self.add(link, to: inode, onlyName: false) }
    }

    /// A name less. `orphan`, where it is not -1, keeps the object reachable where no other of its names is known; owned by the table from here on.
    func remove(_ stored: StoredName, in parent: Inode, from inode: Inode, orphan: Int32 = -1) {
        let surplus = inodes.withLock { _ -> Int32 in
            inode.links.removeAll {
                $0.stored == stored && $0.parent.number == parent.number && $0.parent.device == parent.device
            }
            if !inode.links.isEmpty || inode.lookups == 0 || inode.orphan >= 0 { return orphan }
            inode.orphan = orphan
            return -1
        }
        if surplus >= 0 { disk.close(surplus) }
    }

    /// The last name is gone. `orphan`, where it is not -1, keeps the object reachable; owned by the table from here on.
    func unlink(_ inode: Inode, orphan: Int32) {
        let surplus = inodes.withLock { inodes -> Int32 in
            inode.isUnlinked = true
            inode.links = .none
            // The backing may give the number to a new object at once.
            let key = Key(device: inode.device, number: inode.number)
            if inodes[key] === inode { inodes[key] = nil }
            if inode.lookups == 0 || inode.orphan >= 0 { return orphan }
            inode.orphan = orphan
            return -1
        }
        if surplus >= 0 { disk.close(surplus) }
    }

    private static func add(_ link: Link, to inode: Inode, onlyName: Bool) {
        // The same stored name was sealed under the same id, so that all else is the same too.
        if inode.links.contains(where: { $0.parent === link.parent && $0.stored == link.stored }) {
            if onlyName { inode.links.removeAll { $0.parent !== link.parent || $0.stored != link.stored } }
            return
        }
        if onlyName {
            inode.links = .none
        } else {
            // The same directory under an older inode, which the kernel forgot.
            inode.links.removeAll {
                $0.stored == link.stored && $0.parent.number == link.parent.number
                    && $0.parent.device == link.parent.device
            }
        }
        // What was looked up last is the most likely to be where it says.
        inode.links.putFirst(link)
    }
}
