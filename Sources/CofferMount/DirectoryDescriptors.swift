import CofferDisk
import CofferVault
import Glibc
import Synchronization
import SystemPackage

/// `O_PATH` descriptors of directories: a bounded number, however many directories the kernel remembers. What is not open is opened by its parent.
///
/// The lock guards each ``DirectoryState``'s `descriptor`, `descriptorUsers` and `wasUsed`; a leaf lock. The table's lock is never held meanwhile.
final class DirectoryDescriptors: @unchecked Sendable {
    private let disk: Disk
    private let table: InodeTable
    private let limit: Int
    /// Directories with a descriptor, in no order; the hand goes round them.
    private struct Clock {
        var open: [Inode] = []
        var hand = 0
    }
    private let clock = Mutex(Clock())

    init(disk: Disk, table: InodeTable, rootDescriptor: Int32, limit: Int) {
        self.disk = disk
        self.table = table
        self.limit = limit
        table.root.directory?.descriptor = rootDescriptor
        table.root.directory?.descriptorUsers = 1
    }

    /// Lends a descriptor of a directory.
    func with<Result>(
        _ directory: Inode, _ body: (Int32) throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        let descriptor = try acquire(directory)
        defer { release(directory) }
        return try body(descriptor)
    }

    /// A descriptor that stays open until `release`. A loop, not a recursion: a tree may be deeper than a stack.
    func acquire(_ directory: Inode) throws(VaultError) -> Int32 {
        while true {
            if let ready = clock.withLock({ _ in take(directory) }) { return ready }
            // The nearest ancestor that is open, and the ones below it that are not.
            var closed = [directory]
            while let top = closed.last, let parent = table.links(of: top).first?.parent,
                closed.count < Self.depthLimit,
                clock.withLock({ _ in parent.directory.map { $0.descriptor < 0 } ?? false })
            {
                closed.append(parent)
            }
            while let next = closed.popLast() {
                let descriptor = try acquireByParent(next)
                if closed.isEmpty { return descriptor }
                release(next)
            }
        }
    }

    /// Directories that a chain of parents may have: more than any path, so that a ring in damaged bookkeeping ends.
    private static let depthLimit = 1 << 20

    /// As above for a directory whose parent is open, or can be had by one more step.
    private func acquireByParent(_ directory: Inode) throws(VaultError) -> Int32 {
        guard let state = directory.directory else { throw .system(.notDirectory) }
        if let ready = clock.withLock({ _ in take(directory) }) { return ready }
        let fresh = try open(directory)
        let (descriptor, closing) = clock.withLock { clock -> (Int32, [Int32]) in
            if let ready = take(directory) { return (ready, [fresh]) }
            state.descriptor = fresh
            state.descriptorUsers = 1
            state.wasUsed = true
            clock.open.append(directory)
            return (fresh, evict(&clock))
        }
        for descriptor in closing { disk.close(descriptor) }
        return descriptor
    }

    /// Gives back what `acquire` gave.
    func release(_ directory: Inode) {
        clock.withLock { _ in directory.directory?.descriptorUsers -= 1 }
    }

    /// Closes the descriptor of a directory that the kernel has forgotten.
    func forget(_ directory: Inode) {
        let descriptor = clock.withLock { clock -> Int32 in
            guard let state = directory.directory, state.descriptor >= 0, state.descriptorUsers == 0 else { return -1 }
            let descriptor = state.descriptor
            state.descriptor = -1
            if let index = clock.open.firstIndex(where: { $0 === directory }) {
                clock.open.swapAt(index, clock.open.count - 1)
                clock.open.removeLast()
            }
            return descriptor
        }
        if descriptor >= 0 { disk.close(descriptor) }
    }

    private func take(_ directory: Inode) -> Int32? {
        guard let state = directory.directory, state.descriptor >= 0 else { return nil }
        state.descriptorUsers += 1
        state.wasUsed = true
        return state.descriptor
    }

    /// Second chance: what was used since the hand came by stays for another round.
    private func evict(_ clock: inout Clock) -> [Int32] {
        var closing: [Int32] = []
        var steps = clock.open.count * 2
        while clock.open.count > limit && steps > 0 {
            steps -= 1
            if clock.hand >= clock.open.count { clock.hand = 0 }
            guard let candidate = clock.open[clock.hand].directory else { break }
            if candidate.descriptorUsers > 0 {
                clock.hand += 1
            } else if candidate.wasUsed {
                candidate.wasUsed = false
                clock.hand += 1
            } else {
                closing.append(candidate.descriptor)
                candidate.descriptor = -1
                clock.open.swapAt(clock.hand, clock.open.count - 1)
                clock.open.removeLast()
            }
        }
        return closing
    }

    /// As ``acquire(_:)``, with nil for a directory that is not where it was.
    func acquireIfThere(_ directory: Inode) throws(VaultError) -> Int32? {
        do throws(VaultError) {
            return try acquire(directory)
        } catch {
            if error == .system(.staleNFSFileHandle) { return nil }
            throw error
        }
    }

    private func open(_ directory: Inode) throws(VaultError) -> Int32 {
        for link in table.links(of: directory) {
            // A name may be by a parent that was forgotten and renamed since; the next may do.
            guard let parent = try acquireIfThere(link.parent) else { continue }
            defer { release(link.parent) }
            do throws(Errno) {
                let descriptor = try disk.open(
                    at: parent, link.stored.cString, flags: Self.pathOnly | O_DIRECTORY | O_NOFOLLOW)
                let status = try disk.status(descriptor)
                if status.st_ino == directory.number && status.st_dev == directory.device { return descriptor }
                disk.close(descriptor)
            } catch {
                if error != .noSuchFileOrDirectory && error != .notDirectory { throw .system(error) }
            }
        }
        let orphan = table.orphan(of: directory)
        guard orphan >= 0 else { throw .system(.staleNFSFileHandle) }
        do throws(Errno) {
            return try disk.duplicate(orphan)
        } catch {
            throw .system(error)
        }
    }

    static let pathOnly: Int32 = 0o10000000
}
