import CofferCrypto
import CofferFormat
import SystemPackage

/// Writing past the end.
///
/// New blocks are stored before the old end is rewritten: where the disk is full, the file is cut back to the end it had, which is still there.
extension FileContents {
    /// Writes `count` bytes at `offset`, ending beyond the present size; what lies between the old end and `offset` reads as zeros. Only under a lock
    /// from the lower of the first block concerned and the last block to the end of time.
    func extend(_ data: UnsafeRawPointer, count: Int, at offset: Int, _ scratch: Scratch) throws(VaultError) {
        try finishEmptying(scratch)
        try cutSurplus()
        try verifyEnd(scratch)
        let oldSize = size
        do throws(VaultError) {
            try extendInSteps(data, count: count, at: offset, scratch)
        } catch {
            // A failed step put back what it changed; the steps before it are undone here.
            if size > oldSize { try oldSize == 0 ? makeEmpty(scratch) : cut(to: oldSize, scratch) }
            throw error
        }
    }

    private func extendInSteps(
        _ data: UnsafeRawPointer, count: Int, at offset: Int, _ scratch: Scratch
    ) throws(VaultError) {
        let first = offset / BlockGeometry.plainCount
        if size == 0 && first > 0 {
            // The empty file's block is in the place of block 0, so block 0 is stored before holes follow it.
            try appendRun(scratch.zeros, count: BlockGeometry.plainCount, at: 0, gap: 0, scratch)
            knowledge.withLock { $0.isFirstUnwritten = true }
        }
        guard size > 0 else { return try appendRun(data, count: count, at: offset, gap: 0, scratch) }

        var oldLast = BlockGeometry.blockCount(plainSize: size) - 1
        if first > oldLast + 1 {
            if size % BlockGeometry.plainCount != 0 {
                try rewriteEnd(to: (oldLast + 1) * BlockGeometry.plainCount, isFinal: true, scratch)
            }
            while first - oldLast - 1 > BlockGeometry.maximumGap {
                let breaker = oldLast + 1 + BlockGeometry.maximumGap
                try appendRun(
                    scratch.zeros, count: BlockGeometry.plainCount, at: breaker * BlockGeometry.plainCount,
                    gap: BlockGeometry.maximumGap, scratch)
                noteHole(oldLast + 1, breaker)
                oldLast = breaker
            }
            try appendRun(data, count: count, at: offset, gap: first - oldLast - 1, scratch)
            noteHole(oldLast + 1, first)
        } else if first == oldLast + 1 {
            // Contiguous: the old end is filled up, and loses its mark once the new one is stored.
            let boundary = try fillOldEnd(oldLast, scratch)
            try appendRun(data, count: count, at: offset, gap: 0, scratch)
            try closeOldEnd(block: oldLast, oldSize: boundary, scratch)
        } else {
            try extendFromInside(data, count: count, at: offset, oldLast: oldLast, scratch)
        }
    }

    /// The request begins at or before the last block.
    private func extendFromInside(
        _ data: UnsafeRawPointer, count: Int, at offset: Int, oldLast: Int, _ scratch: Scratch
    ) throws(VaultError) {
        let end = offset + count
        let boundary = (oldLast + 1) * BlockGeometry.plainCount
        // First what is beyond the last block, then the last block itself, then what is before it: whenever the process ends, what was there
        // before is still there.
        if end > boundary {
            let skipped = boundary - offset
            _ = try fillOldEnd(oldLast, scratch)
            try appendRun(data + skipped, count: end - boundary, at: boundary, gap: 0, scratch)
        }
        let blockStart = oldLast * BlockGeometry.plainCount
        let from = max(offset, blockStart)
        let change = (bytes: data + (from - offset), at: from - blockStart, count: min(end, boundary) - from)
        if end > boundary {
            try closeOldEnd(block: oldLast, oldSize: boundary, change: change, scratch)
        } else {
            try rewriteEnd(to: end, isFinal: true, change: change, scratch)
        }
        if offset < blockStart {
            _ = try overwrite(data, count: blockStart - offset, at: offset, mayFillHoles: true, scratch)
        }
    }

    /// Makes the last block a whole one, still final, before blocks follow it: a block that were stored short would not verify in their midst. Returns the
    /// size that the file has then.
    private func fillOldEnd(_ block: Int, _ scratch: Scratch) throws(VaultError) -> Int {
        let boundary = (block + 1) * BlockGeometry.plainCount
        if size < boundary { try rewriteEnd(to: boundary, isFinal: true, scratch) }
        return boundary
    }

    /// Stores the blocks of a request that begins beyond the last block (or in an empty file), the last of them final. Sets the size. On an error the
    /// file is cut back.
    private func appendRun(
        _ data: UnsafeRawPointer, count: Int, at offset: Int, gap: Int, _ scratch: Scratch
    ) throws(VaultError) {
        let oldSize = size
        let end = offset + count
        let first = offset / BlockGeometry.plainCount
        let last = (end - 1) / BlockGeometry.plainCount
        if !takeSealedAhead(count: count, at: offset, gap: gap, scratch) {
            sealRun(data, count: count, at: offset, gap: gap, with: sealing(scratch), scratch)
        }
        let start = BlockGeometry.offset(ofBlock: first)
        do throws(VaultError) {
            try store(
                scratch.cipherText, byteCount: BlockGeometry.cipherSize(plainSize: end) - start, firstBlock: first,
                scratch)
        } catch {
            try cutBack(to: oldSize, scratch)
            throw error
        }
        setSize(end)
        let oldLast = BlockGeometry.blockCount(plainSize: oldSize) - 1
        knowledge.withLock { knowledge in
            if oldLast >= 0 { knowledge.stale.insert(oldLast) }
            knowledge.stale.remove(last)
            if gap == 0 && first <= knowledge.densePrefix { knowledge.densePrefix = last + 1 }
        }
    }

    /// After a failed append: the file ends where it did. An empty file's one block was overwritten, so it is stored again, under the
    /// same key: the header is the one on disk whatever becomes of this.
    private func cutBack(to oldSize: Int, _ scratch: Scratch) throws(VaultError) {
        var failure: VaultError?
        if oldSize == 0 {
            drawNonces(1, scratch)
            seal(
                scratch.zeros, count: 0, block: 0, info: BlockInfo(final: true, gap: 0), nonce: scratch.nonces,
                to: scratch.probe, scratch)
            do throws(VaultError) {
                try store(scratch.probe, byteCount: BlockGeometry.overhead, firstBlock: 0, scratch)
            } catch {
                failure = error
                knowledge.withLock { $0.isEmptyUnstored = true }
            }
        }
        let first = max(1, BlockGeometry.blockCount(plainSize: oldSize))
        if let log, let logged { logged.pending.discard(from: first, log) }
        let revoked: Result<Void, VaultError> = Result { () throws(VaultError) in try revoke(from: first) }
        // Whether or not the log could be told: a longer file is damage.
        noteCutOff()
        do throws(VaultError) {
            try unlogged { () throws(VaultError) in
                try system { () throws(Errno) in
                    try disk.truncate(descriptor, to: BlockGeometry.cipherSize(plainSize: oldSize))
                }
            }
        } catch {
            knowledge.withLock { $0.hasSurplus = true }
            throw error
        }
        try revoked.get()
        if let failure { throw failure }
    }

    /// Seals what was the last block before an append again: whole, no longer final, with `change` in it.
    private func closeOldEnd(
        block: Int, oldSize: Int, change: (bytes: UnsafeRawPointer, at: Int, count: Int)? = nil, _ scratch: Scratch
    ) throws(VaultError) {
        let gap: Int
        do throws(VaultError) {
            gap = try replaceEnd(
                block: block, oldSize: oldSize, count: BlockGeometry.plainCount, isFinal: false, change: change, scratch
            )
        } catch {
            setSize(oldSize)
            knowledge.withLock { $0.densePrefix = min($0.densePrefix, block + 1) }
            try cutBack(to: oldSize, scratch)
            throw error
        }
        // A gap may still be too wide.
        if gap == 0 { knowledge.withLock { _ = $0.stale.remove(block) } }
    }

    /// Seals the last block again so that the file ends at `newSize`, which is in the same block.
    func rewriteEnd(
        to newSize: Int, isFinal: Bool, change: (bytes: UnsafeRawPointer, at: Int, count: Int)? = nil,
        _ scratch: Scratch
    ) throws(VaultError) {
        let block = BlockGeometry.blockCount(plainSize: size) - 1
        let oldSize = size
        do throws(VaultError) {
            _ = try replaceEnd(
                block: block, oldSize: oldSize, count: newSize - block * BlockGeometry.plainCount, isFinal: isFinal,
                change: change, scratch)
        } catch {
            try cutBack(to: oldSize, scratch)
            throw error
        }
        setSize(newSize)
    }

    /// Rewrites the block that is last by `oldSize` with `count` bytes: its old bytes, zeros after them, `change` over them. Where storing fails, the
    /// old image goes back; what that may have added to the file is the caller's to cut off. Returns the block's gap.
    private func replaceEnd(
        block: Int, oldSize: Int, count: Int, isFinal: Bool, change: (bytes: UnsafeRawPointer, at: Int, count: Int)?,
        _ scratch: Scratch
    ) throws(VaultError) -> Int {
        let oldCount = BlockGeometry.plainCount(ofBlock: block, plainSize: oldSize)
        guard
            case .sealed(let info) = try readBlock(
                block, to: scratch.tailBlock, image: scratch.oldImage, plainSize: oldSize, scratch)
        else { throw .damaged(Damage(.block, block: block)) }
        if oldCount < count {
            (scratch.tailBlock + oldCount).initializeMemory(as: UInt8.self, repeating: 0, count: count - oldCount)
        }
        if let change { (scratch.tailBlock + change.at).copyMemory(from: change.bytes, byteCount: change.count) }
        drawNonces(1, scratch)
        seal(
            scratch.tailBlock, count: count, block: block, info: BlockInfo(final: isFinal, gap: info.gap),
            nonce: scratch.nonces, to: scratch.probe, scratch)
        do throws(VaultError) {
            try store(scratch.probe, byteCount: count + BlockGeometry.overhead, firstBlock: block, scratch)
        } catch {
            try store(scratch.oldImage, byteCount: oldCount + BlockGeometry.overhead, firstBlock: block, scratch)
            throw error
        }
        return info.gap
    }

    private func noteHole(_ start: Int, _ end: Int) {
        guard start < end else { return }
        knowledge.withLock {
            $0.holes.insert(HoleMap.Run(start: start, end: end, floor: start), keeping: $0.stale)
        }
    }
}
