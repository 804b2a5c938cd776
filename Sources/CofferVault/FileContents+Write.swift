import CofferCrypto
import CofferFormat
import SystemPackage

/// Writing.
///
/// Two locks are tried. Inside the file, over blocks that are stored, only the blocks themselves are locked, so that writers of different parts go side by
/// side. What extends the file or fills a hole locks to the end of time.
extension FileContents {
    /// Writes `count` bytes at `offset`, all or an error. On an error what was there before is still there, but for blocks that the system
    /// failed to rewrite in place.
    public func write(
        _ data: UnsafeRawPointer, count: Int, at offset: Int, _ scratch: Scratch
    ) throws(VaultError) {
        // Of another write it is not, whatever becomes of this one.
        defer { scratch.ahead = nil }
        try inTurn(exclusive: true, scratch) { () throws(VaultError) in
            try writeNow(data, count: count, at: offset, scratch)
        }
    }

    /// Writes `count` bytes at the end, wherever that is by now.
    public func append(_ data: UnsafeRawPointer, count: Int, _ scratch: Scratch) throws(VaultError) {
        try inTurn(exclusive: true, scratch) { () throws(VaultError) in
            try writeNow(data, count: count, at: size, scratch)
        }
    }

    private func writeNow(
        _ data: UnsafeRawPointer, count: Int, at offset: Int, _ scratch: Scratch
    ) throws(VaultError) {
        guard offset >= 0, count <= BlockGeometry.maximumPlainSize - offset else { throw .system(.fileTooLarge) }
        var done = 0
        while done < count {
            let position = offset + done
            let room = (Scratch.blockLimit - 2) * BlockGeometry.plainCount
            try recoverFromFailure(scratch)
            let pass = min(count - done, room - position % BlockGeometry.plainCount)
            try writePass(data + done, count: pass, at: position, scratch)
            noteChanged()
            done += pass
        }
    }

    private func writePass(
        _ data: UnsafeRawPointer, count: Int, at offset: Int, _ scratch: Scratch
    ) throws(VaultError) {
        let first = offset / BlockGeometry.plainCount
        let last = (offset + count - 1) / BlockGeometry.plainCount
        if offset + count <= size {
            ranges.lock(first, last, exclusive: true)
            defer { ranges.unlock(first, last, exclusive: true) }
            // The size may have shrunk before the lock was had.
            if offset + count <= size,
                try overwrite(data, count: count, at: offset, mayFillHoles: false, scratch)
            {
                return
            }
        }
        // The block before may have to be looked at.
        let low = lockEnd(from: max(0, first - 1))
        defer { ranges.unlock(low, RangeLock.endless, exclusive: true) }
        if offset + count <= size {
            _ = try overwrite(data, count: count, at: offset, mayFillHoles: true, scratch)
        } else {
            try extend(data, count: count, at: offset, scratch)
        }
    }

    /// Locks exclusively from `first` or the last block, whichever is lower, to the end of time. Returns where the lock begins.
    func lockEnd(from first: Int) -> Int {
        while true {
            let low = min(first, max(0, BlockGeometry.blockCount(plainSize: size) - 1))
            ranges.lock(low, RangeLock.endless, exclusive: true)
            if max(0, BlockGeometry.blockCount(plainSize: size) - 1) >= low { return low }
            ranges.unlock(low, RangeLock.endless, exclusive: true)
        }
    }

    /// Writes inside the file. False, with nothing done, where a hole is met and `mayFillHoles` is false.
    func overwrite(
        _ data: UnsafeRawPointer, count: Int, at offset: Int, mayFillHoles: Bool, _ scratch: Scratch
    ) throws(VaultError) -> Bool {
        let size = self.size
        let end = offset + count
        let first = offset / BlockGeometry.plainCount
        let last = (end - 1) / BlockGeometry.plainCount
        let finalBlock = BlockGeometry.blockCount(plainSize: size) - 1
        let lastCount = BlockGeometry.plainCount(ofBlock: last, plainSize: size)
        if last == finalBlock { try verifyEnd(scratch) }

        // The first block's old info says which holes it vouches for; a partial block needs its old plaintext as well.
        let isHeadWhole =
            offset % BlockGeometry.plainCount == 0
            && (first < last || end - first * BlockGeometry.plainCount >= lastCount)
        var gap = 0
        var isPrefixKnown = false
        if isHeadWhole, first < finalBlock, first >= knowledge.withLock({ $0.densePrefix }),
            try vouchesForNothing(first, scratch)
        {
            isPrefixKnown = true
        } else if !isHeadWhole || first >= knowledge.withLock({ $0.densePrefix }) {
            switch try oldBlock(first, to: scratch.headBlock, mayFillHoles: mayFillHoles, isWhole: isHeadWhole, scratch)
            {
            case .info(let info):
                gap = info.gap
                scratch.keepPrefix()
                isPrefixKnown = true
            case .hole(let run): gap = first - run.floor
            case .void: break
            case .mustLookFurther: return false
            }
        }
        let isTailWhole = end - last * BlockGeometry.plainCount >= lastCount
        if last > first && !isTailWhole {
            switch try oldBlock(last, to: scratch.tailBlock, mayFillHoles: mayFillHoles, isWhole: false, scratch) {
            case .info, .hole, .void: break
            case .mustLookFurther: return false
            }
        } else if last > first && last < finalBlock && last >= knowledge.withLock({ $0.densePrefix }),
            try isZeroBlock(last, scratch)
        {
            // A hole that goes on beyond the request: its voucher's gap will be too wide, so it must be known. Zeros that nothing vouches
            // for are damage that is written over.
            guard mayFillHoles else { return false }
            _ = try vouchedHole(last, scratch)
        }
        if !isHeadWhole { merge(data, count: count, at: offset, block: first, into: scratch.headBlock) }
        if last > first && !isTailWhole { merge(data, count: count, at: offset, block: last, into: scratch.tailBlock) }

        scratch.ahead = nil
        drawNonces(last - first + 1, scratch)
        let contexts = sealing(scratch)
        for block in first...last {
            let plain: UnsafeRawPointer
            if block == first && !isHeadWhole {
                plain = UnsafeRawPointer(scratch.headBlock)
            } else if block == last && last > first && !isTailWhole {
                plain = UnsafeRawPointer(scratch.tailBlock)
            } else {
                plain = data + (block * BlockGeometry.plainCount - offset)
            }
            seal(
                plain, count: block == last ? lastCount : BlockGeometry.plainCount, block: block,
                info: BlockInfo(final: block == finalBlock, gap: block == first ? gap : 0),
                nonce: scratch.nonces + (block - first) * BlockCipher.nonceCount,
                to: scratch.cipherText + (block - first) * BlockGeometry.storedCount, with: contexts, scratch)
        }
        let byteCount = (last - first) * BlockGeometry.storedCount + lastCount + BlockGeometry.overhead
        do throws(VaultError) {
            try store(
                scratch.cipherText, byteCount: byteCount, firstBlock: first,
                before: isPrefixKnown ? UnsafeRawPointer(scratch.prefix) : nil, scratch)
        } catch {
            try mendTorn(first, last, scratch)
            throw error
        }
        knowledge.withLock { knowledge in
            if first == 0 { knowledge.isFirstUnwritten = false }
            knowledge.stale.formUnion(knowledge.holes.fill(first, last))
            if first <= knowledge.densePrefix && gap == 0 {
                knowledge.densePrefix = max(knowledge.densePrefix, last + 1)
            }
        }
        return true
    }

    private enum OldBlock {
        case info(BlockInfo)
        case hole(HoleMap.Run)
        /// It vouches for nothing, and is replaced as a whole.
        case void
        case mustLookFurther
    }

    /// Whether a stored block that is about to be replaced as a whole, and is not the last, says that it vouches for no holes; its first bytes are in `scratch.prefix` then.
    ///
    /// Not verified, for what it says cannot do harm: the new block vouches for nothing either. If there were holes before it after all, they are damage from now on, and were
    /// before, since the block that vouched for them had been changed.
    private func vouchesForNothing(_ block: Int, _ scratch: Scratch) throws(VaultError) -> Bool {
        let count = BlockGeometry.prefixCount
        let got = try system { () throws(Errno) in
            try readStored(scratch.prefix, count: count, at: BlockGeometry.offset(ofBlock: block))
        }
        guard got == count else { return false }
        let isHole =
            scratch.prefix.loadUnaligned(as: UInt64.self) == 0
            && scratch.prefix.loadUnaligned(fromByteOffset: 8, as: UInt64.self) == 0
        return !isHole
            && scratch.prefix.loadUnaligned(fromByteOffset: BlockCipher.nonceCount, as: UInt32.self) == 0
    }

    /// What was in a block that is about to be rewritten; its plaintext goes to `plain`, zeros for a hole. A block that is written whole may be
    /// damaged, if its predecessor verifies: then it vouches for nothing, and the program brings all its content.
    private func oldBlock(
        _ block: Int, to plain: UnsafeMutableRawPointer, mayFillHoles: Bool, isWhole: Bool, _ scratch: Scratch
    ) throws(VaultError) -> OldBlock {
        switch try readBlock(block, to: plain, image: scratch.probe, scratch) {
        case .sealed(let info): return .info(info)
        case .zero:
            guard mayFillHoles else { return .mustLookFurther }
            if let run = try vouchedHole(block, scratch) {
                plain.initializeMemory(as: UInt8.self, repeating: 0, count: BlockGeometry.plainCount)
                return .hole(run)
            }
            if isWhole, try isSealed(block - 1, scratch) { return .void }
            throw .damaged(Damage(.hole, block: block))
        case .damaged:
            // The predecessor is outside the lock that is held, unless that reaches to the end.
            if isWhole, block > 0, !mayFillHoles { return .mustLookFurther }
            if isWhole, try isSealed(block - 1, scratch) { return .void }
            throw .damaged(Damage(.block, block: block))
        }
    }

    private func isSealed(_ block: Int, _ scratch: Scratch) throws(VaultError) -> Bool {
        guard block >= 0,
            case .sealed = try readBlock(block, to: scratch.spareBlock, image: scratch.probe, scratch)
        else { return false }
        return true
    }

    /// The run that a zero block is in; nil where nothing vouches for it.
    private func vouchedHole(_ block: Int, _ scratch: Scratch) throws(VaultError) -> HoleMap.Run? {
        do throws(VaultError) {
            return try resolveHole(block, scratch)
        } catch {
            if case .damaged(let damage) = error, damage.kind == .hole { return nil }
            throw error
        }
    }

    /// Copies what the request holds of `block` over that block's old plaintext.
    private func merge(
        _ data: UnsafeRawPointer, count: Int, at offset: Int, block: Int, into plain: UnsafeMutableRawPointer
    ) {
        let start = block * BlockGeometry.plainCount
        let from = max(offset, start)
        let to = min(offset + count, start + BlockGeometry.plainCount)
        (plain + (from - start)).copyMemory(from: data + (from - offset), byteCount: to - from)
    }

    /// After a failed write inside the file, whose images are in `scratch.cipherText`: a block that is neither old nor new any more becomes new, or, where
    /// that fails too, zeros. Where it was a hole, it is one again; where it was stored, it stays unreadable, as a bad sector is. Holes that were
    /// filled before the write failed are holes no more.
    private func mendTorn(_ first: Int, _ last: Int, _ scratch: Scratch) throws(VaultError) {
        for block in first...last {
            switch try readBlock(block, to: scratch.spareBlock, image: scratch.probe, scratch) {
            case .sealed: break
            case .zero: continue
            case .damaged:
                let count = BlockGeometry.plainCount(ofBlock: block, plainSize: size)
                do throws(VaultError) {
                    try store(
                        scratch.cipherText + (block - first) * BlockGeometry.storedCount,
                        byteCount: count + BlockGeometry.overhead, firstBlock: block, scratch)
                } catch {
                    try release(block, block + 1, hasWholeFile: false, scratch)
                    continue
                }
            }
            knowledge.withLock { $0.stale.formUnion($0.holes.fill(block, block)) }
        }
    }
}
