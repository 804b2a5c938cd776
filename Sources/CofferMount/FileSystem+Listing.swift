import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import Synchronization
import SystemPackage

/// An open directory.
final class DirectoryHandle: Sendable {
    let inode: Inode
    /// Held for a whole listing call: the stream is for one thread at a time.
    let stream: Mutex<DirectoryStream>

    init(inode: Inode, stream: sending DirectoryStream) {
        self.inode = inode
        self.stream = Mutex(stream)
    }
}

/// Listing directories.
extension FileSystem {
    /// A handle for listing.
    func openDirectory(_ inode: Inode) throws(VaultError) -> DirectoryHandle {
        try names.read { () throws(VaultError) in
            let descriptor = try descriptors.with(inode) { descriptor throws(VaultError) in
                let flags = O_RDONLY | O_DIRECTORY
                do throws(Errno) {
                    // Not by the name ".": that takes the permission to search, and listing does not.
                    return try disk.reopen(descriptor, flags: flags, withoutAccessTime: leavesDirectoryAccessTimes)
                } catch {
                    guard error == .permissionDenied else { throw .system(error) }
                }
                // The program opened it when it might, or is somebody whom modes do not keep out.
                return try reopen(descriptor, flags: flags)
            }
            return DirectoryHandle(inode: inode, stream: DirectoryStream(vault: vault, descriptor: descriptor))
        }
    }

    /// Makes a directory's entries durable.
    func syncDirectory(_ handle: DirectoryHandle) throws(VaultError) {
        // Whoever lists it meanwhile does not wait, so the lock is not held; the stream is, for it closes the descriptor.
        let stream = handle.stream.withLock { $0 }
        let outcome: Result<Void, Errno> = Result { () throws(Errno) in try disk.syncEntries(stream.descriptor) }
        withExtendedLifetime(stream) {}
        if case .failure(let error) = outcome { throw .system(error) }
    }

    /// Hands entries from `position` on to `body` until it returns false: it had no room for that one, which will be asked for again.
    ///
    /// With `withAttributes` each entry is looked up and counted as if the kernel had asked; where `body` refuses one, that is taken back.
    func list(
        _ handle: DirectoryHandle, from position: Int, withAttributes: Bool, _ body: (ListedEntry, Found?) -> Bool
    ) throws(VaultError) {
        try names.read { () throws(VaultError) in
            try handle.stream.withLock { stream throws(VaultError) in
                let identity = try self.identity(of: handle.inode, stream.descriptor, forReading: true)
                try stream.seek(to: position)
                while let entry = try stream.next(identity) {
                    if entry.isPlaceholder { tell(entry, in: handle.inode) }
                    var found: Found?
                    if withAttributes, let id = entry.id {
                        do throws(VaultError) {
                            found = try self.found(entry, id, handle.inode, stream.descriptor)
                            // Gone since it was listed.
                            if found == nil { continue }
                        } catch {
                            // A directory that may be listed but not searched: names are all there is to be had.
                            // So are what was not sealed: whoever asks for more of them is told.
                            guard error == .system(.permissionDenied) || isSealed && error.errno == .ioError else {
                                throw error
                            }
                        }
                    }
                    if !body(entry, found) {
                        if let found { forget(table.inode(found.nodeID), 1) }
                        stream.stepBack()
                        return
                    }
                }
            }
        }
    }

    private func found(
        _ entry: ListedEntry, _ id: DirectoryID, _ parent: Inode, _ descriptor: Int32
    ) throws(VaultError) -> Found? {
        let status: stat
        do throws(Errno) {
            status = try disk.status(at: descriptor, entry.stored.cString)
        } catch {
            if error == .noSuchFileOrDirectory { return nil }
            throw .system(error)
        }
        try requireSealed(status, parent, entry.stored)
        return try reference(status, parent, descriptor, entry.stored, id, entry.name)
    }

    private func tell(_ entry: ListedEntry, in directory: Inode) {
        let (plain, stored) = paths(of: directory, entry.name)
        log.unreadableName(
            plain: plain, stored: stored.isEmpty ? entry.stored.description : "\(stored)/\(entry.stored)")
    }
}
