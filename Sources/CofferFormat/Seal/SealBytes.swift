/// Little-endian numbers and bytes, one after the other.
struct ByteWriter {
    var bytes: [UInt8] = []

    mutating func append(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }
}

/// The same, read. `malformed` where there are too few.
struct ByteReader {
    private let bytes: ArraySlice<UInt8>
    private(set) var position: Int

    init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        position = bytes.startIndex
    }

    mutating func integer<Number: FixedWidthInteger>() throws(FormatError) -> Number {
        let size = MemoryLayout<Number>.size
        guard size <= bytes.endIndex - position else { throw .malformed }
        defer { position += size }
        let offset = position - bytes.startIndex
        return bytes.withUnsafeBytes {
            Number(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Number.self))
        }
    }

    mutating func take(_ count: Int) throws(FormatError) -> [UInt8] {
        guard count <= bytes.endIndex - position else { throw .malformed }
        defer { position += count }
        return Array(bytes[position..<(position + count)])
    }
}
