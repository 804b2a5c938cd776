import CofferCrypto

/// The record that is written most: blocks of one file. As ``LogRecord/blocks(first:isCut:predecessors:)`` by way of
/// ``LogSegment/append(_:payload:at:generation:ring:to:)``, byte for byte, without allocating.
extension LogSegment {
    /// Blocks that are about to be stored.
    public struct BlockChange {
        let first: Int
        let isCut: Bool
        let predecessors: UnsafeRawBufferPointer
        let images: UnsafeRawBufferPointer

        /// `predecessors` has ``LogRecord/predecessorCount`` bytes for each block, as the record has them; `images` are end to end.
        public init(first: Int, isCut: Bool, predecessors: UnsafeRawBufferPointer, images: UnsafeRawBufferPointer) {
            self.first = first
            self.isCut = isCut
            self.predecessors = predecessors
            self.images = images
        }

        /// The same as a record.
        public var record: LogRecord {
            let count = LogRecord.predecessorCount
            return .blocks(
                first: first, isCut: isCut,
                predecessors: stride(from: 0, to: predecessors.count, by: count).map { start in
                    predecessors[start] == 0
                        ? .stored(Array(predecessors[(start + 1)..<(start + count)])) : .absent
                })
        }

        fileprivate var descriptorCount: Int { 21 + predecessors.count }

        /// Bytes of the record with its payload.
        fileprivate var byteCount: Int {
            LogSegment.recordCount(descriptorCount: descriptorCount, payloadCount: images.count)
        }
    }

    /// Bytes of room that ``put(_:file:at:generation:ring:into:)`` takes before the record.
    private static let leadCount = 24

    /// Puts a record for file number `file`, which begins at `offset` of the segment, and its payload somewhere into `room`. Returns where; nil where it does not fit.
    public static func put(
        _ change: BlockChange, file: UInt32, at offset: Int, generation: [UInt8], ring: KeyRing,
        into room: UnsafeMutableRawBufferPointer
    ) -> UnsafeRawBufferPointer? {
        let images = change.images
        guard let base = room.baseAddress, let image = images.baseAddress,
            let predecessors = change.predecessors.baseAddress
        else { return nil }
        let blockCount = change.predecessors.count / LogRecord.predecessorCount
        let descriptorEnd = leadCount + 8 + change.descriptorCount
        let prefixes = blockCount * BlockGeometry.prefixCount
        guard max(leadCount + change.byteCount, descriptorEnd + prefixes) <= room.count else { return nil }
        // What the MAC is of, in its order; the record is in the midst of it.
        generation.withUnsafeBytes { if let bytes = $0.baseAddress { base.copyMemory(from: bytes, byteCount: 16) } }
        base.storeBytes(of: UInt64(offset).littleEndian, toByteOffset: 16, as: UInt64.self)
        let record = base + leadCount
        record.storeBytes(of: UInt32(change.descriptorCount).littleEndian, as: UInt32.self)
        record.storeBytes(of: UInt32(images.count).littleEndian, toByteOffset: 4, as: UInt32.self)
        record.storeBytes(of: UInt32(LogRecord.blocksKind).littleEndian, toByteOffset: 8, as: UInt32.self)
        record.storeBytes(of: file.littleEndian, toByteOffset: 12, as: UInt32.self)
        record.storeBytes(of: UInt64(change.first).littleEndian, toByteOffset: 16, as: UInt64.self)
        record.storeBytes(of: change.isCut ? 1 : 0, toByteOffset: 24, as: UInt8.self)
        record.storeBytes(of: UInt32(blockCount).littleEndian, toByteOffset: 25, as: UInt32.self)
        (record + 29).copyMemory(from: predecessors, byteCount: change.predecessors.count)
        var end = descriptorEnd
        for start in stride(from: 0, to: images.count, by: BlockGeometry.storedCount) {
            let count = min(BlockGeometry.prefixCount, images.count - start)
            (base + end).copyMemory(from: image + start, byteCount: count)
            end += count
        }
        withUnsafeTemporaryAllocation(byteCount: macCount, alignment: 16) { mac in
            Hash.keyed(ring.newestSubkey(.log), UnsafeRawBufferPointer(start: base, count: end), into: mac)
            if let bytes = mac.baseAddress { (base + descriptorEnd).copyMemory(from: bytes, byteCount: macCount) }
        }
        (base + descriptorEnd + macCount).copyMemory(from: image, byteCount: images.count)
        return UnsafeRawBufferPointer(start: record, count: change.byteCount)
    }
}
