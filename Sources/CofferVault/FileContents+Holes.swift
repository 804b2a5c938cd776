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
        let block = offset / BlockGeometry.plainCount
        let last = BlockGeometry.blockCount(plainSize: size) - 1
        if block == last { return try endsInHole(scratch) ? nil : offset }
        var end = block
        if block == 0, try beginsInHole(scratch) { end = 1 }
        if end < last, try isZeroBlock(end, scratch) { end = try resolveHole(end, scratch).end }
        if end == last, end > block, try endsInHole(scratch) { return nil }
        return max(offset, end * BlockGeometry.plainCount)
    }

    /// Whether the first block, which is always stored, is what writing farther into an empty file leaves there: zeros. That a program wrote them is
    /// not told apart; it reads the same.
    private func beginsInHole(_ scratch: Scratch) throws(VaultError) -> Bool {
        guard BlockGeometry.blockCount(plainSize: size) > 1,
            case .sealed = try readBlock(0, to: scratch.spareBlock, image: scratch.probe, scratch)
        else { return false }
        return UnsafeRawBufferPointer(start: scratch.spareBlock, count: BlockGeometry.plainCount).allSatisfy { $0 == 0 }
    }

    /// Whether the last block, which is always stored, is what growing a file leaves: zeros after a hole. To programs it belongs to the hole.
    private func endsInHole(_ scratch: Scratch) throws(VaultError) -> Bool {
        let last = BlockGeometry.blockCount(plainSize: size) - 1
        guard last > 0,
            case .sealed(let info) = try readBlock(last, to: scratch.spareBlock, image: scratch.probe, scratch),
            info.gap > 0
        else { return false }
        let plain = UnsafeRawBufferPointer(
            start: scratch.spareBlock, count: BlockGeometry.plainCount(ofBlock: last, plainSize: size))
        return plain.allSatisfy { $0 == 0 }
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
        let last = BlockGeometry.blockCount(plainSize: size) - 1
        var block = offset / BlockGeometry.plainCount
        if block == 0, try beginsInHole(scratch) { return offset }
        while block < last {
            if try isZeroBlock(block, scratch) {
                _ = try resolveHole(block, scratch)
                return max(offset, block * BlockGeometry.plainCount)
            }
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
        return try endsInHole(scratch) ? max(offset, last * BlockGeometry.plainCount) : size
    }

    /// Whether a block is all zeros on disk.
    func isZeroBlock(_ block: Int, _ scratch: Scratch) throws(VaultError) -> Bool {
        let count = BlockGeometry.plainCount(ofBlock: block, plainSize: size)
        let stored = count + BlockGeometry.overhead
        let got = try system { () throws(Errno) in
            try disk.read(descriptor, into: scratch.probe, count: stored, at: BlockGeometry.offset(ofBlock: block))
        }
        guard got == stored else { throw .damaged(Damage(.short, block: block)) }
        return Self.isZero(scratch.probe, count: count)
    }
}
