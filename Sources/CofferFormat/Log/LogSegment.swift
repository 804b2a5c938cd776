import CofferCrypto

/// A segment of the intent log: one file, written from its beginning to its end, then begun anew.
///
///     offset 0                                                       48        64
///     ┌────────┬─────────┬───────┬─────┬───────┬────────────┬────────┬────────┐┌──────────┐
///     │ "COFL" │ version │ epoch │  0  │ order │ generation │ place  │  MAC   ││ record 0 │ …
///     │   4    │    1    │   1   │  2  │   8   │     16     │   16   │   16   ││          │
///     └────────┴─────────┴───────┴─────┴───────┴────────────┴────────┴────────┘└──────────┘
///
///     record: │ descriptor count u32 │ payload count u32 │ descriptor │ MAC 16 │ payload │
///
/// The MACs are BLAKE2b-128 under the epoch's log key: of the first 48 bytes, and of generation ‖ u64(the record's offset) ‖ both counts ‖ descriptor ‖ the
/// first 16 bytes of each block of the payload. So what an earlier generation left behind never verifies, nor does a record in another place. A payload is sealed
/// blocks; that they are those that are meant the MAC says, and that they are whole they say themselves.
///
/// The place is a hash of where the segment was begun, so that a log that was copied along with a vault, or restored, is known as one that may be older
/// than the files beside it.
public enum LogSegment {
    /// Bytes before the first record.
    public static let headerCount = 64
    /// Bytes of a MAC.
    static let macCount = 16
    private static let markCount = 8
    private static let magic: [UInt8] = Array("COFL".utf8)
    private static let countsCount = 8

    /// What a segment's header says.
    public struct Header: Equatable, Sendable {
        /// Segments with a lower number are older.
        public let order: UInt64
        /// 16 random bytes, drawn each time the segment is begun.
        public let generation: [UInt8]
        /// Where that was: 16 bytes of ``LogSegment/place(root:segment:made:)``.
        public let place: [UInt8]
        /// Which of the ring's keys its MACs are under.
        public let epoch: UInt8

        /// A header from its parts.
        public init(order: UInt64, generation: [UInt8], place: [UInt8], epoch: UInt8) {
            precondition(generation.count == 16 && place.count == 16)
            self.order = order
            self.epoch = epoch
            self.generation = generation
            self.place = place
        }
    }

    /// A segment that was read: its header and the records that verify, up to the first that does not.
    public struct Contents: Sendable {
        /// The header.
        public let header: Header
        /// The records in their order.
        public let records: [Record]
        /// Where the next one would begin.
        public let end: Int
    }

    /// A record that verified.
    public struct Record: Sendable {
        /// Where it begins.
        public let start: Int
        /// The file's number in the segment.
        public let file: UInt32
        /// What it says.
        public let record: LogRecord
        /// Where its payload is among the segment's bytes.
        public let payload: Range<Int>
    }

    /// What stands for a place: BLAKE2b-128(-; "coffer.log.place" ‖ u64(the root's inode number) ‖ u64(the segment's) ‖ u64(seconds) ‖ u64(nanoseconds) when
    /// the segment was made, 0 where the file system does not say). None of these changes with a reboot.
    public static func place(root: UInt64, segment: UInt64, made: (seconds: UInt64, nanoseconds: UInt64)) -> [UInt8] {
        var hash = Hash(outputCount: 16)
        hash.update("coffer.log.place")
        for number in [root, segment, made.seconds, made.nanoseconds] {
            withUnsafeBytes(of: number.littleEndian) { hash.update($0) }
        }
        return hash.finish()
    }

    /// An id for a file that is made while a segment of this generation is active: 8 random bytes, and what only this generation makes of them. So a file that
    /// was made since the segment was begun is known by its own header.
    public static func newFileID(generation: [UInt8], ring: KeyRing) -> [UInt8] {
        let random = Random.bytes(FileHeader.fileIDCount - markCount)
        return random + mark(random, generation, ring.newestSubkey(.log))
    }

    /// Whether a file's id is one that was made for this generation.
    public static func isNew(_ fileID: [UInt8], header: Header, ring: KeyRing) -> Bool {
        guard let key = ring.subkey(.log, epoch: header.epoch) else { return false }
        return constantTimeEqual(
            mark(Array(fileID.dropLast(markCount)), header.generation, key), fileID.suffix(markCount))
    }

    private static func mark(_ random: [UInt8], _ generation: [UInt8], _ key: SecretKey) -> [UInt8] {
        Array(mac(key, Array("coffer.log.new".utf8) + generation + random)[..<markCount])
    }

    /// The bytes of a header.
    public static func encode(_ header: Header, ring: KeyRing) -> [UInt8] {
        var bytes = magic + [1, header.epoch, 0, 0]
        withUnsafeBytes(of: header.order.littleEndian) { bytes += Array($0) }
        bytes += header.generation + header.place
        return bytes + mac(ring.newestSubkey(.log), bytes)
    }

    /// Adds what comes before a record's payload, for a record that begins at `offset`.
    public static func append(
        _ descriptor: [UInt8], payload: UnsafeRawBufferPointer?, at offset: Int, generation: [UInt8], ring: KeyRing,
        to bytes: inout [UInt8]
    ) {
        let start = bytes.count
        for count in [UInt32(descriptor.count), UInt32(payload?.count ?? 0)] {
            withUnsafeBytes(of: count.littleEndian) { bytes.append(contentsOf: $0) }
        }
        bytes.append(contentsOf: descriptor)
        var hash = Hash(key: ring.newestSubkey(.log), outputCount: macCount)
        hash.update(generation)
        withUnsafeBytes(of: UInt64(offset).littleEndian) { hash.update($0) }
        bytes.withUnsafeBytes { hash.update(UnsafeRawBufferPointer(rebasing: $0[start...])) }
        addBeginnings(of: payload, to: &hash)
        bytes.append(contentsOf: hash.finish())
    }

    /// As above, alone.
    public static func encode(
        _ descriptor: [UInt8], payload: UnsafeRawBufferPointer?, at offset: Int, generation: [UInt8], ring: KeyRing
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        append(descriptor, payload: payload, at: offset, generation: generation, ring: ring, to: &bytes)
        return bytes
    }

    /// The first bytes of each block: its nonce and info, which no two sealed blocks share.
    private static func addBeginnings(of payload: UnsafeRawBufferPointer?, to hash: inout Hash) {
        guard let payload else { return }
        for start in stride(from: 0, to: payload.count, by: BlockGeometry.storedCount) {
            let end = min(start + BlockGeometry.prefixCount, payload.count)
            hash.update(UnsafeRawBufferPointer(rebasing: payload[start..<end]))
        }
    }

    /// Bytes of a record with these counts.
    public static func recordCount(descriptorCount: Int, payloadCount: Int) -> Int {
        countsCount + descriptorCount + macCount + payloadCount
    }

    /// Reads a segment; nil where it has no header that verifies: it holds nothing.
    public static func parse(_ bytes: UnsafeRawBufferPointer, ring: KeyRing) -> Contents? {
        guard bytes.count >= headerCount else { return nil }
        let head = Array(bytes[..<48])
        guard Array(head[..<4]) == magic, head[4] == 1, let key = ring.subkey(.log, epoch: head[5]),
            constantTimeEqual(mac(key, head), Array(bytes[48..<headerCount]))
        else { return nil }
        let header = Header(
            order: number(head[8..<16]), generation: Array(head[16..<32]), place: Array(head[32..<48]),
            epoch: head[5])
        var records: [Record] = []
        var offset = headerCount
        while let next = parseRecord(bytes, at: &offset, header, key) { records.append(next) }
        return Contents(header: header, records: records, end: offset)
    }

    private static func parseRecord(
        _ bytes: UnsafeRawBufferPointer, at offset: inout Int, _ header: Header, _ key: SecretKey
    ) -> Record? {
        let start = offset + countsCount
        guard start <= bytes.count else { return nil }
        let descriptorCount = Int(number(bytes[offset..<(offset + 4)]))
        let payloadCount = Int(number(bytes[(offset + 4)..<start]))
        let total = recordCount(descriptorCount: descriptorCount, payloadCount: payloadCount)
        guard descriptorCount > 0, total <= bytes.count - offset else { return nil }
        let end = start + descriptorCount
        let descriptor = Array(bytes[start..<end])
        let payload = UnsafeRawBufferPointer(rebasing: bytes[(end + macCount)..<(offset + total)])
        var hash = Hash(key: key, outputCount: macCount)
        hash.update(header.generation)
        withUnsafeBytes(of: UInt64(offset).littleEndian) { hash.update($0) }
        hash.update(UnsafeRawBufferPointer(rebasing: bytes[offset..<end]))
        addBeginnings(of: payload, to: &hash)
        guard constantTimeEqual(hash.finish(), Array(bytes[end..<(end + macCount)])) else { return nil }
        // One that verifies and means nothing was written by a newer version: what follows it cannot be understood either.
        do throws(FormatError) {
            let (file, record) = try LogRecord.parse(descriptor)
            defer { offset += total }
            return Record(
                start: offset, file: file, record: record, payload: (end + macCount)..<(end + macCount + payloadCount))
        } catch {
            return nil
        }
    }

    private static func number(_ bytes: some BidirectionalCollection<UInt8>) -> UInt64 {
        bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func mac(_ key: SecretKey, _ bytes: [UInt8]) -> [UInt8] {
        var hash = Hash(key: key, outputCount: macCount)
        hash.update(bytes)
        return hash.finish()
    }
}
