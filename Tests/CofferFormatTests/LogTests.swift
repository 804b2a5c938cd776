import CofferCrypto
import Randomness
import Testing

@testable import CofferFormat

/// The intent log's bytes.
struct LogTests {
    private static let prefix = [UInt8](1...16)
    private static let header = [UInt8](repeating: 7, count: 32)
    private static let records: [LogRecord] = [
        .file(header: header, path: []),
        .file(header: header, path: [StoredName("cAbc"), StoredName("coffer.long.x")]),
        .blocks(first: 0, isCut: false, predecessors: [.absent]),
        .blocks(first: 1 << 40, isCut: true, predecessors: [.stored(prefix), .absent, .stored(prefix)]),
        .grow(from: 64), .empty(oldHeader: header, newHeader: header.reversed()), .punch(first: 3, limit: 9),
        .making(since: -4, path: [StoredName("cAbc")]),
        .synced(size: 4160), .moved(from: [StoredName("c")], to: [StoredName([0xFF, 0x01])]), .revoke(first: 12),
    ]

    private let ring: KeyRing

    init() throws { ring = try KeyRing.random() }

    @Test func everyRecordReadsAsItWasWritten() throws {
        for (number, record) in Self.records.enumerated() {
            let number = record.isOfNoFile ? 0 : UInt32(number)
            let (file, read) = try LogRecord.parse(record.encoded(file: number))
            #expect(file == number)
            #expect(read == record)
        }
    }

    /// The way without allocating writes what the other one does.
    @Test func blocksArePutAsTheyAreAppended() throws {
        var random = SeededRandom(seed: 11)
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
        defer { room.deallocate() }
        for blockCount in [1, 2, 7, 12] {
            for lastCount in [BlockGeometry.overhead, 100, BlockGeometry.storedCount] {
                let images = (0..<((blockCount - 1) * BlockGeometry.storedCount + lastCount)).map { _ in
                    UInt8(truncatingIfNeeded: random.next())
                }
                let predecessors = (0..<blockCount).flatMap { block -> [UInt8] in
                    block % 3 == 1
                        ? [1] + [UInt8](repeating: 0, count: 16)
                        : [0] + (0..<16).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                }
                let generation = (0..<16).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                let (file, offset) = (UInt32(blockCount), Int(random.next() % (1 << 26)))
                try images.withUnsafeBytes { images in
                    try predecessors.withUnsafeBytes { predecessors in
                        let change = LogSegment.BlockChange(
                            first: 1 << 33, isCut: lastCount == 100, predecessors: predecessors, images: images)
                        let put = try #require(
                            LogSegment.put(
                                change, file: file, at: offset, generation: SIMD16(generation),
                                key: ring.newestSubkey(.log), into: room))
                        let lead = LogSegment.encode(
                            change.record.encoded(file: file), payload: images, at: offset, generation: generation,
                            ring: ring)
                        #expect(Array(put) == lead + Array(images))
                        let (number, record) = try LogRecord.parse(change.record.encoded(file: file))
                        #expect(number == file && record == change.record)
                        // Where there is no room for the images they are left out, and nothing is written beyond it.
                        for (size, expected) in [(24 + put.count - 1, lead), (24 + lead.count - 1, nil)] {
                            let small = UnsafeMutableRawBufferPointer(rebasing: room[..<size])
                            room[size] = 0xA5
                            let head = LogSegment.put(
                                change, file: file, at: offset, generation: SIMD16(generation),
                                key: ring.newestSubkey(.log), into: small)
                            #expect(head.map { Array($0) } == expected)
                            #expect(room[size] == 0xA5)
                        }
                    }
                }
            }
        }
    }

    /// What reads at all is written as the same bytes again; what was cut, grown or edited is refused or means something else.
    @Test func editedRecordsAreRefusedOrMeanSomethingElse() throws {
        var random = SeededRandom(seed: 5)
        for record in Self.records {
            let number: UInt32 = record.isOfNoFile ? 0 : 1
            let bytes = record.encoded(file: number)
            for count in 0..<bytes.count {
                #expect(throws: FormatError.self) { try LogRecord.parse(Array(bytes[..<count])) }
            }
            #expect(throws: FormatError.self) { try LogRecord.parse(bytes + [0]) }
            for _ in 0..<500 {
                var edited = bytes
                edited[Int(random.next() % UInt64(edited.count))] ^= UInt8(1 << (random.next() % 8))
                if let (file, read) = try? LogRecord.parse(edited) {
                    #expect(file != number || read != record)
                    #expect(read.encoded(file: file) == edited)
                }
            }
        }
        for _ in 0..<20_000 {
            let bytes = (0..<Int(random.next() % 80)).map { _ in UInt8(truncatingIfNeeded: random.next() % 12) }
            if let (file, read) = try? LogRecord.parse(bytes) {
                #expect(read.encoded(file: file) == bytes)
            }
        }
    }

    @Test(arguments: [".", "..", "a/b", "", String(repeating: "x", count: 256)])
    func pathsLeadNowhereElse(name: String) throws {
        let bytes = LogRecord.making(since: 0, path: [StoredName(name)]).encoded(file: 0)
        #expect(throws: FormatError.self) { try LogRecord.parse(bytes) }
    }

    // MARK: Segments

    /// A segment with some records, and where each of them begins.
    private func segment(generation: [UInt8] = [UInt8](repeating: 1, count: 16)) -> (bytes: [UInt8], starts: [Int]) {
        let place = LogSegment.place(root: 2, segment: 3, made: (4, 5))
        var bytes = LogSegment.encode(
            .init(order: 9, generation: generation, place: place, epoch: ring.newest), ring: ring)
        var starts: [Int] = []
        for (number, record) in Self.records.enumerated() {
            starts.append(bytes.count)
            let payload = number % 3 == 0 ? [] : [UInt8](repeating: UInt8(number), count: 4128 + 40)
            bytes += payload.withUnsafeBytes {
                LogSegment.encode(
                    record.encoded(file: record.isOfNoFile ? 0 : 5), payload: $0, at: bytes.count,
                    generation: generation, ring: ring)
            }
            bytes += payload
        }
        return (bytes, starts)
    }

    private func parse(_ bytes: [UInt8], ring other: KeyRing? = nil) -> LogSegment.Contents? {
        bytes.withUnsafeBytes { LogSegment.parse($0, ring: other ?? ring) }
    }

    @Test func aSegmentReadsAsItWasWritten() throws {
        let (bytes, starts) = segment()
        let contents = try #require(parse(bytes + [UInt8](repeating: 0, count: 5000)))
        #expect(contents.header.order == 9)
        #expect(contents.records.map(\.record) == Self.records)
        #expect(contents.records.map(\.start) == starts)
        #expect(contents.records.map(\.file) == Self.records.map { $0.isOfNoFile ? 0 : 5 })
        #expect(contents.end == bytes.count)
        #expect(Array(bytes[contents.records[1].payload]) == [UInt8](repeating: 1, count: 4168))
        #expect(parse(bytes, ring: try KeyRing.random()) == nil)
    }

    /// A record that is not whole ends the segment: it was not waited for, nor was what follows it.
    @Test func whatIsNotWholeEndsIt() throws {
        let (bytes, starts) = segment()
        for count in stride(from: 0, to: bytes.count, by: 97) {
            let read = parse(Array(bytes[..<count]))
            if count < LogSegment.headerCount {
                #expect(read == nil)
            } else {
                let whole = (starts.dropFirst() + [bytes.count]).filter { $0 <= count }.count
                #expect(read?.records.count == whole)
            }
        }
        var random = SeededRandom(seed: 6)
        for (number, start) in starts.enumerated() {
            var edited = bytes
            // Within the counts, the descriptor and the MAC.
            edited[start + Int(random.next() % 30)] ^= 0x10
            #expect(parse(edited)?.records.count == number)
        }
        for index in 0..<LogSegment.headerCount {
            var edited = bytes
            edited[index] ^= 1
            #expect(parse(edited) == nil)
        }
    }

    /// The beginnings of a payload's blocks belong to the record: what an earlier generation left in their place is none of it.
    @Test func anotherPayloadIsNotTaken() throws {
        let (bytes, _) = segment()
        let record = try #require(parse(bytes)?.records[1])
        for offset in [0, 15, 4128, 4128 + 15] {
            var edited = bytes
            edited[record.payload.lowerBound + offset] ^= 1
            #expect(parse(edited)?.records.count == 1)
        }
    }

    @Test func anIDTellsItsGeneration() throws {
        let header = try #require(parse(segment().bytes)?.header)
        let other = try #require(parse(segment(generation: [UInt8](repeating: 2, count: 16)).bytes)?.header)
        let id = LogSegment.newFileID(generation: header.generation, ring: ring)
        #expect(id.count == FileHeader.fileIDCount)
        #expect(LogSegment.isNew(id, header: header, ring: ring))
        #expect(!LogSegment.isNew(id, header: other, ring: ring))
        #expect(!LogSegment.isNew(id, header: header, ring: try KeyRing.random()))
        #expect(!LogSegment.isNew(FileHeader(cipher: .aes256GCM, epoch: 0).fileID, header: header, ring: ring))
        #expect(id != LogSegment.newFileID(generation: header.generation, ring: ring))
    }

    @Test func anEarlierGenerationIsNotTaken() throws {
        let (old, starts) = segment()
        let fresh = segment(generation: [UInt8](repeating: 2, count: 16)).bytes
        // The new one was begun over the old one and has come as far as its third record.
        let mixed = Array(fresh[..<starts[3]]) + old[starts[3]...]
        #expect(parse(mixed)?.records.count == 3)
        // Nor is a record in another place.
        let moved = Array(fresh[..<starts[2]]) + fresh[starts[3]...]
        #expect(parse(moved)?.records.count == 2)
    }
}
