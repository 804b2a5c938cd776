import CofferFormat
import SystemPackage

/// Cutting, and what becomes of a cut that fails half-way.
extension FileContents {
    /// Makes the file end at `newSize`, which is not 0 and less than it has. Only under a lock on everything.
    func cut(to newSize: Int, _ scratch: Scratch) throws(VaultError) {
        try drain()
        // Else a cut would make a shorter, valid file of one that an attacker cut or grew.
        try verifyEnd(scratch)
        let last = (newSize - 1) / BlockGeometry.plainCount
        let count = newSize - last * BlockGeometry.plainCount
        let oldCount = BlockGeometry.plainCount(ofBlock: last, plainSize: size)
        let gap: Int
        var wasHole = false
        switch try readBlock(last, to: scratch.tailBlock, image: scratch.oldImage, scratch) {
        case .sealed(let info): gap = info.gap
        case .zero:
            let run = try resolveHole(last, scratch)
            gap = last - run.floor
            wasHole = true
            scratch.tailBlock.initializeMemory(as: UInt8.self, repeating: 0, count: BlockGeometry.plainCount)
            scratch.oldImage.initializeMemory(as: UInt8.self, repeating: 0, count: BlockGeometry.storedCount)
        case .damaged: throw .damaged(Damage(.block, block: last))
        }
        drawNonces(1, scratch)
        seal(
            scratch.tailBlock, count: count, block: last, info: BlockInfo(final: true, gap: gap),
            nonce: scratch.nonces, to: scratch.probe, scratch)
        logged?.isCutUntrue.store(false, ordering: .relaxed)
        do throws(VaultError) {
            try store(
                scratch.probe, byteCount: count + BlockGeometry.overhead, firstBlock: last,
                cuttingTo: BlockGeometry.cipherSize(plainSize: newSize), scratch)
        } catch {
            // By way of the log the file was not touched.
            switch look(at: last, scratch) {
            case .zero: break
            case .sealed:
                // At a block's boundary the new end verifies where the old one was.
                knowledge.withLock {
                    if wasHole { $0.stale.formUnion($0.holes.fill(last, last)) }
                    $0.stale.insert(last)
                }
            case .damaged, nil:
                do throws(VaultError) {
                    if try !isUndone(to: newSize, last, oldCount: oldCount, scratch) { return }
                } catch {
                    // The log says that it is cut, and what the file has nobody knows.
                    logged?.isUnsure.store(true, ordering: .releasing)
                    throw error
                }
            }
            // Not before the old block is back.
            noteRefusedCut()
            throw error
        }
        noteCut(to: newSize, last)
    }

    /// What a block is; nil where that cannot be told.
    private func look(at block: Int, _ scratch: Scratch) -> StoredBlock? {
        do throws(VaultError) {
            return try readBlock(block, to: scratch.spareBlock, image: scratch.probe, scratch)
        } catch {
            return nil
        }
    }

    /// After a cut whose new end is stored, and no more: the old block, which is in `scratch.oldImage`, goes back. False where the disk refuses that too: then
    /// the file is cut, as was wanted, and what is behind the new end goes once it can. Whoever were told that it failed would go on believing in the old size,
    /// and the kernel with them, which shows zeros where the driver has nothing.
    private func isUndone(
        to newSize: Int, _ last: Int, oldCount: Int, _ scratch: Scratch
    ) throws(VaultError) -> Bool {
        do throws(VaultError) {
            try unlogged { () throws(VaultError) in
                try storeNow(
                    scratch.oldImage, byteCount: oldCount + BlockGeometry.overhead, firstBlock: last, cuttingTo: nil)
            }
            return true
        } catch {
            guard
                case .sealed = try readBlock(
                    last, to: scratch.spareBlock, image: scratch.probe, plainSize: newSize, scratch)
            else { throw error }
            noteCut(to: newSize, last)
            knowledge.withLock { $0.hasSurplus = true }
            return false
        }
    }

    private func noteCut(to newSize: Int, _ last: Int) {
        setSize(newSize)
        knowledge.withLock { knowledge in
            knowledge.holes.cut(to: last + 1)
            if last == 0 { knowledge.isFirstUnwritten = false }
            // The new last block keeps its gap, which may be too wide already.
            knowledge.stale = knowledge.stale.filter { $0 <= last }
            knowledge.densePrefix = min(knowledge.densePrefix, last + 1)
        }
    }
}
