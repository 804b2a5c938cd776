import CofferDisk
import Glibc
import Randomness
import SystemPackage

/// Directories in memory that remember which changes of entries have been synced, and tell what a power cut may leave of them. Files are small and have no
/// pages: what was written since they were synced is there, or is not, or only the name is. One thread's.
final class SimulatedTree: Disk, @unchecked Sendable {
    /// In which order entries come to the disk.
    enum Journal: CaseIterable {
        /// One journal for everything: a sync of anything writes all that was done before.
        case ext4
        /// One journal, written as far as it concerns what is synced.
        case xfs
        /// Each sync writes what it needs, and leaves out what was done before elsewhere. A sync of a directory may write nothing.
        case btrfs
    }

    private final class Node {
        let number: UInt
        let kind: mode_t
        var mode: mode_t
        var bytes: [UInt8] = []
        var syncedBytes: [UInt8]?
        var links = 0

        init(number: UInt, kind: mode_t, mode: mode_t) {
            self.number = number
            self.kind = kind
            self.mode = mode
        }
    }

    private typealias Change = PendingChanges.Change

    let journal: Journal
    private var nodes: [UInt: Node] = [:]
    private var entries: PendingChanges.Entries = [1: [:]]
    private var pending: PendingChanges
    private var open: [Int32: UInt] = [:]
    private var listings: [Int32: [(String, Node)]] = [:]
    private var nextDescriptor: Int32 = 1000
    private var nextNumber: UInt = 1
    /// Which syncs of directories write nothing.
    private var passesOver: SeededRandom
    /// Called before each change.
    var onChange: (() -> Void)?
    /// After how many more changes they are refused, one or all from there on, and with what.
    var refusal: (changes: Int, lasts: Bool, code: Errno)?
    /// How many changes, and syncs, there have been.
    private(set) var changeCount = 0

    init(_ journal: Journal, seed: UInt64 = 1) {
        self.journal = journal
        pending = PendingChanges(journal, on: [1: [:]])
        passesOver = SeededRandom(seed: seed)
        nodes[1] = Node(number: 1, kind: S_IFDIR, mode: 0o755)
    }

    /// A descriptor of the root.
    func root() -> Int32 { describe(1) }

    // MARK: Power cuts

    /// What a power cut now may leave; with `everything` what is there now.
    func crashed(everything: Bool, _ random: inout SeededRandom) -> SimulatedTree {
        let other = SimulatedTree(journal, seed: random.next())
        // Of Coffer's own files others know nothing.
        let left = pending.left(
            everything: everything,
            isOwn: { $0.name.hasPrefix("coffer.") && nodes[$0.object]?.kind != S_IFDIR }, &random)
        other.entries = left
        other.pending = PendingChanges(journal, on: left)
        other.nextNumber = nextNumber
        for (number, node) in nodes {
            let copy = Node(number: number, kind: node.kind, mode: node.mode)
            copy.links = left.values.reduce(0) { $0 + $1.values.filter { $0 == number }.count }
            copy.bytes = node.bytes
            if !everything, node.kind == S_IFREG, node.syncedBytes != node.bytes {
                copy.bytes = [node.bytes, node.syncedBytes ?? [], []][random.below(3)]
            }
            copy.syncedBytes = copy.bytes
            other.nodes[number] = copy
        }
        return other
    }

    /// How many changes are not on the disk for certain.
    var unsynced: Int { pending.unsynced }

    /// What each change begins with.
    private func changing() throws(Errno) {
        onChange?()
        changeCount += 1
        guard let refusal else { return }
        if refusal.changes > 0 {
            self.refusal?.changes -= 1
            return
        }
        if !refusal.lasts { self.refusal = nil }
        throw refusal.code
    }

    private func change(_ changes: [Change]) {
        var gone: UInt?
        for change in changes {
            if let old = entries[change.directory]?[change.name], let node = nodes[old] {
                node.links -= 1
                gone = old
            }
            entries[change.directory, default: [:]][change.name] = change.node
            if let node = change.node { nodes[node]?.links += 1 }
        }
        pending.add(changes, gone: gone.flatMap { nodes[$0]?.links == 0 ? $0 : nil })
    }

    override func sync(_ descriptor: Int32, dataOnly: Bool = false) throws(Errno) {
        try changing()
        let number = try number(descriptor)
        nodes[number]?.syncedBytes = nodes[number]?.bytes
        // What another's sync of a file in a directory has looked at a moment ago passes for written.
        if journal == .btrfs, nodes[number]?.kind == S_IFDIR, passesOver.oneIn(2) { return pending.syncLog() }
        pending.sync(number)
    }

    override func syncEntries(_ descriptor: Int32) throws(Errno) {
        guard journal == .btrfs else { return try sync(descriptor) }
        try changing()
        pending.sync(try number(descriptor))
    }

    override func syncFileSystem(_ descriptor: Int32) throws(Errno) {
        try changing()
        for node in nodes.values { node.syncedBytes = node.bytes }
        pending.syncAll()
    }

    override func keepsEntryOrder(_ descriptor: Int32) -> Bool { journal != .btrfs }

    // MARK: Finding

    private func describe(_ number: UInt) -> Int32 {
        nextDescriptor += 1
        open[nextDescriptor] = number
        return nextDescriptor
    }

    private func number(_ descriptor: Int32) throws(Errno) -> UInt {
        guard let number = open[descriptor] else { throw .badFileDescriptor }
        return number
    }

    private func node(_ descriptor: Int32) throws(Errno) -> Node {
        guard let node = nodes[try number(descriptor)] else { throw .badFileDescriptor }
        return node
    }

    private func find(_ directory: Int32, _ name: UnsafePointer<CChar>) throws(Errno) -> (UInt, String, Node?) {
        let number = try number(directory)
        let name = String(cString: name)
        if name == "." { return (number, name, nodes[number]) }
        return (number, name, entries[number]?[name].flatMap { nodes[$0] })
    }

    private func make(_ kind: mode_t, _ mode: mode_t) -> Node {
        nextNumber += 1
        let node = Node(number: nextNumber, kind: kind, mode: mode)
        nodes[nextNumber] = node
        if kind == S_IFDIR { entries[nextNumber] = [:] }
        return node
    }

    private func add(_ node: Node, _ directory: UInt, _ name: String) {
        change([Change(directory: directory, name: name, node: node.number, object: node.number)])
    }

    override func open(
        at directory: Int32, _ name: UnsafePointer<CChar>, flags: Int32, mode: mode_t = 0
    ) throws(Errno) -> Int32 {
        let (parent, name, found) = try find(directory, name)
        if let found {
            if flags & O_EXCL != 0 { throw .fileExists }
            if flags & O_DIRECTORY != 0, found.kind != S_IFDIR { throw .notDirectory }
            if flags & O_NOFOLLOW != 0, found.kind == S_IFLNK, flags & Disk.pathOnly == 0 {
                throw .tooManySymbolicLinkLevels
            }
            return describe(found.number)
        }
        guard flags & O_CREAT != 0 else { throw .noSuchFileOrDirectory }
        try changing()
        let made = make(S_IFREG, mode)
        add(made, parent, name)
        return describe(made.number)
    }

    override func reopen(_ descriptor: Int32, flags: Int32) throws(Errno) -> Int32 { describe(try number(descriptor)) }
    override func duplicate(_ descriptor: Int32) throws(Errno) -> Int32 { describe(try number(descriptor)) }
    override func close(_ descriptor: Int32) {
        open[descriptor] = nil
        listings[descriptor] = nil
    }

    override func status(_ descriptor: Int32) throws(Errno) -> stat { status(try node(descriptor)) }

    override func status(at directory: Int32, _ name: UnsafePointer<CChar>) throws(Errno) -> stat {
        guard let found = try find(directory, name).2 else { throw .noSuchFileOrDirectory }
        return status(found)
    }

    private func status(_ node: Node) -> stat {
        var status = stat()
        status.st_ino = node.number
        status.st_mode = node.kind | node.mode
        status.st_size = node.bytes.count
        status.st_nlink = nlink_t(max(1, node.links))
        status.st_uid = geteuid()
        return status
    }

    override func readDirectory(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) throws(Errno) -> Int {
        let number = try number(descriptor)
        if listings[descriptor] == nil {
            listings[descriptor] = (entries[number] ?? [:]).sorted { $0.key < $1.key }.compactMap { name, number in
                nodes[number].map { (name, $0) }
            }
        }
        var position = 0
        while let (name, node) = listings[descriptor]?.first {
            guard let next = putEntry(name, number: node.number, kind: node.kind, into: buffer, at: position) else {
                break
            }
            position = next
            listings[descriptor]?.removeFirst()
        }
        return position
    }

    override func seekDirectory(_ descriptor: Int32, to position: Int) throws(Errno) { listings[descriptor] = nil }

    // MARK: Contents

    override func read(
        _ descriptor: Int32, into buffer: UnsafeMutableRawPointer, count: Int, at offset: Int
    ) throws(Errno) -> Int {
        let part = try node(descriptor).bytes.dropFirst(offset).prefix(count)
        UnsafeMutableRawBufferPointer(start: buffer, count: count).copyBytes(from: part)
        return part.count
    }

    override func write(_ descriptor: Int32, _ buffer: UnsafeRawPointer, count: Int, at offset: Int) throws(Errno) {
        try changing()
        let node = try node(descriptor)
        if node.bytes.count < offset + count {
            node.bytes += [UInt8](repeating: 0, count: offset + count - node.bytes.count)
        }
        node.bytes.replaceSubrange(
            offset..<(offset + count), with: UnsafeRawBufferPointer(start: buffer, count: count))
    }

    /// There are no holes, and no extended attributes.
    override func nextData(_ descriptor: Int32, from offset: Int) throws(Errno) -> Int? { throw .invalidArgument }
    override func listAttributes(
        _ descriptor: Int32, into buffer: UnsafeMutableBufferPointer<CChar>
    ) throws(Errno) -> Int { throw .notSupported }

    override func setMode(_ descriptor: Int32, _ mode: mode_t) throws(Errno) { try node(descriptor).mode = mode }
    override func setTimes(_ descriptor: Int32, access: timespec, modification: timespec) throws(Errno) {}

    // MARK: Entries

    override func makeDirectory(at directory: Int32, _ name: UnsafePointer<CChar>, mode: mode_t) throws(Errno) {
        let (parent, name, found) = try find(directory, name)
        if found != nil { throw .fileExists }
        try changing()
        add(make(S_IFDIR, mode), parent, name)
    }

    override func makeLink(at directory: Int32, _ name: UnsafePointer<CChar>, target: UnsafePointer<CChar>)
        throws(Errno)
    {
        let (parent, name, found) = try find(directory, name)
        if found != nil { throw .fileExists }
        // As XFS, which takes less than others.
        let text = Array(String(cString: target).utf8)
        if text.count > 1023 { throw .fileNameTooLong }
        try changing()
        let made = make(S_IFLNK, 0o777)
        made.bytes = text
        add(made, parent, name)
    }

    override func readLink(
        at directory: Int32, _ name: UnsafePointer<CChar>, into buffer: UnsafeMutableBufferPointer<CChar>
    ) throws(Errno) -> Int {
        guard let found = try find(directory, name).2, found.kind == S_IFLNK else { throw .invalidArgument }
        let count = min(found.bytes.count, buffer.count)
        UnsafeMutableRawBufferPointer(buffer).copyBytes(from: found.bytes.prefix(count))
        return count
    }

    override func hardLink(
        from source: Int32, _ name: UnsafePointer<CChar>, to target: Int32, _ newName: UnsafePointer<CChar>
    ) throws(Errno) {
        guard let found = try find(source, name).2 else { throw .noSuchFileOrDirectory }
        let (parent, new, existing) = try find(target, newName)
        if existing != nil { throw .fileExists }
        try changing()
        add(found, parent, new)
    }

    override func rename(
        from source: Int32, _ name: UnsafePointer<CChar>, to target: Int32, _ newName: UnsafePointer<CChar>,
        mode: RenameMode = .replace
    ) throws(Errno) {
        let (from, old, found) = try find(source, name)
        let (to, new, existing) = try find(target, newName)
        guard let found else { throw .noSuchFileOrDirectory }
        if mode == .noReplace, existing != nil { throw .fileExists }
        if mode == .exchange, existing == nil { throw .noSuchFileOrDirectory }
        if mode == .replace, let existing, existing.kind == S_IFDIR, !(entries[existing.number]?.isEmpty ?? true) {
            throw .directoryNotEmpty
        }
        try changing()
        change([
            Change(
                directory: from, name: old, node: mode == .exchange ? existing?.number : nil,
                object: mode == .exchange ? existing?.number ?? 0 : found.number),
            Change(directory: to, name: new, node: found.number, object: found.number),
        ])
    }

    override func remove(at parent: Int32, _ name: UnsafePointer<CChar>, directory: Bool = false) throws(Errno) {
        let (number, name, found) = try find(parent, name)
        guard let found else { throw .noSuchFileOrDirectory }
        if directory {
            guard found.kind == S_IFDIR else { throw .notDirectory }
            guard entries[found.number]?.isEmpty ?? true else { throw .directoryNotEmpty }
        } else if found.kind == S_IFDIR {
            throw .isDirectory
        }
        try changing()
        change([Change(directory: number, name: name, node: nil, object: found.number)])
    }
}
