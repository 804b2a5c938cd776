import CofferDisk
import Randomness

@testable import CofferVault

/// What a file was when its last changes began.
enum KilledPast: CaseIterable {
    /// Made and never synced.
    case new
    /// Synced, and the log says nothing of it.
    case synced
    /// Synced, and growing since by what the log says nothing of but that.
    case growing
}

/// What a program does to a file.
enum KilledChange {
    case write(offset: Int, count: Int, value: UInt8)
    case resize(Int)
    case punch(offset: Int, count: Int)
    case sync

    static func random(_ random: inout SeededRandom, size: Int) -> KilledChange {
        let counts = [1, 100, 4096, 8192, 30_000, 90_000]
        switch random.below(20) {
        case 0..<7:
            return .write(
                offset: random.below(size + 1), count: counts[random.below(6)], value: UInt8(1 + random.below(255)))
        case 7..<13:
            return .write(offset: size, count: counts[random.below(6)], value: UInt8(1 + random.below(255)))
        case 13..<15:
            return .write(
                offset: size + random.below(30_000), count: counts[random.below(5)],
                value: UInt8(1 + random.below(255)))
        case 15: return .resize(random.below(3) == 0 ? 0 : random.below(size + 5000))
        case 16..<19: return .punch(offset: random.below(size + 1), count: 1 + random.below(60_000))
        default: return .sync
        }
    }

    func applied(to old: [UInt8]) -> [UInt8] {
        var bytes = old
        switch self {
        case .write(let offset, let count, let value):
            if bytes.count < offset + count { bytes += [UInt8](repeating: 0, count: offset + count - bytes.count) }
            // Another value in each block.
            var start = offset
            while start < offset + count {
                let end = min(offset + count, (start / 4096 + 1) * 4096)
                let run = [UInt8](repeating: value &+ UInt8(truncatingIfNeeded: start / 4096), count: end - start)
                bytes.replaceSubrange(start..<end, with: run)
                start = end
            }
        case .resize(let size):
            bytes = Array(bytes.prefix(size)) + [UInt8](repeating: 0, count: max(0, size - bytes.count))
        case .punch(let offset, let count):
            guard offset < bytes.count else { break }
            let end = min(bytes.count, offset + count)
            bytes.replaceSubrange(offset..<end, with: [UInt8](repeating: 0, count: end - offset))
        case .sync: break
        }
        return bytes
    }

    func apply(to file: FileContents, _ after: [UInt8], _ scratch: Scratch) throws {
        switch self {
        case .write(let offset, let count, _):
            try file.writeBytes(after[offset..<(offset + count)], at: offset, scratch)
        case .resize(let size): try file.resize(to: size, scratch)
        case .punch(let offset, let count): try file.punch(offset: offset, count: count, scratch)
        case .sync: try file.sync(dataOnly: true, scratch)
        }
    }
}
