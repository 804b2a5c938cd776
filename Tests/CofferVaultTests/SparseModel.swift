/// What a file with vast holes should hold: the blocks that were written, by number.
struct SparseModel {
    private(set) var size = 0
    /// 4096 bytes each; what is not here is zeros.
    private(set) var blocks: [Int: [UInt8]] = [:]

    private static let zeros = [UInt8](repeating: 0, count: 4096)

    mutating func write(_ data: [UInt8], at offset: Int) {
        change(offset, data.count) { position, place, count, block in
            block.replaceSubrange(
                place..<(place + count), with: data[(position - offset)..<(position - offset + count)])
        }
        size = max(size, offset + data.count)
    }

    mutating func resize(to newSize: Int) {
        if newSize < size { clear(newSize, size - newSize) }
        size = newSize
    }

    mutating func punch(_ offset: Int, _ count: Int) {
        clear(offset, min(offset + count, size) - offset)
    }

    /// What block `index` holds, 4096 bytes of it.
    func block(_ index: Int) -> [UInt8] { blocks[index] ?? Self.zeros }

    /// What a read gives.
    func read(_ count: Int, at offset: Int) -> [UInt8] {
        let end = min(offset + count, size)
        guard offset < end else { return [] }
        var result: [UInt8] = []
        for index in (offset / 4096)...((end - 1) / 4096) {
            let block = self.block(index)
            result += block[max(0, offset - index * 4096)..<min(4096, end - index * 4096)]
        }
        return result
    }

    private mutating func clear(_ offset: Int, _ count: Int) {
        guard count > 0 else { return }
        for index in blocks.keys where index * 4096 < offset + count && index * 4096 + 4096 > offset {
            let from = max(0, offset - index * 4096)
            let to = min(4096, offset + count - index * 4096)
            blocks[index]?.replaceSubrange(from..<to, with: Self.zeros[from..<to])
            if blocks[index] == Self.zeros { blocks[index] = nil }
        }
    }

    private mutating func change(
        _ offset: Int, _ count: Int, _ body: (_ position: Int, _ place: Int, _ count: Int, inout [UInt8]) -> Void
    ) {
        var position = offset
        while position < offset + count {
            let place = position % 4096
            let step = min(4096 - place, offset + count - position)
            body(position, place, step, &blocks[position / 4096, default: Self.zeros])
            position += step
        }
    }
}
