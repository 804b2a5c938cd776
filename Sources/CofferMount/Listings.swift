import Synchronization

/// Listings that are under way, where the kernel does not tell who has a directory open: each goes on with the stream that it began with.
///
/// A listing of which the rest is not asked for stays here until there are too many, or the kernel forgets the directory. One that is not here any more goes on with a
/// new stream, at the position where the old one was.
///
/// Since only directory and position tell, a listing may go on with a stream that another one began. What a stream has read ahead is therefore good only as long as no
/// name has changed since: the kernel would keep a listing of before a change for one of after it.
final class Listings: Sendable {
    private struct Paused {
        let handle: DirectoryHandle
        let position: Int
        /// ``moment`` before the stream read anything that it has now.
        let moment: Int
    }

    private static let limit = 32
    /// What waits longest comes first. A leaf lock.
    private let paused = Mutex<[Paused]>([])
    private let changes = Atomic<Int>(0)

    /// Counts changes of names, all that were answered among them. To be asked for before a listing is read.
    var moment: Int { changes.load(ordering: .sequentiallyConsistent) }

    /// A name has changed, or may have; before whoever asked for it hears of it.
    func noteChange() { changes.add(1, ordering: .sequentiallyConsistent) }

    /// The listing of a directory that is at a position behind its beginning, and is now the caller's alone. It has read nothing ahead of before `moment`.
    func take(_ inode: Inode, at position: Int, _ moment: Int) -> DirectoryHandle? {
        if position == 0 { return nil }
        let found = paused.withLock { paused -> Paused? in
            guard let index = paused.lastIndex(where: { $0.handle.inode === inode && $0.position == position })
            else { return nil }
            return paused.remove(at: index)
        }
        if let found, found.moment != moment { found.handle.stream.withLock { $0.refresh() } }
        return found?.handle
    }

    /// A listing that goes on at a position. `moment` was asked for before anything of it was read.
    func put(_ handle: DirectoryHandle, at position: Int, _ moment: Int) {
        let surplus = paused.withLock { paused in
            paused.append(Paused(handle: handle, position: position, moment: moment))
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
