import CofferDisk
import CofferFormat

/// Pieces of long names, as a directory's companions carry them.
package struct LongNamePieces {
    /// By tag, and by number.
    private var found: [[UInt8]: [Int: [UInt8]]] = [:]

    package init() {}

    /// Adds a stored name, if it is a companion's.
    package mutating func add(_ kind: StoredNameKind) {
        if case .companion(let tag, let index, let piece) = kind { found[tag, default: [:]][index] = piece }
    }

    /// The tags that there are pieces for.
    var tags: [[UInt8]] { Array(found.keys) }

    /// The sealed name that begins with a tag; nil where a piece is missing.
    package func sealed(_ tag: [UInt8]) -> [UInt8]? {
        guard let pieces = found[tag] else { return nil }
        var ordered: [[UInt8]] = []
        for index in 0..<pieces.count {
            guard let piece = pieces[index] else { return nil }
            ordered.append(piece)
        }
        return NameCodec.join(tag: tag, pieces: ordered)
    }
}
