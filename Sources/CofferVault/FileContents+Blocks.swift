import CofferCrypto
import CofferFormat
import SystemPackage

/// What a stored block turned out to be.
enum StoredBlock: Equatable {
    /// It verified; its plaintext is where it was asked to be.
    case sealed(BlockInfo)
    /// All its bytes are zero: a hole, if something vouches for it.
    case zero
    /// Neither.
    case damaged
}

/// Single blocks: sealing, opening, and the one way by which a stored block is replaced.
extension FileContents {
    /// Fills `scratch.nonces` with fresh random nonces for `count` blocks: one draw for a request.
    func drawNonces(_ count: Int, _ scratch: Scratch) {
        Random.fill(UnsafeMutableRawBufferPointer(start: scratch.nonces, count: count * BlockCipher.nonceCount))
    }

    /// Contexts with the key set, for sealing one block after the other.
    @inline(__always)
    func sealing(_ scratch: Scratch) -> BlockContexts {
        let contexts = scratch.cipher(header.cipher)
        contexts.setSealingKey(fileKey)
        return contexts
    }

    /// Contexts with the key set, for opening one block after the other.
    @inline(__always)
    func opening(_ scratch: Scratch) -> BlockContexts {
        let contexts = scratch.cipher(header.cipher)
        contexts.setOpeningKey(fileKey)
        return contexts
    }

    /// Seals one block. `count` is 4096 for every block but the last.
    ///
    ///     output: nonce 12 │ info 4 │ ciphertext `count` │ tag 16
    @inline(__always)
    func seal(
        _ plain: UnsafeRawPointer, count: Int, block: Int, info: BlockInfo, nonce: UnsafeRawPointer,
        to output: UnsafeMutableRawPointer, with contexts: BlockContexts? = nil, _ scratch: Scratch
    ) {
        let cipher = contexts ?? sealing(scratch)
        output.copyMemory(from: nonce, byteCount: BlockCipher.nonceCount)
        output.storeBytes(of: info.rawValue.littleEndian, toByteOffset: 12, as: UInt32.self)
        setAssociatedData(block, info, scratch)
        let body = output + BlockGeometry.prefixCount
        cipher.seal(
            plain, count: count, nonce: nonce, associatedData: scratch.associatedData, associatedDataCount: 12,
            output: body, tag: body + count)
    }

    /// Opens one block to `plain` (`count` bytes) and tells its info; false where it does not verify.
    @inline(__always)
    func open(
        _ stored: UnsafeRawPointer, block: Int, count: Int, to plain: UnsafeMutableRawPointer, _ info: inout BlockInfo,
        with contexts: BlockContexts? = nil, _ scratch: Scratch
    ) -> Bool {
        let cipher = contexts ?? opening(scratch)
        info = BlockInfo(rawValue: UInt32(littleEndian: stored.loadUnaligned(fromByteOffset: 12, as: UInt32.self)))
        setAssociatedData(block, info, scratch)
        let body = stored + BlockGeometry.prefixCount
        return cipher.open(
            body, count: count, nonce: stored, associatedData: scratch.associatedData, associatedDataCount: 12,
            tag: body + count, output: plain)
    }

    @inline(__always)
    private func setAssociatedData(_ block: Int, _ info: BlockInfo, _ scratch: Scratch) {
        scratch.associatedData.storeBytes(of: UInt64(block).littleEndian, as: UInt64.self)
        scratch.associatedData.storeBytes(of: info.rawValue.littleEndian, toByteOffset: 8, as: UInt32.self)
    }

    /// Whether a stored block of `count` plaintext bytes is all zeros.
    @inline(__always)
    static func isZero(_ stored: UnsafeRawPointer, count: Int) -> Bool {
        if stored.loadUnaligned(as: UInt64.self) != 0 { return false }
        var offset = 8
        let total = count + BlockGeometry.overhead
        while offset + 8 <= total {
            if stored.loadUnaligned(fromByteOffset: offset, as: UInt64.self) != 0 { return false }
            offset += 8
        }
        while offset < total {
            if stored.load(fromByteOffset: offset, as: UInt8.self) != 0 { return false }
            offset += 1
        }
        return true
    }

    /// Reads one block: its plaintext goes to `plain` (4096 bytes of room), its image to `image` (4128 bytes of room). `plainSize` is the size that
    /// the block was stored under, where that is not the present one.
    func readBlock(
        _ block: Int, to plain: UnsafeMutableRawPointer, image: UnsafeMutableRawPointer, plainSize: Int? = nil,
        _ scratch: Scratch
    ) throws(VaultError) -> StoredBlock {
        let count = BlockGeometry.plainCount(ofBlock: block, plainSize: plainSize ?? size)
        let stored = count + BlockGeometry.overhead
        let got = try system { () throws(Errno) in
            try readStored(image, count: stored, at: BlockGeometry.offset(ofBlock: block))
        }
        guard got == stored else { throw .damaged(Damage(.short, block: block)) }
        if Self.isZero(image, count: count) { return .zero }
        var info = BlockInfo(rawValue: 0)
        return open(image, block: block, count: count, to: plain, &info, scratch) ? .sealed(info) : .damaged
    }

    /// Stores sealed blocks, and then cuts the file to `cutSize` bytes of ciphertext where one is given. Every write of a stored block goes through here,
    /// whether it adds or replaces: where there is an intent log, that comes first. `before`: what the first of the blocks begins with now (nonce and info), for
    /// who knows.
    func store(
        _ images: UnsafeRawPointer, byteCount: Int, firstBlock: Int, cuttingTo cutSize: Int? = nil,
        before: UnsafeRawPointer? = nil, _ scratch: Scratch
    ) throws(VaultError) {
        touch()
        guard let lentLog, let lentLogged else {
            return try storeNow(images, byteCount: byteCount, firstBlock: firstBlock, cuttingTo: cutSize)
        }
        try lentLog.lend { log throws(VaultError) in
            try lentLogged.lend { logged throws(VaultError) in
                try storeLogged(
                    images, byteCount: byteCount, firstBlock: firstBlock, cuttingTo: cutSize, before: before, log,
                    logged, scratch)
            }
        }
    }

    func storeNow(
        _ images: UnsafeRawPointer, byteCount: Int, firstBlock: Int, cuttingTo cutSize: Int?
    ) throws(VaultError) {
        try system { () throws(Errno) in
            try disk.write(descriptor, images, count: byteCount, at: BlockGeometry.offset(ofBlock: firstBlock))
            if let cutSize { try disk.truncate(descriptor, to: cutSize) }
        }
    }

    /// Verifies that the present last block may be last, before anything builds on it: a write must never seal an attacker's cut
    /// as genuine. Only under a lock that covers the last block.
    func verifyEnd(_ scratch: Scratch) throws(VaultError) {
        if knowledge.withLock({ $0.isEndVerified }) { return }
        let last = BlockGeometry.blockCount(plainSize: size) - 1
        switch try readBlock(last, to: scratch.spareBlock, image: scratch.probe, scratch) {
        case .sealed(let info) where info.isFinal: knowledge.withLock { $0.isEndVerified = true }
        case .sealed, .zero: throw .damaged(Damage(.end, block: last))
        case .damaged: throw .damaged(Damage(.block, block: last))
        }
    }
}
