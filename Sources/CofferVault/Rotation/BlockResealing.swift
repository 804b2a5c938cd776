import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// A file's stored bytes under another key: each block is opened, and sealed again with its info, so that holes, gaps and the end stay what they are.
struct BlockResealing: ~Copyable {
    /// Blocks that one pass takes: half a MiB.
    private static let blockLimit = 128

    private let disk: Disk
    private let scratch: Scratch
    private let plain: UnsafeMutableRawPointer
    private let output: UnsafeMutableRawPointer
    private let key: UnsafeMutableRawPointer

    init(disk: Disk, scratch: Scratch) {
        self.disk = disk
        self.scratch = scratch
        let page = 4096
        plain = .allocate(byteCount: Self.blockLimit * BlockGeometry.plainCount, alignment: page)
        output = .allocate(byteCount: Self.blockLimit * BlockGeometry.storedCount, alignment: page)
        key = .allocate(byteCount: 2 * SecretKey.byteCount, alignment: 16)
    }

    deinit {
        wipe(plain, count: Self.blockLimit * BlockGeometry.plainCount)
        wipe(key, count: 2 * SecretKey.byteCount)
        plain.deallocate()
        output.deallocate()
        key.deallocate()
    }

    /// What the key of a file is made from.
    private func setKey(of header: FileHeader, _ ring: KeyRing, at offset: Int) throws(VaultError) -> UnsafeRawPointer {
        guard let contents = ring.subkey(.contents, epoch: header.epoch) else { throw .damaged(Damage(.header)) }
        let place = key + offset
        header.deriveKey(
            contentsKey: contents,
            into: UnsafeMutableRawBufferPointer(start: place, count: SecretKey.byteCount))
        return UnsafeRawPointer(place)
    }

    /// Writes to `target`, an empty file, what `source` holds, whose stored size and header are given. `onBlocks` gets the bytes of each pass. Throws damage
    /// for what does not verify, or is zeros that nothing vouches for.
    func reseal(
        _ source: Int32, storedSize: Int, _ old: FileHeader, to target: Int32, _ new: FileHeader, _ ring: KeyRing,
        onBlocks: (Int) -> Void
    ) throws(VaultError) {
        let opening = scratch.cipher(old.cipher)
        let sealing = scratch.cipher(new.cipher)
        opening.setOpeningKey(try setKey(of: old, ring, at: 0))
        sealing.setSealingKey(try setKey(of: new, ring, at: SecretKey.byteCount))
        try system { () throws(Errno) in try disk.write(target, bytes: new.bytes) }
        try pass(source, storedSize: storedSize, opening) { (first, stored) throws(VaultError) in
            Random.fill(
                UnsafeMutableRawBufferPointer(start: scratch.nonces, count: stored.count * BlockCipher.nonceCount))
            var runStart: Int?
            for index in 0...stored.count {
                let count: Int? = index < stored.count ? stored[index] : nil
                if let count {
                    if runStart == nil { runStart = index }
                    let input = scratch.cipherText + index * BlockGeometry.storedCount
                    let image = output + index * BlockGeometry.storedCount
                    image.copyMemory(
                        from: scratch.nonces + index * BlockCipher.nonceCount, byteCount: BlockCipher.nonceCount)
                    (image + 12).copyMemory(from: input + 12, byteCount: 4)
                    setAssociatedData(first + index, input)
                    let body = image + BlockGeometry.prefixCount
                    sealing.seal(
                        plain + index * BlockGeometry.plainCount, count: count, nonce: image,
                        associatedData: scratch.associatedData, associatedDataCount: 12, output: body,
                        tag: body + count)
                    continue
                }
                guard let start = runStart else { continue }
                runStart = nil
                let byteCount =
                    (index - 1 - start) * BlockGeometry.storedCount + (stored[index - 1] ?? 0) + BlockGeometry.overhead
                try system { () throws(Errno) in
                    try disk.write(
                        target, output + start * BlockGeometry.storedCount, count: byteCount,
                        at: BlockGeometry.offset(ofBlock: first + start))
                }
            }
            onBlocks(stored.count * BlockGeometry.storedCount)
        }
    }

    /// Opens all blocks in order, and gives `body` the first one's number and, for each, its plaintext size, or nil for a hole. The images are in the scratch's
    /// room for ciphertext, the plaintext in `plain`.
    private func pass(
        _ source: Int32, storedSize: Int, _ opening: BlockContexts,
        _ body: (Int, [Int?]) throws(VaultError) -> Void
    ) throws(VaultError) {
        guard let size = BlockGeometry.plainSize(cipherSize: storedSize) else { throw .damaged(Damage(.size)) }
        let blockCount = max(1, BlockGeometry.blockCount(plainSize: size))
        var block = 0
        var holes = 0
        while block < blockCount {
            let skipped = try disk.blocksInHole(source, from: block, of: blockCount)
            block += skipped
            holes += skipped
            let count = min(Self.blockLimit, blockCount - block)
            let wanted = min(count * BlockGeometry.storedCount, storedSize - BlockGeometry.offset(ofBlock: block))
            let got = try system { () throws(Errno) in
                try disk.read(
                    source, into: scratch.cipherText, count: wanted, at: BlockGeometry.offset(ofBlock: block))
            }
            guard got == wanted else { throw .damaged(Damage(.short, block: block)) }
            var stored: [Int?] = []
            stored.reserveCapacity(count)
            for index in 0..<count {
                let image = scratch.cipherText + index * BlockGeometry.storedCount
                let number = block + index
                let plainCount = BlockGeometry.plainCount(ofBlock: number, plainSize: size)
                if FileContents.isZero(image, count: plainCount) {
                    holes += 1
                    stored.append(nil)
                    continue
                }
                guard open(image, number, count: plainCount, to: plain + index * BlockGeometry.plainCount, opening)
                else { throw .damaged(Damage(.block, block: number)) }
                let info = BlockInfo(rawValue: image.loadUnaligned(fromByteOffset: 12, as: UInt32.self).littleEndian)
                guard holes <= info.gap else { throw .damaged(Damage(.hole, block: number - holes)) }
                guard number < blockCount - 1 || info.isFinal else { throw .damaged(Damage(.end, block: number)) }
                holes = 0
                stored.append(plainCount)
            }
            try body(block, stored)
            block += count
        }
        if holes > 0 { throw .damaged(Damage(.end, block: blockCount - 1)) }
    }

    private func open(
        _ image: UnsafeMutableRawPointer, _ block: Int, count: Int, to target: UnsafeMutableRawPointer,
        _ opening: BlockContexts
    ) -> Bool {
        setAssociatedData(block, image)
        let body = image + BlockGeometry.prefixCount
        return opening.open(
            body, count: count, nonce: image, associatedData: scratch.associatedData, associatedDataCount: 12,
            tag: body + count, output: target)
    }

    /// u64(block) ‖ the info word of a stored block.
    private func setAssociatedData(_ block: Int, _ image: UnsafeMutableRawPointer) {
        scratch.associatedData.storeBytes(of: UInt64(block).littleEndian, as: UInt64.self)
        (scratch.associatedData + 8).copyMemory(from: image + 12, byteCount: 4)
    }
}
