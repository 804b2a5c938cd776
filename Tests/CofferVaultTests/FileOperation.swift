import Randomness

@testable import CofferVault

/// One thing that a program does to a file.
enum FileOperation: CustomStringConvertible {
    case write(data: [UInt8], offset: Int)
    case resize(Int)
    case punch(offset: Int, count: Int)
    case zero(offset: Int, count: Int, keepSize: Bool)
    case reserve(offset: Int, count: Int, keepSize: Bool)

    var description: String {
        switch self {
        case .write(let data, let offset): "write \(data.count) at \(offset)"
        case .resize(let size): "resize to \(size)"
        case .punch(let offset, let count): "punch \(count) at \(offset)"
        case .zero(let offset, let count, let keepSize): "zero \(count) at \(offset) keep \(keepSize)"
        case .reserve(let offset, let count, let keepSize): "reserve \(count) at \(offset) keep \(keepSize)"
        }
    }

    /// Does it to the model.
    func apply(to model: inout ByteModel) {
        switch self {
        case .write(let data, let offset): model.write(data, at: offset)
        case .resize(let size): model.resize(to: size)
        case .punch(let offset, let count): model.punch(offset, count)
        case .zero(let offset, let count, let keepSize): model.zero(offset, count, keepSize: keepSize)
        case .reserve(let offset, let count, let keepSize):
            if !keepSize && offset + count > model.size { model.resize(to: offset + count) }
        }
    }

    /// A random operation on a file of `size` bytes that is to stay below `limit`.
    static func random(size: Int, limit: Int, using random: inout SeededRandom) -> FileOperation {
        switch random.below(100) {
        case 0..<52: return randomWrite(size: size, limit: limit, using: &random)
        case 52..<68: return .resize(randomSize(size: size, limit: limit, using: &random))
        case 68..<84:
            let range = randomRange(size: size, limit: limit, using: &random)
            return .punch(offset: range.offset, count: range.count)
        case 84..<94:
            let range = randomRange(size: size, limit: limit, using: &random)
            return .zero(offset: range.offset, count: range.count, keepSize: random.oneIn(2))
        default:
            let range = randomRange(size: size, limit: limit, using: &random)
            return .reserve(offset: range.offset, count: range.count, keepSize: random.oneIn(2))
        }
    }

    private static func randomWrite(size: Int, limit: Int, using random: inout SeededRandom) -> FileOperation {
        let count =
            switch random.below(16) {
            case 0...1: 1
            case 2...5: 1 + random.below(9000)
            case 6...10: 4096 * (1 + random.below(8))
            case 11...12: 1 + random.below(100_000)
            case 13: 1_048_576 + random.below(300_000)
            default: 1 + random.below(4096)
            }
        let kept = min(count, limit)
        var offset = randomOffset(size: size, limit: limit, using: &random)
        if kept % 4096 == 0 && !random.oneIn(4) { offset = offset / 4096 * 4096 }
        offset = min(offset, limit - kept)
        return .write(data: random.bytes(kept), offset: offset)
    }

    private static func randomOffset(size: Int, limit: Int, using random: inout SeededRandom) -> Int {
        switch random.below(10) {
        case 0...2: return size
        case 3: return min(limit - 1, (size + 4095) / 4096 * 4096)
        case 4: return min(limit - 1, size + 1 + random.below(300_000))
        default: return random.below(size + 1)
        }
    }

    private static func randomSize(size: Int, limit: Int, using random: inout SeededRandom) -> Int {
        switch random.below(12) {
        case 0: return 0
        case 1...2: return random.below(limit)
        case 3...4: return size / 4096 * 4096
        case 5...7: return random.below(size + 1)
        default: return min(limit, size + random.below(70_000))
        }
    }

    private static func randomRange(
        size: Int, limit: Int, using random: inout SeededRandom
    ) -> (offset: Int, count: Int) {
        var offset = random.below(size + 5000)
        var count = 1 + random.below(random.oneIn(3) ? 500_000 : 50_000)
        if random.oneIn(2) {
            offset = offset / 4096 * 4096
            count = (count + 4095) / 4096 * 4096
        }
        offset = min(offset, limit - 1)
        return (offset, max(1, min(count, limit - offset)))
    }
}

extension FileContents {
    /// Does one operation.
    func perform(_ operation: FileOperation, _ scratch: Scratch) throws {
        switch operation {
        case .write(let data, let offset): try writeBytes(data[...], at: offset, scratch)
        case .resize(let size): try resize(to: size, scratch)
        case .punch(let offset, let count): try punch(offset: offset, count: count, scratch)
        case .zero(let offset, let count, let keepSize):
            try zero(offset: offset, count: count, keepSize: keepSize, scratch)
        case .reserve(let offset, let count, let keepSize):
            try reserve(offset: offset, count: count, keepSize: keepSize, scratch)
        }
    }
}
