import CofferCrypto
import CofferFormat
import SystemPackage

/// Cutting a file to nothing: it gets a new salt, so a new key, and an empty block, so that nothing of what it held can be taken for what it will hold.
extension FileContents {
    /// Replaces the contents by nothing. Only under a lock on everything, or while nobody else has the object. On an error the file is as it was. What the
    /// system would not store of an empty file is stored later. With `ofNothing` the file has no bytes on the disk, and nobody else could give it any.
    func makeEmpty(
        _ scratch: Scratch, as newHeader: FileHeader? = nil, ofNothing: Bool = false
    ) throws(VaultError) {
        try drain()
        if newHeader == nil, let logged { try makeSure(logged) }
        let old = header
        // What the disk has, which may be no header at all.
        let found =
            ofNothing
            ? [] : try system { () throws(Errno) in try disk.readBytes(descriptor, limit: FileHeader.byteCount) }
        let oldBytes = found + [UInt8](repeating: 0, count: FileHeader.byteCount - found.count)
        let oldKey = scratch.spareBlock
        oldKey.copyMemory(from: fileKey, byteCount: SecretKey.byteCount)
        defer { wipe(oldKey, count: SecretKey.byteCount) }
        header = newHeader ?? header.emptied(cipher: newCipher, epoch: ring.newest)
        do throws(VaultError) {
            try deriveKey()
            sealEmpty(scratch)
            if newHeader != nil {
                // Of a file that is only being made there is nothing that could be lost.
                logged?.hasUnloggedChanges.store(true, ordering: .relaxed)
                try storeEmpty(scratch, ofNothing: ofNothing)
            } else {
                try announcing(
                    .empty(oldHeader: oldBytes, newHeader: header.bytes),
                    payload: UnsafeRawBufferPointer(
                        start: scratch.probe + FileHeader.byteCount, count: BlockGeometry.overhead),
                    isPromiseEnding: true, oldHeader: old.bytes
                ) { () throws(VaultError) in try cutToNothing(scratch) }
            }
        } catch {
            header = old
            try changeKey { () throws(VaultError) in fileKey.copyMemory(from: oldKey, byteCount: SecretKey.byteCount) }
            throw error
        }
        setSize(0)
        knowledge.withLock { $0 = Knowledge(isEmptyUnstored: $0.isEmptyUnstored, isEndVerified: true) }
    }

    /// The system may refuse it, and everything is as it was.
    private func cutToNothing(_ scratch: Scratch) throws(VaultError) {
        let oldCount = try system { () throws(Errno) in
            try disk.read(descriptor, into: scratch.oldImage, count: BlockGeometry.emptyFileCount, at: 0)
        }
        do throws(VaultError) {
            try storeEmpty(scratch)
        } catch {
            knowledge.withLock { $0.isEmptyUnstored = true }
            do throws(Errno) {
                try disk.write(descriptor, scratch.oldImage, count: oldCount, at: 0)
            } catch {
                // The disk takes neither the new nor the old. Where it does not even say what it has, that is the new, as far as anybody knows.
                if isUntouched(oldCount, scratch) {
                    knowledge.withLock { $0.isEmptyUnstored = false }
                    throw .system(error)
                }
                // Empty it is, as was wanted, once that can be stored.
                return
            }
            knowledge.withLock { $0.isEmptyUnstored = false }
            throw error
        }
    }

    /// Whether the file still begins with what is in `scratch.oldImage`; false too where that cannot be told.
    private func isUntouched(_ count: Int, _ scratch: Scratch) -> Bool {
        let old = Array(UnsafeRawBufferPointer(start: scratch.oldImage, count: count))
        do throws(Errno) {
            return try disk.readBytes(descriptor, limit: count) == old
        } catch {
            return false
        }
    }

    /// Header and empty block in `scratch.probe`.
    private func sealEmpty(_ scratch: Scratch) {
        let image = scratch.probe
        image.copyMemory(from: header.bytes, byteCount: FileHeader.byteCount)
        drawNonces(1, scratch)
        seal(
            scratch.zeros, count: 0, block: 0, info: BlockInfo(final: true, gap: 0), nonce: scratch.nonces,
            to: image + FileHeader.byteCount, scratch)
    }

    private func storeEmpty(_ scratch: Scratch, ofNothing: Bool = false) throws(VaultError) {
        try system { () throws(Errno) in
            try disk.write(descriptor, scratch.probe, count: BlockGeometry.emptyFileCount, at: 0)
            if !ofNothing { try disk.truncate(descriptor, to: BlockGeometry.emptyFileCount) }
        }
    }

    /// Stores what says that the file is empty, where that failed before. Only under a lock on everything.
    func finishEmptying(_ scratch: Scratch) throws(VaultError) {
        guard knowledge.withLock({ $0.isEmptyUnstored }) else { return }
        sealEmpty(scratch)
        noteCutOff()
        try unlogged { () throws(VaultError) in try storeEmpty(scratch) }
        knowledge.withLock { $0.isEmptyUnstored = false }
    }
}
