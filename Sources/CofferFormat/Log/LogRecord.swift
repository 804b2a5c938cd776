/// What one record of the intent log says of one file.
///
///     descriptor: │ kind u8 │ 0 u8 ×3 │ file u32 │ body │        `file` numbers the files of one segment, as their `file` records come
///
///     1 file     header 32 │ path
///     2 blocks   first u64 │ cut u8 │ count u32 │ count × (state u8 │ nonce 12 │ info 4)       payload: the images, end to end
///     3 grow     from u64
///     4 empty    old header 32 │ new header 32                                                payload: the image of block 0
///     5 punch    first u64 │ limit u64
///     6 making   since i64 │ path
///     7 synced   size u64
///     8 moved    from path │ to path
///     9 revoke   first u64
///
///     path: count u16 │ count × (length u16 │ stored name)                                    from the vault's root
///
/// Records 6 and 8 are of no file, and have the number 0.
public enum LogRecord: Equatable, Sendable {
    /// What was in a block's place before.
    public enum Predecessor: Equatable, Sendable {
        /// The first 16 bytes of the block that was there: nonce and info. All zero for a hole.
        case stored([UInt8])
        /// The file ended before.
        case absent
    }

    /// Gives a file its number in this segment. The header says which file is meant: what is at the path may be another by then.
    case file(header: [UInt8], path: [StoredName])
    /// These blocks replace those that were there. With `isCut` the file ends with the last of them, and what earlier records say of later blocks is void.
    case blocks(first: Int, isCut: Bool, predecessors: [Predecessor])
    /// Blocks may be added beyond this ciphertext size without passing through the log.
    case grow(from: Int)
    /// The file is cut to nothing.
    case empty(oldHeader: [UInt8], newHeader: [UInt8])
    /// Blocks `first ..< limit` become holes.
    case punch(first: Int, limit: Int)
    /// Files may be made in this directory, and below it in directories that are made. No object that is new is older than `since`: seconds since 1970.
    case making(since: Int64, path: [StoredName])
    /// All that earlier records say of the file is on the disk, and so is this ciphertext size.
    case synced(size: Int)
    /// What is at the one path, and all below it, may be at the other soon, or there too.
    case moved(from: [StoredName], to: [StoredName])
    /// What earlier records say of blocks from this one on is void.
    case revoke(first: Int)

    /// Bytes that a block's predecessor takes: its state, 0 for stored and 1 for absent, and its first 16 bytes, all zero where it is absent.
    public static let predecessorCount = 1 + BlockGeometry.prefixCount
    static let blocksKind: UInt8 = 2

    /// A file's blocks are fewer.
    private static let blockLimit = BlockGeometry.maximumPlainSize / BlockGeometry.plainCount

    /// Whether the record speaks of places rather than of one file.
    public var isOfNoFile: Bool {
        switch self {
        case .making, .moved: true
        default: false
        }
    }

    private var kind: UInt8 {
        switch self {
        case .file: 1
        case .blocks: Self.blocksKind
        case .grow: 3
        case .empty: 4
        case .punch: 5
        case .making: 6
        case .synced: 7
        case .moved: 8
        case .revoke: 9
        }
    }

    /// The descriptor's bytes.
    public func encoded(file: UInt32) -> [UInt8] {
        var writer = LogWriter()
        writer.bytes.reserveCapacity(64)
        writer.bytes += [kind, 0, 0, 0]
        writer.put(file)
        switch self {
        case .file(let header, let path):
            writer.bytes += header
            writer.put(path)
        case .blocks(let first, let isCut, let predecessors):
            writer.put(UInt64(first))
            writer.bytes.append(isCut ? 1 : 0)
            writer.put(UInt32(predecessors.count))
            writer.bytes.reserveCapacity(writer.bytes.count + 17 * predecessors.count)
            for predecessor in predecessors {
                switch predecessor {
                case .stored(let prefix):
                    writer.bytes.append(0)
                    writer.bytes.append(contentsOf: prefix)
                case .absent: writer.bytes += [UInt8](repeating: 0, count: 17).replacingFirst(with: 1)
                }
            }
        case .grow(let from): writer.put(UInt64(from))
        case .empty(let old, let new): writer.bytes += old + new
        case .punch(let first, let limit):
            writer.put(UInt64(first))
            writer.put(UInt64(limit))
        case .making(let since, let path):
            writer.put(since)
            writer.put(path)
        case .synced(let size): writer.put(UInt64(size))
        case .moved(let from, let to):
            writer.put(from)
            writer.put(to)
        case .revoke(let first): writer.put(UInt64(first))
        }
        return writer.bytes
    }

    /// Reads a descriptor; `malformed` where it is none.
    public static func parse(_ bytes: [UInt8]) throws(FormatError) -> (file: UInt32, record: LogRecord) {
        var reader = LogReader(bytes)
        let head = try reader.take(4)
        guard head[1...] == [0, 0, 0] else { throw .malformed }
        let file = UInt32(try reader.number(4))
        let record: LogRecord
        switch head[0] {
        case 1: record = .file(header: try reader.take(FileHeader.byteCount), path: try reader.path())
        case 2:
            let first = try reader.index()
            let cut = try reader.number(1)
            let count = try reader.number(4)
            guard cut <= 1, count >= 1, count <= bytes.count, first <= Self.blockLimit else { throw .malformed }
            var predecessors: [Predecessor] = []
            for _ in 0..<count {
                let state = try reader.number(1)
                let prefix = try reader.take(BlockGeometry.prefixCount)
                guard state == 0 || (state == 1 && prefix.allSatisfy { $0 == 0 }) else { throw .malformed }
                predecessors.append(state == 0 ? .stored(prefix) : .absent)
            }
            record = .blocks(first: first, isCut: cut == 1, predecessors: predecessors)
        case 3: record = .grow(from: try reader.index())
        case 4:
            record = .empty(
                oldHeader: try reader.take(FileHeader.byteCount), newHeader: try reader.take(FileHeader.byteCount))
        case 5:
            record = .punch(first: try reader.index(), limit: try reader.index())
        case 6: record = .making(since: Int64(bitPattern: try reader.number(8)), path: try reader.path())
        case 7: record = .synced(size: try reader.index())
        case 8: record = .moved(from: try reader.path(), to: try reader.path())
        case 9: record = .revoke(first: try reader.index())
        default: throw .malformed
        }
        guard reader.isAtEnd, file == 0 || !record.isOfNoFile else { throw .malformed }
        return (file, record)
    }
}

extension [UInt8] {
    fileprivate func replacingFirst(with byte: UInt8) -> [UInt8] {
        var result = self
        result[0] = byte
        return result
    }
}

private struct LogWriter {
    var bytes: [UInt8] = []

    mutating func put(_ number: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func put(_ path: [StoredName]) {
        put(UInt16(path.count))
        for name in path {
            put(UInt16(name.count))
            bytes += name.bytes
        }
    }
}

private struct LogReader {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { position == bytes.count }

    mutating func take(_ count: Int) throws(FormatError) -> [UInt8] {
        guard count <= bytes.count - position else { throw .malformed }
        defer { position += count }
        return Array(bytes[position..<(position + count)])
    }

    mutating func number(_ count: Int) throws(FormatError) -> UInt64 {
        try take(count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// A number that is a position in a file.
    mutating func index() throws(FormatError) -> Int {
        guard let index = Int(exactly: try number(8)) else { throw .malformed }
        return index
    }

    /// Stored names, none of which may lead elsewhere.
    mutating func path() throws(FormatError) -> [StoredName] {
        let count = try number(2)
        var path: [StoredName] = []
        for _ in 0..<count {
            let name = try take(Int(try number(2)))
            guard !name.isEmpty, name.count <= 255, name != [0x2E], name != [0x2E, 0x2E], !name.contains(0x2F),
                !name.contains(0)
            else { throw .malformed }
            path.append(StoredName(name))
        }
        return path
    }
}
