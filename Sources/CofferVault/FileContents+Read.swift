import CofferFormat
import SystemPackage

/// Reading.
extension FileContents {
    /// Reads up to `count` bytes at `offset`: fewer only at the end of the file. Damage anywhere in the range fails the whole call, so
    /// that no caller takes a short answer for the end.
    public func read(
        into output: UnsafeMutableRawPointer, count: Int, at offset: Int, _ scratch: Scratch
    ) throws(VaultError) -> Int {
        try inTurn(exclusive: false, scratch) { () throws(VaultError) in
            try readNow(into: output, count: count, at: offset, scratch)
        }
    }

    private func readNow(
        into output: UnsafeMutableRawPointer, count: Int, at offset: Int, _ scratch: Scratch
    ) throws(VaultError) -> Int {
        var done = 0
        while done < count && offset + done < size {
            // One pass holds as many blocks as the scratch has room for.
            let position = offset + done
            let room = (Scratch.blockLimit - 1) * BlockGeometry.plainCount
            let wanted = min(count - done, room - position % BlockGeometry.plainCount)
            let got = try readPass(into: output + done, count: wanted, at: position, scratch)
            done += got
            if got < wanted { break }
        }
        return done
    }

    private func readPass(
        into output: UnsafeMutableRawPointer, count: Int, at offset: Int, _ scratch: Scratch
    ) throws(VaultError) -> Int {
        let first = offset / BlockGeometry.plainCount
        let last = (offset + count - 1) / BlockGeometry.plainCount
        ranges.lock(first, last, exclusive: false)
        do throws(VaultError) {
            let got = try readLocked(into: output, count: count, at: offset, mayLookFurther: false, scratch)
            ranges.unlock(first, last, exclusive: false)
            if let got { return got }
        } catch {
            ranges.unlock(first, last, exclusive: false)
            throw error
        }
        // A hole that nothing is known of yet: its voucher is beyond the range, so lock up to there.
        ranges.lock(first, RangeLock.endless, exclusive: false)
        defer { ranges.unlock(first, RangeLock.endless, exclusive: false) }
        return try readLocked(into: output, count: count, at: offset, mayLookFurther: true, scratch) ?? 0
    }

    /// Nil where a hole must be looked up and `mayLookFurther` is false.
    func readLocked(
        into output: UnsafeMutableRawPointer, count: Int, at offset: Int, mayLookFurther: Bool, _ scratch: Scratch
    ) throws(VaultError) -> Int? {
        let size = self.size
        guard offset < size else { return 0 }
        let end = min(offset + count, size)
        let first = offset / BlockGeometry.plainCount
        let last = (end - 1) / BlockGeometry.plainCount
        let finalBlock = BlockGeometry.blockCount(plainSize: size) - 1
        let start = BlockGeometry.offset(ofBlock: first)
        let stored =
            BlockGeometry.offset(ofBlock: last) + BlockGeometry.overhead
            + BlockGeometry.plainCount(ofBlock: last, plainSize: size) - start
        scratch.ahead = nil
        let got = try system { () throws(Errno) in
            try readStored(scratch.cipherText, count: stored, at: start)
        }
        guard got == stored else {
            throw .damaged(Damage(.short, block: first + got / BlockGeometry.storedCount))
        }
        let contexts = opening(scratch)
        var info = BlockInfo(rawValue: 0)
        for block in first...last {
            let image = scratch.cipherText + (block - first) * BlockGeometry.storedCount
            let plainCount = BlockGeometry.plainCount(ofBlock: block, plainSize: size)
            let from = max(offset - block * BlockGeometry.plainCount, 0)
            let to = min(end - block * BlockGeometry.plainCount, plainCount)
            let target = output + (block * BlockGeometry.plainCount + from - offset)
            if Self.isZero(image, count: plainCount) {
                guard block < finalBlock else { throw .damaged(Damage(.end, block: block)) }
                if knowledge.withLock({ $0.holes.run(holding: block) == nil }) {
                    guard mayLookFurther else { return nil }
                    _ = try resolveHole(block, scratch)
                    // Looking up a voucher opened blocks under the same key: nothing to set again.
                }
                target.initializeMemory(as: UInt8.self, repeating: 0, count: to - from)
                continue
            }
            // A whole block is decrypted where it is wanted; a part of one goes by the scratch.
            let isWhole = from == 0 && to == plainCount
            let plain = isWhole ? target : scratch.headBlock
            guard open(image, block: block, count: plainCount, to: plain, &info, with: contexts, scratch) else {
                throw .damaged(Damage(.block, block: block))
            }
            if block == finalBlock && !info.isFinal { throw .damaged(Damage(.end, block: block)) }
            if !isWhole { target.copyMemory(from: plain + from, byteCount: to - from) }
        }
        return end - offset
    }
}
