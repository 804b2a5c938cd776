import CFuse
import CofferFormat
import CofferVault
import Glibc

/// Entries whose making failed half-way.
extension FileSystem {
    /// One that could not be taken away either: without its first bytes a file is damage.
    struct Undone {
        let parent: Inode
        let name: [UInt8]
    }

    /// So many are remembered.
    private static let undoneLimit = 1000

    /// Takes away what was made, after a failure; where that fails too, it is tried again until it succeeds.
    func undoMake(_ name: [UInt8], _ directory: VaultDirectory, _ parent: Inode) {
        do throws(VaultError) {
            try remove(try vault.find(name, in: directory), directory)
        } catch {
            log.warning(
                "'\(String(decoding: name, as: UTF8.self))' could not be made, nor taken away again: \(error)")
            // Where others make files too, one without its first bytes may be one of theirs.
            if keepsCache { noteUndone(Undone(parent: parent, name: name)) }
        }
    }

    private func noteUndone(_ one: Undone) {
        undone.withLock { undone in
            if undone.count < Self.undoneLimit { undone.append(one) }
        }
    }

    private func remove(_ entry: VaultEntry, _ directory: VaultDirectory) throws(VaultError) {
        if entry.isDirectory {
            try vault.removeDirectory(entry, in: directory)
        } else {
            try vault.removeFile(entry, in: directory)
        }
    }

    /// Takes away what could not be taken away before, or makes the kernel see it. Whether nothing is left.
    @discardableResult
    func retryUndone() -> Bool {
        let pending = undone.withLock { undone in
            defer { undone = [] }
            return undone
        }
        for one in pending {
            do throws(VaultError) {
                try finish(one)
                // The kernel may believe in it, or in there being nothing. Nothing is held here that a request could wait for. libfuse reads a byte more.
                _ = (one.name + [0]).withUnsafeBytes { name in
                    fuse_lowlevel_notify_inval_entry(
                        session, one.parent.nodeID, name.baseAddress?.assumingMemoryBound(to: CChar.self),
                        name.count - 1)
                }
                // Where it knows nothing of that name, its listing may.
                fuse_lowlevel_notify_inval_inode(session, one.parent.nodeID, 0, 0)
            } catch .system(.staleNFSFileHandle), .system(.noSuchFileOrDirectory) {
                // Its directory is gone.
            } catch {
                noteUndone(one)
            }
        }
        return undone.withLock { $0.isEmpty }
    }

    /// Takes it away, unless it is something that can be read. While nobody makes or opens anything: a program's own new file looks the same for a moment.
    private func finish(_ one: Undone) throws(VaultError) {
        try changingNames(alone: true) { () throws(VaultError) in
            try withDirectory(one.parent) { directory throws(VaultError) in
                guard let entry = try vault.lookUp(one.name, in: directory), entry.isFile,
                    entry.status.st_size < BlockGeometry.emptyFileCount,
                    table.known(entry.status).flatMap({ openContents(of: $0) }) == nil
                else { return }
                try removeFile(entry, one.parent, directory)
            }
        }
    }
}
