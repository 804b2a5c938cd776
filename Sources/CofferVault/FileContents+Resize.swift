import CofferCrypto
import CofferFormat
import SystemPackage

/// Sizes, punching and zeroing. All of them hold the whole file.
extension FileContents {
    /// Sets the plaintext size. What is new reads as zeros and takes no space but for the last block.
    public func resize(to newSize: Int, _ scratch: Scratch) throws(VaultError) {
        guard newSize >= 0 else { throw .system(.invalidArgument) }
        guard newSize <= BlockGeometry.maximumPlainSize else { throw .system(.fileTooLarge) }
        try inTurn(exclusive: true, scratch) { () throws(VaultError) in try resizeNow(to: newSize, scratch) }
    }

    private func resizeNow(to newSize: Int, _ scratch: Scratch) throws(VaultError) {
        try recoverFromFailure(scratch)
        ranges.lock(0, RangeLock.endless, exclusive: true)
        defer { ranges.unlock(0, RangeLock.endless, exclusive: true) }
        try drain()
        if newSize == size {
            touch()
            giveBackReserved()
        } else if newSize == 0 {
            try makeEmpty(scratch)
        } else if newSize < size {
            try cut(to: newSize, scratch)
        } else if newSize > size {
            try grow(to: newSize, scratch)
        }
        noteChanged()
    }

    /// Gives back space that was reserved beyond the end, and changes the times. Where the system refuses, the size is the wanted one all the same: an error
    /// would make the kernel go on with another, and show zeros up to that.
    private func giveBackReserved() {
        do throws(VaultError) {
            try unlogged { () throws(VaultError) in
                try system { () throws(Errno) in
                    try disk.truncate(descriptor, to: BlockGeometry.cipherSize(plainSize: size))
                }
            }
        } catch {
            // What must not stay is known to ``settle(_:)``.
        }
    }

    private func grow(to newSize: Int, _ scratch: Scratch) throws(VaultError) {
        let lastStart = (newSize - 1) / BlockGeometry.plainCount * BlockGeometry.plainCount
        let from = max(lastStart, size)
        try extend(scratch.zeros, count: newSize - from, at: from, scratch)
    }

    /// Makes `count` bytes from `offset` read as zeros and gives back the space of whole blocks; the size stays.
    public func punch(offset: Int, count: Int, _ scratch: Scratch) throws(VaultError) {
        guard offset >= 0, count > 0, count <= Int.max - offset else { throw .system(.invalidArgument) }
        try inTurn(exclusive: true, scratch) { () throws(VaultError) in
            try recoverFromFailure(scratch)
            ranges.lock(0, RangeLock.endless, exclusive: true)
            defer { ranges.unlock(0, RangeLock.endless, exclusive: true) }
            try punchLocked(offset: offset, count: count, scratch)
            noteChanged()
        }
    }

    /// As ``punch(offset:count:_:)``, and the file grows to the end of the range where it is shorter.
    public func zero(offset: Int, count: Int, keepSize: Bool, _ scratch: Scratch) throws(VaultError) {
        guard offset >= 0, count > 0, count <= BlockGeometry.maximumPlainSize - offset else {
            throw .system(.fileTooLarge)
        }
        try inTurn(exclusive: true, scratch) { () throws(VaultError) in
            try recoverFromFailure(scratch)
            ranges.lock(0, RangeLock.endless, exclusive: true)
            defer { ranges.unlock(0, RangeLock.endless, exclusive: true) }
            try punchLocked(offset: offset, count: count, scratch)
            if !keepSize && offset + count > size { try grow(to: offset + count, scratch) }
            noteChanged()
        }
    }

    /// Reserves space for a range; without `keepSize` the file grows to its end.
    public func reserve(offset: Int, count: Int, keepSize: Bool, _ scratch: Scratch) throws(VaultError) {
        guard offset >= 0, count > 0, count <= BlockGeometry.maximumPlainSize - offset else {
            throw .system(.fileTooLarge)
        }
        try inTurn(exclusive: true, scratch) { () throws(VaultError) in
            try reserveNow(offset: offset, count: count, keepSize: keepSize, scratch)
        }
    }

    private func reserveNow(offset: Int, count: Int, keepSize: Bool, _ scratch: Scratch) throws(VaultError) {
        try recoverFromFailure(scratch)
        ranges.lock(0, RangeLock.endless, exclusive: true)
        defer { ranges.unlock(0, RangeLock.endless, exclusive: true) }
        try drain()
        let start = BlockGeometry.offset(ofBlock: offset / BlockGeometry.plainCount)
        let end = BlockGeometry.offset(ofBlock: BlockGeometry.blockCount(plainSize: offset + count))
        try system { () throws(Errno) in
            try disk.allocate(descriptor, mode: 1, offset: start, length: end - start)
        }
        if !keepSize && offset + count > size { try grow(to: offset + count, scratch) }
    }

    private func punchLocked(offset: Int, count: Int, _ scratch: Scratch) throws(VaultError) {
        let end = min(offset + count, size)
        guard offset < end else { return }
        try verifyEnd(scratch)
        try leaveGrowth()
        let blockCount = BlockGeometry.blockCount(plainSize: size)
        let first = (offset + BlockGeometry.plainCount - 1) / BlockGeometry.plainCount
        // The last block always stays stored, so it is never among the punched.
        let limit = min(end == size ? blockCount - 1 : end / BlockGeometry.plainCount, blockCount - 1)
        if first >= limit {
            return try zeroStored(from: offset, to: end, scratch)
        }
        try zeroStored(from: offset, to: first * BlockGeometry.plainCount, scratch)
        try zeroStored(from: limit * BlockGeometry.plainCount, to: end, scratch)
        try punchBlocks(first, limit, scratch)
    }

    /// Overwrites with zeros what is stored of a range; what is a hole stays one.
    private func zeroStored(from start: Int, to end: Int, _ scratch: Scratch) throws(VaultError) {
        var position = start
        while position < end {
            let block = position / BlockGeometry.plainCount
            let next = min(end, (block + 1) * BlockGeometry.plainCount)
            if try isZeroBlock(block, scratch) {
                _ = try resolveHole(block, scratch)
            } else {
                _ = try overwrite(scratch.zeros, count: next - position, at: position, mayFillHoles: true, scratch)
            }
            position = next
        }
    }

    /// Makes blocks `first ..< limit` holes, the last block not among them. The permission is stored before it is used.
    private func punchBlocks(_ first: Int, _ limit: Int, _ scratch: Scratch) throws(VaultError) {
        // The run of holes that results: from `floor` to the voucher. `start` is from where on it is known to be zeros.
        var floor = first
        var start = first
        if first > 0, try isZeroBlock(first - 1, scratch) {
            let before = try resolveHole(first - 1, scratch)
            floor = before.floor
            start = before.start
        }
        knowledge.withLock { $0.densePrefix = min($0.densePrefix, first) }
        var voucher = limit
        if try isZeroBlock(limit, scratch) { voucher = try resolveHole(limit, scratch).end }
        if voucher - floor > BlockGeometry.maximumGap {
            try punchLongRun(first, limit, floor: floor, voucher: voucher, scratch)
        } else {
            try regrant(voucher, gap: voucher - floor, scratch)
            do throws(VaultError) {
                try release(first, limit, scratch)
            } catch {
                // A permission that was not used is taken back; one that was used in part stays.
                if try !isZeroBlock(first, scratch) { knowledge.withLock { _ = $0.stale.insert(voucher) } }
                throw error
            }
            knowledge.withLock {
                $0.holes.insert(HoleMap.Run(start: start, end: voucher, floor: floor), keeping: $0.stale)
            }
        }
    }

    /// As above where the run is longer than one gap: stored blocks of zeros break it, the lowest first, each of which vouches for what is before it.
    private func punchLongRun(
        _ first: Int, _ limit: Int, floor: Int, voucher: Int, _ scratch: Scratch
    ) throws(VaultError) {
        knowledge.withLock { $0.holes.remove(endingIn: floor...voucher) }
        var low = floor
        while voucher - low > BlockGeometry.maximumGap {
            let breaker = low + BlockGeometry.maximumGap
            drawNonces(1, scratch)
            seal(
                scratch.zeros, count: BlockGeometry.plainCount, block: breaker,
                info: BlockInfo(final: false, gap: BlockGeometry.maximumGap), nonce: scratch.nonces, to: scratch.probe,
                scratch)
            try store(scratch.probe, byteCount: BlockGeometry.storedCount, firstBlock: breaker, scratch)
            try release(max(first, low), min(limit, breaker), scratch)
            low = breaker + 1
        }
        try regrant(voucher, gap: voucher - low, scratch)
        try release(max(first, low), limit, scratch)
        knowledge.withLock {
            $0.holes.insert(HoleMap.Run(start: max(first, low), end: voucher, floor: low), keeping: $0.stale)
        }
    }

    /// Seals a stored block again with a wider gap.
    private func regrant(_ block: Int, gap: Int, _ scratch: Scratch) throws(VaultError) {
        guard case .sealed(let info) = try readBlock(block, to: scratch.tailBlock, image: scratch.oldImage, scratch)
        else { throw .damaged(Damage(.block, block: block)) }
        if info.gap >= gap {
            if info.gap > gap { knowledge.withLock { _ = $0.stale.insert(block) } }
            return
        }
        try reseal(block, info: BlockInfo(final: info.isFinal, gap: gap), scratch)
    }

    /// Seals the block whose plaintext is in `scratch.tailBlock` and whose image is in `scratch.oldImage` with another info word.
    func reseal(_ block: Int, info: BlockInfo, _ scratch: Scratch) throws(VaultError) {
        let count = BlockGeometry.plainCount(ofBlock: block, plainSize: size)
        drawNonces(1, scratch)
        seal(
            scratch.tailBlock, count: count, block: block, info: info, nonce: scratch.nonces, to: scratch.probe, scratch
        )
        do throws(VaultError) {
            try store(scratch.probe, byteCount: count + BlockGeometry.overhead, firstBlock: block, scratch)
        } catch {
            try store(scratch.oldImage, byteCount: count + BlockGeometry.overhead, firstBlock: block, scratch)
            throw error
        }
    }

    /// Gives the space of blocks `first ..< limit` back, or stores zeros where the backing cannot. `hasWholeFile`: the caller has a lock on everything, and not on these only.
    func release(_ first: Int, _ limit: Int, hasWholeFile: Bool = true, _ scratch: Scratch) throws(VaultError) {
        touch()
        guard first < limit else { return }
        try announcing(.punch(first: first, limit: limit), hasWholeFile: hasWholeFile) { () throws(VaultError) in
            try releaseNow(first, limit, scratch)
        }
    }

    /// As above, without a word to the log.
    func releaseNow(_ first: Int, _ limit: Int, _ scratch: Scratch) throws(VaultError) {
        let start = BlockGeometry.offset(ofBlock: first)
        let length = (limit - first) * BlockGeometry.storedCount
        try system { () throws(Errno) in
            do throws(Errno) {
                // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
                return try disk.allocate(descriptor, mode: 3, offset: start, length: length)
            } catch {
                guard error == .notSupported || error == .noFunction else { throw error }
            }
            for offset in stride(from: start, to: start + length, by: BlockGeometry.plainCount) {
                let count = min(BlockGeometry.plainCount, start + length - offset)
                try disk.write(descriptor, scratch.zeros, count: count, at: offset)
            }
        }
    }
}
