import CofferFormat
import SystemPackage

/// Holes: who vouches for them, and where data and holes are.
extension FileContents {
    /// Finds the block that vouches for the zero block `block`, verifies it, and remembers the run. Damage where none does. Only under a lock
    /// from `block` to the end of time.
    @discardableResult
    func resolveHole(_ block: Int, _ scratch: Scratch) throws(VaultError) -> HoleMap.Run {
        if let known = knowledge.withLock({ $0.holes.run(holding: block) }) { return known }
        let last = BlockGeometry.blockCount(plainSize: size) - 1
        guard block < last, let voucher = try nextStored(after: block, scratch) else {
            throw .damaged(Damage(.hole, block: block))
        }
        guard case .sealed(let info) = try readBlock(voucher, to: scratch.spareBlock, image: scratch.probe, scratch),
            voucher - info.gap <= block
        else { throw .damaged(Damage(.hole, block: block)) }
        let run = HoleMap.Run(start: block, end: voucher, floor: voucher - info.gap)
        knowledge.withLock { $0.holes.insert(run, keeping: $0.stale) }
        return run
    }

    /// The first block after `block` that is not all zeros; nil if there is none. It is not verified.
    func nextStored(after block: Int, _ scratch: Scratch) throws(VaultError) -> Int? {
        try drain()
        let blockCount = BlockGeometry.blockCount(plainSize: size)
        var next = block + 1
        while next < blockCount {
            // What is known to be zero needs no look.
            if let run = knowledge.withLock({ $0.holes.run(holding: next) }) {
                next = run.end
            }
            let data = try system { () throws(Errno) in
                do throws(Errno) {
                    return try disk.nextData(descriptor, from: BlockGeometry.offset(ofBlock: next))
                } catch {
                    // File systems that cannot tell have data everywhere.
                    if error == .invalidArgument || error == .notSupported {
                        return BlockGeometry.offset(ofBlock: next)
                    }
                    throw error
                }
            }
            guard let data else { return nil }
            next = max(next, (data - BlockGeometry.headerCount) / BlockGeometry.storedCount)
            guard next < blockCount else { return nil }
            let count = min(Scratch.probeLimit, blockCount - next)
            let got = try system { () throws(Errno) in
                try disk.read(
                    descriptor, into: scratch.probe, count: count * BlockGeometry.storedCount,
                    at: BlockGeometry.offset(ofBlock: next))
            }
            for index in 0..<count {
                let start = index * BlockGeometry.storedCount
                let plainCount = BlockGeometry.plainCount(ofBlock: next + index, plainSize: size)
                guard start + plainCount + BlockGeometry.overhead <= got else {
                    throw .damaged(Damage(.short, block: next + index))
                }
                if !Self.isZero(scratch.probe + start, count: plainCount) { return next + index }
            }
            next += count
        }
        return nil
    }

    /// The first offset at or after `offset` that is not in a hole; nil at or after the end.
    public func nextData(from offset: Int, _ scratch: Scratch) throws(VaultError) -> Int? {
        try inTurn(exclusive: false, scratch) { () throws(VaultError) in try nextDataNow(from: offset, scratch) }
    }

    private func nextDataNow(from offset: Int, _ scratch: Scratch) throws(VaultError) -> Int? {
        ranges.lock(0, RangeLock.endless, exclusive: false)
        defer { ranges.unlock(0, RangeLock.endless, exclusive: false) }
        guard offset >= 0, offset < size else { return nil }
        let last = BlockGeometry.blockCount(plainSize: size) - 1
        var block = offset / BlockGeometry.plainCount
        if block == 0, last > 0, try beginsInHole(scratch) { block = 1 }
        while block <= last {
            if block < last, try isZeroBlock(block, scratch) {
                block = try resolveHole(block, scratch).end
            } else if try isLeftByGrowing(block, scratch) {
                block += 1
            } else {
                return max(offset, block * BlockGeometry.plainCount)
            }
        }
        return nil
    }

    /// Whether the first block, which is always stored, is what writing farther into an empty file leaves there: zeros, before a hole where
    /// that is not remembered. To programs it belongs to the hole.
    private func beginsInHole(_ scratch: Scratch) throws(VaultError) -> Bool {
        let blockCount = BlockGeometry.blockCount(plainSize: size)
        guard blockCount > 1 else { return false }
        if !knowledge.withLock({ $0.isFirstUnwritten }) {
            guard blockCount > 2, try isZeroBlock(1, scratch) else { return false }
        }
        guard case .sealed = try readBlock(0, to: scratch.spareBlock, image: scratch.probe, scratch) else {
            return false
        }
        return UnsafeRawBufferPointer(start: scratch.spareBlock, count: BlockGeometry.plainCount).allSatisfy { $0 == 0 }
    }

    /// Whether a stored block is what growing a file leaves at its end, or a long hole at its joints: zeros that vouch for a hole. To programs they
    /// belong to that hole.
    private func isLeftByGrowing(_ block: Int, _ scratch: Scratch) throws(VaultError) -> Bool {
        guard block > 0,
            case .sealed(let info) = try readBlock(block, to: scratch.spareBlock, image: scratch.probe, scratch)
        else { return false }
        let plain = UnsafeRawBufferPointer(
            start: scratch.spareBlock, count: BlockGeometry.plainCount(ofBlock: block, plainSize: size))
        guard plain.allSatisfy({ $0 == 0 }) else { return false }
        if info.gap > 0 { return true }
        return block == 1 ? try beginsInHole(scratch) : false
    }

    /// The first offset at or after `offset` that is in a hole, or the size, which is one by convention; nil at or after the end.
    /// Only holes that something vouches for count: a zeroed block is data that fails to read.
    public func nextHole(from offset: Int, _ scratch: Scratch) throws(VaultError) -> Int? {
        try inTurn(exclusive: false, scratch) { () throws(VaultError) in try nextHoleNow(from: offset, scratch) }
    }

    private func nextHoleNow(from offset: Int, _ scratch: Scratch) throws(VaultError) -> Int? {
        ranges.lock(0, RangeLock.endless, exclusive: false)
        defer { ranges.unlock(0, RangeLock.endless, exclusive: false) }
        guard offset >= 0, offset < size else { return nil }
        try drain()
        let last = BlockGeometry.blockCount(plainSize: size) - 1
        var block = offset / BlockGeometry.plainCount
        if block == 0, try beginsInHole(scratch) { return offset }
        while block < last {
            if try isZeroBlock(block, scratch) {
                _ = try resolveHole(block, scratch)
                return max(offset, block * BlockGeometry.plainCount)
            }
            // Farther on such a block has its hole before it.
            if block * BlockGeometry.plainCount <= offset, try isLeftByGrowing(block, scratch) { return offset }
            // The backing file's next hole lies in or after the next zero block; a few zero blocks among others may have none at all, and then
            // count as data where nothing is remembered of them, which is always allowed.
            let known = knowledge.withLock { $0.holes.run(after: block)?.start }
            let hole = try system { () throws(Errno) in
                do throws(Errno) {
                    return try disk.nextHole(descriptor, from: BlockGeometry.offset(ofBlock: block + 1))
                } catch {
                    if error == .invalidArgument || error == .notSupported { return nil }
                    throw error
                }
            }
            let found = hole.map { ($0 - BlockGeometry.headerCount) / BlockGeometry.storedCount }
            guard let next = [known, found].compactMap({ $0 }).min() else { break }
            block = max(block + 1, next)
        }
        return try isLeftByGrowing(last, scratch) ? max(offset, last * BlockGeometry.plainCount) : size
    }

    /// Whether a block is all zeros on disk.
    func isZeroBlock(_ block: Int, _ scratch: Scratch) throws(VaultError) -> Bool {
        let count = BlockGeometry.plainCount(ofBlock: block, plainSize: size)
        let stored = count + BlockGeometry.overhead
        let got = try system { () throws(Errno) in
            try readStored(scratch.probe, count: stored, at: BlockGeometry.offset(ofBlock: block))
        }
        guard got == stored else { throw .damaged(Damage(.short, block: block)) }
        return Self.isZero(scratch.probe, count: count)
    }
}
