import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Working on a file that others write to.
///
/// Coffer's own processes take turns by flock(2) on the ciphertext file: within its turn a process has the file for itself, and begins by reading anew what it
/// would else remember. A copy tool that writes a file in place takes no lock; what is read meanwhile may not verify, and is read again while the file
/// goes on changing.
extension FileContents {
    /// How often a read is tried again while the file changes, and the pause between, in microseconds: half a second in all.
    private static let patience = (attempts: 25, pause: UInt32(20_000))

    /// Runs one call on the contents; where others may write, in a turn of its own.
    @inline(__always)
    func inTurn<Result>(
        exclusive: Bool, _ scratch: Scratch, _ body: () throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        switch company {
        case .alone: return try body()
        case .watching:
            do throws(VaultError) {
                try refresh(scratch)
                return try body()
            } catch {
                guard case .damaged = error else { throw error }
            }
            return try takeTurn(exclusive: false, scratch, body)
        case .together: return try takeTurn(exclusive: exclusive, scratch, body)
        }
    }

    private func takeTurn<Result>(
        exclusive: Bool, _ scratch: Scratch, _ body: () throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        turn.lock(0, 0, exclusive: true)
        defer { turn.unlock(0, 0, exclusive: true) }
        var attempt = 0
        while true {
            do throws(VaultError) {
                let isLocked = try lockBacking(exclusive: exclusive)
                defer { if isLocked { disk.releaseLock(descriptor) } }
                try reload(scratch)
                let result = try body()
                if exclusive { try settleNow(scratch) }
                return result
            } catch {
                guard case .damaged = error, !exclusive, attempt < Self.patience.attempts, try isChanging() else {
                    throw error
                }
            }
            attempt += 1
            usleep(Self.patience.pause)
        }
    }

    /// flock(2) on the backing file; false where its file system has none, and processes on one machine at a time is all there is.
    func lockBacking(exclusive: Bool) throws(VaultError) -> Bool {
        try system { () throws(Errno) in try disk.waitForLock(descriptor, exclusive: exclusive) }
    }

    /// Forgets what is known of the file where it has changed.
    private func refresh(_ scratch: Scratch) throws(VaultError) {
        if try !isChanging() { return }
        try reload(scratch)
    }

    private func isChanging() throws(VaultError) -> Bool {
        let now = FileStamp(try system { () throws(Errno) in try disk.status(descriptor) })
        return loaded.withLock { $0 != now }
    }

    /// Reads header and size anew. Blocks that still grant more than they should stay on the list.
    private func reload(_ scratch: Scratch) throws(VaultError) {
        ranges.lock(0, RangeLock.endless, exclusive: true)
        defer { ranges.unlock(0, RangeLock.endless, exclusive: true) }
        let image = scratch.probe
        let (status, got) = try system { () throws(Errno) in
            let status = try disk.status(descriptor)
            loaded.withLock { $0 = FileStamp(status) }
            return (status, try disk.read(descriptor, into: image, count: BlockGeometry.emptyFileCount, at: 0))
        }
        guard got == BlockGeometry.emptyFileCount, let size = BlockGeometry.plainSize(cipherSize: status.st_size) else {
            throw .damaged(Damage(.size))
        }
        knowledge.withLock { $0 = Knowledge(stale: $0.stale) }
        let raw = Array(UnsafeRawBufferPointer(start: image, count: FileHeader.byteCount))
        try take(raw, size: size, image: image, scratch)
    }
}
