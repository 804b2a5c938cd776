import CofferFormat
import Glibc
import SystemPackage

/// Taking permissions back.
extension FileContents {
    /// Whether blocks are stored with more permission than they should have by now.
    public var needsSettling: Bool {
        if let logged, logged.isUnsure.load(ordering: .acquiring) { return true }
        return knowledge.withLock { !$0.stale.isEmpty || $0.hasSurplus || $0.isEmptyUnstored }
    }

    /// Seals again every block that is marked final but not last, or whose gap reaches over blocks that were filled. The file's times stay, for no program changed
    /// it, but for a nanosecond: what copies the vault has to see that it was changed.
    public func settle(_ scratch: Scratch) throws(VaultError) {
        guard isWritable, needsSettling else { return }
        // Where others write too, every turn ends with this.
        try inTurn(exclusive: true, scratch) { () throws(VaultError) in try settleNow(scratch) }
    }

    func settleNow(_ scratch: Scratch) throws(VaultError) {
        guard needsSettling else { return }
        ranges.lock(0, RangeLock.endless, exclusive: true)
        defer { ranges.unlock(0, RangeLock.endless, exclusive: true) }
        let status = { () throws(VaultError) in
            try system { () throws(Errno) in try self.disk.status(self.descriptor) }
        }
        // Not while images are being stored, which set the times back only then.
        let before = if let logged { try logged.pending.alone(status) } else { try status() }
        try finishEmptying(scratch)
        try cutSurplus()
        if let logged { try makeSureUnasked(logged) }
        var isChanged = false
        defer { if isChanged { restoreTimes(before.st_atim, before.st_mtim.next) } }
        let last = BlockGeometry.blockCount(plainSize: size) - 1
        for block in knowledge.withLock({ $0.stale.sorted() }) {
            if block <= last,
                case .sealed(let info) = try readBlock(block, to: scratch.tailBlock, image: scratch.oldImage, scratch)
            {
                let exact = BlockInfo(final: block == last, gap: try exactGap(block, stored: info.gap, scratch))
                if exact != info {
                    isChanged = true
                    try reseal(block, info: exact, scratch)
                }
            }
            knowledge.withLock { _ = $0.stale.remove(block) }
        }
    }

    /// Before a change of a file of which the log says what was given up: that is made void first, so that the change can go by way of the log, and neither a power cut nor
    /// the end of the process brings about what programs were told had failed, over what was written since. Where the system still refuses that, the change fails as well.
    func recoverFromFailure(_ scratch: Scratch) throws(VaultError) {
        guard let logged, logged.isUnsure.load(ordering: .acquiring) else { return }
        ranges.lock(0, RangeLock.endless, exclusive: true)
        defer { ranges.unlock(0, RangeLock.endless, exclusive: true) }
        try finishEmptying(scratch)
        // While the log says how to do without what is behind the end.
        try cutSurplus()
        try makeSure(logged)
    }

    /// As ``makeSure(_:)``, while no program waits. The system tells a sync that failed once only: so whoever syncs next is told, unless that is so already.
    private func makeSureUnasked(_ file: LoggedFile) throws(VaultError) {
        do throws(VaultError) {
            try makeSure(file)
        } catch {
            file.noteUntold()
            throw error
        }
    }

    /// Cuts off what is stored behind the end, where that failed before: what is there must not become a part of the file, and a hole least of all.
    func cutSurplus() throws(VaultError) {
        guard knowledge.withLock({ $0.hasSurplus }) else { return }
        try drain()
        noteCutOff()
        try unlogged { () throws(VaultError) in
            try system { () throws(Errno) in
                try disk.truncate(descriptor, to: BlockGeometry.cipherSize(plainSize: size))
            }
        }
        knowledge.withLock { $0.hasSurplus = false }
    }

    /// The gap that a block should have: never more than it has.
    private func exactGap(_ block: Int, stored: Int, _ scratch: Scratch) throws(VaultError) -> Int {
        guard stored > 0 else { return 0 }
        if let run = knowledge.withLock({ $0.holes.run(endingAt: block) }) { return min(stored, block - run.floor) }
        // Nothing is remembered of it: the zeros directly before the block, as they are on disk. Mostly the hole was filled up to here.
        let lowest = block - stored
        let near = max(lowest, block - Scratch.probeLimit)
        if let last = try lastStored(in: near..<block, scratch) { return block - last - 1 }
        var floor = lowest
        while let next = try nextStored(after: floor - 1, scratch), next < near { floor = next + 1 }
        return block - floor
    }

    /// The last block of a range, none of them the file's last, that is not all zeros; nil if there is none. It is not verified.
    private func lastStored(in blocks: Range<Int>, _ scratch: Scratch) throws(VaultError) -> Int? {
        let wanted = blocks.count * BlockGeometry.storedCount
        let got = try system { () throws(Errno) in
            try readStored(scratch.probe, count: wanted, at: BlockGeometry.offset(ofBlock: blocks.lowerBound))
        }
        guard got == wanted else { throw .damaged(Damage(.short, block: blocks.lowerBound)) }
        return blocks.last {
            let image = scratch.probe + ($0 - blocks.lowerBound) * BlockGeometry.storedCount
            return !Self.isZero(image, count: BlockGeometry.plainCount)
        }
    }

    private func restoreTimes(_ access: timespec, _ modification: timespec) {
        do throws(Errno) {
            try disk.setTimes(descriptor, access: access, modification: modification)
        } catch {
            // The contents are right; a time that is too new makes a copy tool look once more, which loses nothing.
        }
    }
}
