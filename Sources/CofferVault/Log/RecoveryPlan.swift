import CofferFormat

/// What the log says of one file, when all its records are read: what recovery is to bring about.
struct RecoveryPlan {
    /// What a block should hold.
    struct Block {
        /// The last image that was logged for it: where among a segment's bytes.
        var segment: Int
        var image: Range<Int>
        /// The beginning of that image.
        var prefix: [UInt8]
        /// The beginnings (nonce and info) of what may be there instead: all that it replaced since the log began.
        var older: Set<[UInt8]>
    }

    /// How far a log may be believed.
    enum Trust {
        /// It is where it was made, and nothing was written since.
        case own
        /// It is where it was made, but its vault was written to since: something of it could not be done at first. Blocks that it saw replaced, and that are still
        /// there, are replaced, and those mended that do not verify.
        case left
        /// It was copied along with the vault or restored, so it may be older than the files: only what does not verify is mended.
        case foreign
    }

    private static let pathLimit = 64
    /// Where the file may be: where it was seen last comes first.
    private(set) var paths: [[StoredName]]
    /// The header that it should have.
    var header: [UInt8]
    /// Those that it may still have.
    var oldHeaders: [[UInt8]] = []
    /// The block of an emptied file; nil where it was not emptied.
    var emptyImage: (segment: Int, image: Range<Int>)?
    var blocks: [Int: Block] = [:]
    /// The beginnings of what was logged for blocks and is void: it may be there still.
    private(set) var void: [Int: Set<[UInt8]>] = [:]
    /// The block that the file was cut behind, and that is its last since: blocks behind it are none of its. Once blocks follow it again the cut is on the disk.
    var cut: Int?
    var punched: [Range<Int>] = []
    /// The ciphertext size that blocks may have been added to; nil where none were, but through the log.
    var grownFrom: Int?
    /// Nothing of what it holds has been promised: it was made since the log began, or emptied.
    var isNew: Bool
    /// What records say of it from one on is not to be believed.
    var isBroken = false
    /// How far the log may be believed.
    let trust: Trust

    init(header: [UInt8], path: [StoredName], isNew: Bool, trust: Trust) {
        self.header = header
        paths = [path]
        self.isNew = isNew
        self.trust = trust
    }

    /// The file was seen at, or is on its way to, another place; with `isLast` it is there if nowhere else.
    mutating func add(_ path: [StoredName], isLast: Bool = false) {
        if isLast {
            if paths.count < Self.pathLimit, !paths.contains(path) { paths.append(path) }
            return
        }
        paths.removeAll { $0 == path }
        paths.insert(path, at: 0)
        // Where it was long ago it is not.
        if paths.count > Self.pathLimit { paths.removeLast() }
    }

    /// Nothing that was said before counts any more.
    private mutating func begin(header: [UInt8], isNew: Bool) {
        let (paths, trust) = (paths, trust)
        self = RecoveryPlan(header: header, path: [], isNew: isNew, trust: trust)
        self.paths = paths
    }

    /// Whether there is anything to do.
    var isEmpty: Bool {
        blocks.isEmpty && emptyImage == nil && cut == nil && punched.isEmpty && grownFrom == nil && !isNew
    }

    /// Takes the next record in.
    mutating func take(_ record: LogRecord, segment: Int, payload: Range<Int>, _ bytes: UnsafeRawBufferPointer) {
        switch record {
        case .file(let header, let path):
            add(path)
            self.header = header
        case .moved, .making: break
        case .grow(let from):
            grownFrom = min(grownFrom ?? from, from)
            cut = nil
        case .synced: begin(header: header, isNew: false)
        case .revoke(let first):
            drop { $0 >= first }
            if let cut, cut >= first { self.cut = nil }
            // A block that is there again behind such a range has lost its image.
            punched = punched.filter { $0.lowerBound < first }.map { $0.clamped(to: 0..<first) }
        case .punch(let first, let limit):
            guard first < limit else { return }
            drop { (first..<limit).contains($0) }
            punched.append(first..<limit)
        case .empty(let old, let new):
            let headers = oldHeaders + [old]
            begin(header: new, isNew: true)
            oldHeaders = headers
            emptyImage = (segment, payload)
            cut = 0
            blocks[0] = Block(segment: segment, image: payload, prefix: Self.prefix(payload, bytes), older: [])
        case .blocks(let first, let isCut, let predecessors):
            take(first, isCut, predecessors, segment, payload, bytes)
        }
    }

    private mutating func take(
        _ first: Int, _ isCut: Bool, _ predecessors: [LogRecord.Predecessor], _ segment: Int, _ payload: Range<Int>,
        _ bytes: UnsafeRawBufferPointer
    ) {
        var start = payload.lowerBound
        for (index, predecessor) in predecessors.enumerated() {
            let end = min(start + BlockGeometry.storedCount, payload.upperBound)
            guard end - start >= BlockGeometry.overhead else { return }
            let block = first + index
            var older = blocks[block]?.older ?? void[block] ?? []
            if let known = blocks[block] { older.insert(known.prefix) }
            if case .stored(let prefix) = predecessor { older.insert(prefix) }
            blocks[block] = Block(
                segment: segment, image: start..<end, prefix: Self.prefix(start..<end, bytes), older: older)
            start = end
        }
        let last = first + predecessors.count - 1
        if let cut, last > cut { self.cut = nil }
        guard isCut else { return }
        drop { $0 > last }
        punched = punched.map { $0.clamped(to: 0..<max(last, 0)) }.filter { !$0.isEmpty }
        cut = last
        if let image = blocks[last]?.image {
            grownFrom = grownFrom.map { min($0, BlockGeometry.offset(ofBlock: last) + image.count) }
        }
    }

    /// Forgets what blocks should hold, but not what they may.
    private mutating func drop(_ isConcerned: (Int) -> Bool) {
        for (index, block) in blocks where isConcerned(index) {
            void[index, default: []].formUnion(block.older.union([block.prefix]))
            blocks[index] = nil
        }
    }

    private static func prefix(_ image: Range<Int>, _ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        Array(bytes[image.lowerBound..<min(image.lowerBound + BlockGeometry.prefixCount, image.upperBound)])
    }
}
