import Synchronization

/// Listings that are under way, where the kernel does not tell who has a directory open: each goes on with the stream that it began with.
///
/// A listing of which the rest is not asked for stays here until there are too many, or the kernel forgets the directory. One that is not here any more goes on with a
/// new stream, at the position where the old one was.
final class Listings: Sendable {
    private struct Paused {
        let handle: DirectoryHandle
        let position: Int
    }

    private static let limit = 32
    /// What waits longest comes first. A leaf lock.
    private let paused = Mutex<[Paused]>([])

    /// The listing of a directory that is at a position behind its beginning, and is now the caller's alone.
    func take(_ inode: Inode, at position: Int) -> DirectoryHandle? {
        if position == 0 { return nil }
        return paused.withLock { paused in
            guard let index = paused.firstIndex(where: { $0.handle.inode === inode && $0.position == position })
            else { return nil }
            return paused.remove(at: index).handle
        }
    }

    /// A listing that goes on at a position.
    func put(_ handle: DirectoryHandle, at position: Int) {
        let surplus = paused.withLock { paused in
            paused.append(Paused(handle: handle, position: position))
            return paused.count > Self.limit ? paused.removeFirst() : nil
        }
        withExtendedLifetime(surplus) {}
    }

    /// The kernel has forgotten a directory.
    func forget(_ inode: Inode) {
        let gone = paused.withLock { paused in
            let gone = paused.filter { $0.handle.inode === inode }
            if !gone.isEmpty { paused.removeAll { $0.handle.inode === inode } }
            return gone
        }
        withExtendedLifetime(gone) {}
    }
}
