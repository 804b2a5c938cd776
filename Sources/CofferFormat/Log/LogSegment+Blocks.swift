import CofferCrypto

/// The record that is written most: blocks of one file. As ``LogRecord/blocks(first:isCut:predecessors:)`` by way of
/// ``LogSegment/append(_:payload:at:generation:ring:to:)``, byte for byte, without allocating.
extension LogSegment {
    /// Blocks that are about to be stored.
    public struct BlockChange {
        let first: Int
        let isCut: Bool
        let predecessors: UnsafeRawBufferPointer
        /// The payload.
        public let images: UnsafeRawBufferPointer

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

    /// Bytes of room that ``put(_:file:at:generation:key:into:)`` takes before the record.
    private static let leadCount = 24

    /// Bytes of a change's record with its payload.
    public static func byteCount(of change: BlockChange) -> Int { change.byteCount }

    /// Puts a record for file number `file`, authenticated with the newest log key, which begins at `offset` of the segment, somewhere into `room`, and its payload behind it where there is room for that too.
    /// Returns where: without the payload, ``BlockChange/images`` follow it in the segment. Nil where even the record does not fit.
    public static func put(
        _ change: BlockChange, file: UInt32, at offset: Int, generation: SIMD16<UInt8>, key: SecretKey,
        into room: UnsafeMutableRawBufferPointer
    ) -> UnsafeRawBufferPointer? {
        let images = change.images
        guard let base = room.baseAddress, let image = images.baseAddress,
            let predecessors = change.predecessors.baseAddress
        else { return nil }
        let blockCount = change.predecessors.count / LogRecord.predecessorCount
        let descriptorEnd = leadCount + 8 + change.descriptorCount
        let prefixes = blockCount * BlockGeometry.prefixCount
        let headEnd = descriptorEnd + macCount
        guard max(headEnd, descriptorEnd + prefixes) <= room.count else { return nil }
        // What the MAC is of, in its order; the record is in the midst of it.
        base.storeBytes(of: generation, as: SIMD16<UInt8>.self)
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
            Hash.keyed(key, UnsafeRawBufferPointer(start: base, count: end), into: mac)
            if let bytes = mac.baseAddress { (base + descriptorEnd).copyMemory(from: bytes, byteCount: macCount) }
        }
        if leadCount + change.byteCount > room.count {
            return UnsafeRawBufferPointer(start: record, count: headEnd - leadCount)
        }
        (base + headEnd).copyMemory(from: image, byteCount: images.count)
        return UnsafeRawBufferPointer(start: record, count: change.byteCount)
    }
}
