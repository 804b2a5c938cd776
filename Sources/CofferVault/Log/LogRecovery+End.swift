import CofferFormat
import SystemPackage

/// Ends of files that were growing.
extension LogRecovery {
    /// Sets the end anew where it is not one: behind the last block up to which everything verifies. Only for files that a record says were growing or new; what
    /// they had before is never cut off.
    mutating func settleEnd(
        _ plan: RecoveryPlan, _ file: FileContents, _ isChanged: inout Bool
    ) throws(VaultError) {
        guard plan.trust == .own, plan.isNew || plan.grownFrom != nil else { return }
        let size = try cipherSize(file.descriptor)
        if size < BlockGeometry.emptyFileCount {
            guard plan.isNew else { throw .damaged(Damage(.end)) }
            try putFile(file, emptyBlock(file))
            report.ends += 1
            isChanged = true
            return
        }
        file.setSize(try plainSize(file.descriptor))
        let kept = plan.isNew ? 0 : BlockGeometry.plausibleSize(cipherSize: plan.grownFrom ?? 0)
        let first = max(0, BlockGeometry.blockCount(plainSize: kept) - 1)
        let blockCount = max(
            1, (size - BlockGeometry.headerCount + BlockGeometry.storedCount - 1) / BlockGeometry.storedCount)
        guard let last = try lastGood(from: first, blockCount, file) else {
            guard plan.isNew else { throw .damaged(Damage(.end)) }
            try putFile(file, emptyBlock(file))
            report.ends += 1
            isChanged = true
            return
        }
        if last.block == blockCount - 1 && last.info.isFinal { return }
        try setEnd(last.block, gap: last.info.gap, plan, file)
        report.ends += 1
        isChanged = true
    }

    /// The last block up to which, from `first` on, all verify or are holes that are vouched for; nil where not even the first does.
    private func lastGood(
        from first: Int, _ blockCount: Int, _ file: FileContents
    ) throws(VaultError) -> (block: Int, info: BlockInfo)? {
        var good: (block: Int, info: BlockInfo)?
        var block = first
        while block < blockCount {
            switch try read(block, file) {
            case .sealed(let info):
                good = (block, info)
                block += 1
            case .zero:
                // In a hole of the file as it was there is a voucher too, so this goes for the first block as well.
                guard let next = try nextStored(after: block, file), case .sealed(let info) = try read(next, file),
                    next - info.gap <= block
                else { return good }
                good = (next, info)
                block = next + 1
            case .damaged, nil: return good
            }
        }
        return good
    }

    private func nextStored(after block: Int, _ file: FileContents) throws(VaultError) -> Int? {
        do throws(VaultError) {
            return try file.nextStored(after: block, scratch)
        } catch {
            if case .damaged = error { return nil }
            throw error
        }
    }

    /// The file ends with this block, which verifies. As every change in place it is in the log first: a power cut now must not tear it.
    private mutating func setEnd(
        _ block: Int, gap: Int, _ plan: RecoveryPlan, _ file: FileContents
    ) throws(VaultError) {
        let stored = min(
            BlockGeometry.storedCount, try cipherSize(file.descriptor) - BlockGeometry.offset(ofBlock: block))
        // Its plaintext is where reading it put it.
        guard case .sealed = try read(block, file), let before = try prefix(block, file) else {
            throw .damaged(Damage(.end, block: block))
        }
        file.drawNonces(1, scratch)
        file.seal(
            scratch.tailBlock, count: stored - BlockGeometry.overhead, block: block,
            info: BlockInfo(reconstructedWithGap: gap), nonce: scratch.nonces, to: scratch.probe, scratch)
        let image = Array(UnsafeRawBufferPointer(start: scratch.probe, count: stored))
        try announce(
            .blocks(first: block, isCut: true, predecessors: [.stored(before)]), payload: image, plan, file)
        try system { () throws(Errno) in
            try disk.write(file.descriptor, bytes: image, at: BlockGeometry.offset(ofBlock: block))
            try disk.truncate(file.descriptor, to: BlockGeometry.offset(ofBlock: block) + stored)
        }
    }

    /// Adds a record of recovery's own to the newest segment, durably.
    private mutating func announce(
        _ record: LogRecord, payload: [UInt8], _ plan: RecoveryPlan, _ file: FileContents
    ) throws(VaultError) {
        guard var tail else { return }
        let number = tail.number
        var bytes: [UInt8] = []
        for (next, payload) in [
            (LogRecord.file(header: file.header.bytes, path: plan.paths[0]), []), (record, payload),
        ] {
            let start = tail.end + bytes.count
            bytes += payload.withUnsafeBytes {
                LogSegment.encode(
                    next.encoded(file: number), payload: $0, at: start, generation: tail.generation, ring: ring)
            }
            bytes += payload
        }
        try system { () throws(Errno) in
            try disk.write(tail.descriptor, bytes: bytes, at: tail.end)
            try disk.sync(tail.descriptor, dataOnly: true)
        }
        tail.end += bytes.count
        self.tail = tail
    }
}
