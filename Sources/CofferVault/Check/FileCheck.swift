import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Looks at every block of one stored file, and goes on behind those that are damaged. One thread's.
package struct FileCheck: ~Copyable {
    /// Blocks side by side that have the same thing wrong with them.
    package struct BadBlocks: Equatable {
        package let kind: Damage.Kind
        package var blocks: Range<Int>
    }

    private static let blockLimit = 128
    private let disk: Disk
    private let ring: KeyRing
    private let scratch: Scratch
    private let key: UnsafeMutableRawPointer
    private var bad: [BadBlocks] = []
    /// The end is one that recovery set.
    private(set) var isReconstructed = false

    package init(disk: Disk, ring: KeyRing, scratch: Scratch) {
        self.disk = disk
        self.ring = ring
        self.scratch = scratch
        key = .allocate(byteCount: SecretKey.byteCount, alignment: 16)
    }

    deinit {
        wipe(key, count: SecretKey.byteCount)
        key.deallocate()
    }

    /// What is wrong with the file behind a descriptor. Without `contents` only its size, its header and its end are looked at. `onBytes` gets the stored bytes of
    /// each pass. Throws damage of the whole file: of a size that none can have, or of a header, unless one is given that is to be believed in its place.
    package mutating func run(
        _ descriptor: Int32, storedSize: Int, contents: Bool, believing known: FileHeader? = nil,
        onBytes: (Int) -> Void = { _ in }
    ) throws(VaultError) -> [BadBlocks] {
        bad = []
        isReconstructed = false
        guard let size = BlockGeometry.plainSize(cipherSize: storedSize) else { throw .damaged(Damage(.size)) }
        let raw = try system { () throws(Errno) in
            try disk.readBytes(descriptor, limit: FileHeader.byteCount)
        }
        let header: FileHeader
        do throws(FormatError) {
            header = if let known { known } else { try FileHeader(parsing: raw) }
        } catch {
            throw .damaged(Damage(.header))
        }
        guard let contentsKey = ring.subkey(.contents, epoch: header.epoch) else { throw .damaged(Damage(.header)) }
        header.deriveKey(
            contentsKey: contentsKey, into: UnsafeMutableRawBufferPointer(start: key, count: SecretKey.byteCount))
        let opening = scratch.cipher(header.cipher)
        opening.setOpeningKey(UnsafeRawPointer(key))
        let count = max(1, BlockGeometry.blockCount(plainSize: size))
        try pass(
            descriptor, from: contents ? 0 : count - 1, of: count, plainSize: size, storedSize: storedSize, opening,
            onBytes)
        return bad
    }

    /// Whether an image is that of a block under a header; its plaintext is not given out.
    func opens(
        _ image: UnsafeMutableRawPointer, block: Int, count: Int, under header: FileHeader
    ) throws(VaultError) -> Bool {
        guard let contentsKey = ring.subkey(.contents, epoch: header.epoch) else { return false }
        header.deriveKey(
            contentsKey: contentsKey, into: UnsafeMutableRawBufferPointer(start: key, count: SecretKey.byteCount))
        let opening = scratch.cipher(header.cipher)
        opening.setOpeningKey(UnsafeRawPointer(key))
        return open(image, block, count, opening) != nil
    }

    private mutating func pass(
        _ descriptor: Int32, from first: Int, of blockCount: Int, plainSize: Int, storedSize: Int,
        _ opening: BlockContexts, _ onBytes: (Int) -> Void
    ) throws(VaultError) {
        var block = first
        // Zero blocks that the next stored one has to vouch for.
        var holes = 0
        while block < blockCount {
            let skipped = try disk.blocksInHole(descriptor, from: block, of: blockCount)
            block += skipped
            holes += skipped
            let count = min(Self.blockLimit, blockCount - block)
            let offset = BlockGeometry.offset(ofBlock: block)
            let wanted = min(count * BlockGeometry.storedCount, storedSize - offset)
            let got = try read(descriptor, wanted, at: offset)
            for index in 0..<count {
                let number = block + index
                let plainCount = BlockGeometry.plainCount(ofBlock: number, plainSize: plainSize)
                let image = scratch.cipherText + index * BlockGeometry.storedCount
                if index * BlockGeometry.storedCount + plainCount + BlockGeometry.overhead > got {
                    add(.short, number..<(number + 1), behind: &holes)
                } else if FileContents.isZero(image, count: plainCount) {
                    holes += 1
                } else if let info = open(image, number, plainCount, opening) {
                    if holes > info.gap {
                        add(.hole, (number - holes)..<(number - info.gap))
                    }
                    holes = 0
                    if number == blockCount - 1 {
                        isReconstructed = info.isReconstructed
                        if !info.isFinal { add(.end, number..<(number + 1)) }
                    }
                } else {
                    add(.block, number..<(number + 1), behind: &holes)
                }
            }
            onBytes(got)
            block += count
        }
        if holes > 0 { add(.hole, (blockCount - holes)..<blockCount) }
    }

    /// A bad sector fails the whole read: then it is read block by block.
    private func read(_ descriptor: Int32, _ wanted: Int, at offset: Int) throws(VaultError) -> Int {
        do throws(Errno) {
            return try disk.read(descriptor, into: scratch.cipherText, count: wanted, at: offset)
        } catch {
            guard error == .ioError else { throw .system(error) }
        }
        var done = 0
        while done < wanted {
            let part = min(BlockGeometry.storedCount, wanted - done)
            do throws(Errno) {
                let got = try disk.read(descriptor, into: scratch.cipherText + done, count: part, at: offset + done)
                if got < part { return done + got }
            } catch {
                // Never zeros, which might pass for a hole.
                (scratch.cipherText + done).initializeMemory(as: UInt8.self, repeating: 0xFF, count: part)
            }
            done += part
        }
        return wanted
    }

    /// Zeros before a block that says nothing are vouched for by nobody.
    private mutating func add(_ kind: Damage.Kind, _ blocks: Range<Int>, behind holes: inout Int) {
        if holes > 0 { add(.hole, (blocks.lowerBound - holes)..<blocks.lowerBound) }
        holes = 0
        add(kind, blocks)
    }

    private mutating func add(_ kind: Damage.Kind, _ blocks: Range<Int>) {
        if let last = bad.last, last.kind == kind, last.blocks.upperBound == blocks.lowerBound {
            bad[bad.count - 1].blocks = last.blocks.lowerBound..<blocks.upperBound
        } else {
            bad.append(BadBlocks(kind: kind, blocks: blocks))
        }
    }

    private func open(
        _ image: UnsafeMutableRawPointer, _ block: Int, _ count: Int, _ opening: BlockContexts
    ) -> BlockInfo? {
        scratch.associatedData.storeBytes(of: UInt64(block).littleEndian, as: UInt64.self)
        (scratch.associatedData + 8).copyMemory(from: image + 12, byteCount: 4)
        let body = image + BlockGeometry.prefixCount
        let isGood = opening.open(
            body, count: count, nonce: image, associatedData: scratch.associatedData, associatedDataCount: 12,
            tag: body + count, output: scratch.spareBlock)
        guard isGood else { return nil }
        return BlockInfo(rawValue: UInt32(littleEndian: image.loadUnaligned(fromByteOffset: 12, as: UInt32.self)))
    }
}

extension Disk {
    /// How many whole blocks from one on are in a hole of a backing file; never the last.
    func blocksInHole(_ descriptor: Int32, from block: Int, of blockCount: Int) throws(VaultError) -> Int {
        if block == blockCount - 1 { return 0 }
        let start = BlockGeometry.offset(ofBlock: block)
        let data: Int?
        do throws(Errno) {
            data = try nextData(descriptor, from: start)
        } catch {
            // A file system that does not tell where its holes are.
            if error == .invalidArgument || error == .notSupported { return 0 }
            throw .system(error)
        }
        guard let data else { return blockCount - 1 - block }
        let whole = (max(start, data) - start) / BlockGeometry.storedCount
        return min(whole, blockCount - 1 - block)
    }
}
