import Glibc

/// What a file may hold: with write-back a write that succeeded is certain once it was synced.
struct FaultContent {
    static let blockCount = 4096

    /// What programs see as long as nothing has failed.
    private(set) var current: [UInt8] = []
    /// What it may hold, block by block, where something has failed; else `current` only.
    private(set) var versions: [[UInt8]] = [[]]
    /// What it was since it was synced last.
    private(set) var unsynced: [[UInt8]] = []

    var isCertain: Bool { versions.count == 1 }

    init() {}

    /// A file that was read, and is that from now on.
    init(read bytes: [UInt8]) {
        current = bytes
        versions = [bytes]
    }

    /// A change that succeeded.
    mutating func change(_ body: ([UInt8]) -> [UInt8]) {
        unsynced += versions
        versions = Self.distinct(versions.map(body))
        current = body(current)
    }

    /// A change that failed, and may have been done in part.
    mutating func tryChange(_ body: ([UInt8]) -> [UInt8]) {
        fail()
        versions = Self.distinct(versions + versions.map(body))
    }

    /// An error was told: what was not synced may be lost.
    mutating func fail() {
        versions = Self.distinct(versions + unsynced)
        unsynced = []
    }

    /// A sync succeeded.
    mutating func sync() { unsynced = [] }

    /// Whether the file may hold `bytes`.
    func accepts(_ bytes: [UInt8]) -> Bool {
        if isCertain { return bytes == current }
        let sizes = possible.map(\.count)
        guard let least = sizes.min(), let most = sizes.max(), bytes.count >= least, bytes.count <= most else {
            return false
        }
        return wrongBlocks(bytes).isEmpty
    }

    private var possible: [[UInt8]] { versions + unsynced }

    /// The blocks that no version has.
    private func wrongBlocks(_ bytes: [UInt8]) -> [Range<Int>] {
        let ends = Set(possible.map(\.count))
        return stride(from: 0, to: bytes.count, by: Self.blockCount).compactMap { start in
            let range = start..<min(start + Self.blockCount, bytes.count)
            // What was written where the file then ended as it did before is there up to that end, and zeros are after it.
            let isKnown = possible.contains { version in
                ends.contains { Self.isSame(version, upTo: $0, bytes, range) }
            }
            return isKnown ? nil : range
        }
    }

    /// Whether a version, with zeros behind an end, has the same bytes in a range.
    private static func isSame(_ version: [UInt8], upTo end: Int, _ bytes: [UInt8], _ range: Range<Int>) -> Bool {
        let known = min(max(range.lowerBound, min(end, version.count)), range.upperBound)
        let isEqual = version.withUnsafeBytes { one in
            bytes.withUnsafeBytes { other in
                guard let one = one.baseAddress, let other = other.baseAddress else { return true }
                return memcmp(one + range.lowerBound, other + range.lowerBound, known - range.lowerBound) == 0
            }
        }
        return isEqual && bytes[known..<range.upperBound].allSatisfy { $0 == 0 }
    }

    /// What differs, for a person: the blocks that it never had, and from where on each version is another.
    func difference(_ bytes: [UInt8]) -> String {
        let wrong = wrongBlocks(bytes).map { range in
            let places = possible.map { version in
                range.first { bytes[$0] != ($0 < version.count ? version[$0] : 0) } ?? range.upperBound
            }
            let hasZeros = bytes[(places.max() ?? range.lowerBound)..<range.upperBound].allSatisfy { $0 == 0 }
            return "block at \(range.lowerBound) other from \(places) on\(hasZeros ? " (zeros)" : "")"
        }
        return "\(bytes.count) bytes of \(versions.map(\.count)) + \(unsynced.map(\.count)); \(wrong)"
    }

    private static func distinct(_ versions: [[UInt8]]) -> [[UInt8]] {
        var result: [[UInt8]] = []
        for version in versions where !result.contains(version) { result.append(version) }
        return result
    }
}

/// Something that has names, or is still open.
final class FaultNode {
    enum Kind: Equatable {
        case file
        case directory
        case link(String)
    }

    let kind: Kind
    /// Known once it was listed.
    var number: UInt64?
    var content = FaultContent()
    /// Where changing it failed, it may be either: the kernel goes on showing the old one until it asks again.
    var modes: Set<mode_t>
    /// The value of `user.note`.
    var note: [UInt8]?
    /// It could neither be made nor be taken away again, which the driver has told: it can be removed, and nothing else is promised of it.
    var isStub = false
    /// The time of modification, where a program has set it.
    var modified: Int?

    init(_ kind: Kind, mode: mode_t) {
        self.kind = kind
        modes = [mode]
    }

    var isFile: Bool { kind == .file && !isStub }
    var isDirectory: Bool { kind == .directory }
}

/// The names in a directory tree, by their paths from its top.
struct FaultNames {
    private(set) var nodes: [String: FaultNode] = [:]

    subscript(path: String) -> FaultNode? {
        get { nodes[path] }
        set { nodes[path] = newValue }
    }

    static func parent(_ path: String) -> String {
        path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
    }

    static func name(_ path: String) -> String {
        path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
    }

    /// The entries of a directory.
    func entries(of directory: String) -> [String: FaultNode] {
        var result: [String: FaultNode] = [:]
        for (path, node) in nodes where Self.parent(path) == directory { result[Self.name(path)] = node }
        return result
    }

    /// Paths of a kind, in an order that does not depend on chance.
    func paths(_ isWanted: (FaultNode) -> Bool) -> [String] {
        nodes.filter { isWanted($0.value) }.keys.sorted()
    }

    /// The directories, with the top.
    var directories: [String] { [""] + paths(\.isDirectory) }

    /// Moves a path, and all that begins with it.
    mutating func move(_ path: String, to new: String) {
        nodes[new] = nil
        for (old, node) in nodes where old == path || old.hasPrefix(path + "/") {
            nodes[old] = nil
            nodes[new + old.dropFirst(path.count)] = node
        }
    }

    /// Exchanges two paths, neither of which is in the other.
    mutating func exchange(_ one: String, _ other: String) {
        let free = "\u{1}"
        move(one, to: free)
        move(other, to: one)
        move(free, to: other)
    }
}
