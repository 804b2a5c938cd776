import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// A manifest, read from its beginning to its end beside something else in the same order. Little of it is in memory. Damage is thrown where it is cut, or is none.
final class SealCursor {
    /// A record, and what is kept before it.
    struct Item {
        let prefix: ArraySlice<UInt8>
        let record: SealRecord
        /// Where the record begins, from the manifest's beginning.
        let offset: Int
    }

    private static let roomCount = 1 << 20
    private let disk: Disk
    private let descriptor: Int32
    private let start: Int
    private let count: Int
    private let prefixCount: Int
    private var buffer: [UInt8] = []
    private var position = 0
    // What of the manifest is in the buffer or was before.
    private var filled = 0
    private var tree = SealTree()
    // The last name in each directory that is open, for the order.
    private var lastNames: [[UInt8]?] = []
    /// Records read, without the root's.
    private(set) var entries = 0
    /// The sizes of the files among them.
    private(set) var bytes = 0
    /// The record that the cursor is at; nil at the end of the directory that it is in.
    private(set) var item: Item?

    /// A cursor at the first record in the root, over `count` bytes from `start` on. Each record has `prefixCount` bytes of something else before it.
    init(disk: Disk, descriptor: Int32, start: Int, count: Int, prefixCount: Int = 0) throws(VaultError) {
        self.disk = disk
        self.descriptor = descriptor
        self.start = start
        self.count = count
        self.prefixCount = prefixCount
        try read()
        guard let item, item.record.isDirectory, item.record.name.isEmpty else { throw .damaged(Damage(.seal)) }
        root = item.record
        try enter()
    }

    /// The root's own record.
    private(set) var root = SealRecord(name: [], mode: 0, owner: 0, group: 0, time: 0, kind: .directory)
    /// How many directories the cursor is in; 1 in the root, 0 behind everything.
    var depth: Int { lastNames.count }

    /// Goes into the directory that the cursor is at.
    func enter() throws(VaultError) {
        guard item?.record.isDirectory == true else { throw .damaged(Damage(.seal)) }
        lastNames.append(nil)
        try read()
    }

    /// Goes on to the record after this one, behind what is in it. How many records that was.
    @discardableResult
    func skip() throws(VaultError) -> Int {
        guard let item else { return 0 }
        guard item.record.isDirectory else {
            try read()
            return 1
        }
        let base = depth
        var skipped = 1
        try enter()
        while depth > base {
            if let item = self.item {
                skipped += 1
                if item.record.isDirectory { try enter() } else { try read() }
            } else {
                lastNames.removeLast()
                try read()
            }
        }
        return skipped
    }

    /// Goes out of the directory that the cursor is in, and on to the record after it. Whatever was left is skipped.
    func leave() throws(VaultError) {
        guard depth > 0 else { throw .damaged(Damage(.seal)) }
        while item != nil { try skip() }
        lastNames.removeLast()
        if depth > 0 { try read() }
    }

    /// Reads what is left. What the tree hashes to; throws where it goes on behind its end.
    func finish() throws(VaultError) -> [UInt8] {
        while depth > 0 { try leave() }
        guard filled == count, position == buffer.count else { throw .damaged(Damage(.seal)) }
        return tree.root()
    }

    /// Reads the next record, or the end of the directory that the cursor is in.
    private func read() throws(VaultError) {
        try fill()
        guard position < buffer.count else { throw .damaged(Damage(.seal)) }
        if buffer[position] == SealRecord.end {
            guard depth > 0 else { throw .damaged(Damage(.seal)) }
            position += 1
            tree.end()
            item = nil
            return
        }
        let offset = filled - (buffer.count - position)
        guard buffer.count - position > prefixCount else { throw .damaged(Damage(.seal)) }
        let prefix = buffer[position..<(position + prefixCount)]
        let body = buffer[(position + prefixCount)...]
        let parsed: (record: SealRecord?, count: Int)
        do throws(FormatError) {
            parsed = try SealRecord.parse(body)
        } catch {
            throw .damaged(Damage(.seal))
        }
        guard let record = parsed.record else { throw .damaged(Damage(.seal)) }
        try note(record, body.prefix(parsed.count))
        item = Item(prefix: prefix, record: record, offset: offset)
        position += prefixCount + parsed.count
    }

    private func note(_ record: SealRecord, _ raw: ArraySlice<UInt8>) throws(VaultError) {
        if depth > 0 {
            guard !record.name.isEmpty else { throw .damaged(Damage(.seal)) }
            if let last = lastNames[depth - 1], !last.lexicographicallyPrecedes(record.name) {
                throw .damaged(Damage(.seal))
            }
            lastNames[depth - 1] = record.name
            entries += 1
            if case .file(let size, _) = record.kind { bytes &+= Int(truncatingIfNeeded: size) }
        }
        raw.withUnsafeBytes { tree.add($0, isDirectory: record.isDirectory) }
    }

    /// Makes sure that the next record is in the buffer as a whole.
    private func fill() throws(VaultError) {
        guard buffer.count - position < SealRecord.maximumCount + prefixCount, filled < count else { return }
        buffer.removeFirst(position)
        position = 0
        let wanted = min(Self.roomCount, count - filled)
        let more: [UInt8]
        do throws(Errno) {
            more = try disk.readBytes(descriptor, limit: wanted, at: start + filled)
        } catch {
            throw .system(error)
        }
        guard more.count == wanted else { throw .damaged(Damage(.seal)) }
        buffer += more
        filled += wanted
    }
}
