import Foundation

/// What a file's contents should be, as plain bytes.
struct ByteModel {
    private(set) var bytes: [UInt8] = []

    var size: Int { bytes.count }

    mutating func write(_ data: [UInt8], at offset: Int) {
        guard !data.isEmpty else { return }
        if offset + data.count > bytes.count { resize(to: offset + data.count) }
        bytes.withUnsafeMutableBytes { all in
            UnsafeMutableRawBufferPointer(rebasing: all[offset..<(offset + data.count)]).copyBytes(from: data)
        }
    }

    mutating func resize(to size: Int) {
        if size < bytes.count {
            bytes.removeLast(bytes.count - size)
        } else {
            bytes.append(contentsOf: [UInt8](repeating: 0, count: size - bytes.count))
        }
    }

    /// Zeros within the present size.
    mutating func punch(_ offset: Int, _ count: Int) {
        let end = min(offset + count, bytes.count)
        guard offset < end else { return }
        bytes.withUnsafeMutableBytes { all in
            if let base = all.baseAddress { memset(base + offset, 0, end - offset) }
        }
    }

    mutating func zero(_ offset: Int, _ count: Int, keepSize: Bool) {
        punch(offset, count)
        if !keepSize && offset + count > size { resize(to: offset + count) }
    }

    /// What a read gives.
    func read(_ count: Int, at offset: Int) -> [UInt8] {
        guard offset < bytes.count else { return [] }
        return Array(bytes[offset..<min(bytes.count, offset + count)])
    }

    /// Whether a range holds zeros only.
    func isZero(_ range: Range<Int>) -> Bool {
        bytes.withUnsafeBytes { all in
            let part = UnsafeRawBufferPointer(rebasing: all[range])
            guard let base = part.baseAddress, part.count > 0 else { return true }
            // Zeros are what equals itself moved by one.
            return part[0] == 0 && memcmp(base, base + 1, part.count - 1) == 0
        }
    }
}

/// Whether two byte strings are equal: as `==` says, but quick without the optimiser.
func same(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    left.count == right.count && memcmp(left, right, left.count) == 0
}

/// Whether each of the bytes at `offset` is the one that `old` or `new` has there.
func isMixture(_ bytes: [UInt8], at offset: Int, of old: ByteModel, _ new: ByteModel) -> Bool {
    let before = old.read(bytes.count, at: offset)
    let after = new.read(bytes.count, at: offset)
    if same(bytes, before) || same(bytes, after) { return true }
    var index = 0
    while index < bytes.count {
        let isOld = index < before.count && bytes[index] == before[index]
        guard isOld || index < after.count && bytes[index] == after[index] else { return false }
        index += 1
    }
    return true
}
