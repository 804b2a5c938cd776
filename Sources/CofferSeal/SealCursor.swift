import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// A manifest, read from its beginning to its end beside something else in the same order. Little of it is in memory. Damage is thrown where it is cut, or is none.
final class SealCursor {
    /// A record, and what is kept before it.
    struct Item {
        let prefix: [UInt8]
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
    // What of the manifest is in memory, from `position` to `end` of `buffer`.
    private let buffer: UnsafeMutableRawPointer
    private var position = 0
    private var end = 0
    // What of the manifest is in the buffer or was before.
    private var filled = 0
    private var tree = SealTree()
    // The last name in each directory that is open, for the order.
    private var lastNames: [[UInt8]] = []
    /// Records read, without the root's.
    private(set) var entries = 0
    /// The sizes of the files among them.
    private(set) var bytes = 0
    // The record that the cursor is at, in the buffer right before `position`; nil at the end of the directory that it is in.
    private var current: SealRecordView?
    private var taken: Item?

    /// A cursor at the first record in the root, over `count` bytes from `start` on. Each record has `prefixCount` bytes of something else before it.
    init(disk: Disk, descriptor: Int32, start: Int, count: Int, prefixCount: Int = 0) throws(VaultError) {
        self.disk = disk
        self.descriptor = descriptor
        self.start = start
        self.count = count
        self.prefixCount = prefixCount
        buffer = .allocate(byteCount: Self.roomCount + SealRecord.maximumCount + prefixCount, alignment: 16)
        try read()
        guard let item, item.record.isDirectory, item.record.name.isEmpty else { throw .damaged(Damage(.seal)) }
        root = item.record
        try enter()
    }

    deinit { buffer.deallocate() }

    /// The record that the cursor is at; nil at the end of the directory that it is in.
    var item: Item? {
        if let taken { return taken }
        guard let current else { return nil }
        let before = position - current.bytes.count
        let prefix = UnsafeRawBufferPointer(start: buffer + before - prefixCount, count: prefixCount)
        taken = Item(
            prefix: Array(prefix), record: current.record,
            offset: filled - (end - before) - prefixCount)
        return taken
    }

    /// The root's own record.
    private(set) var root = SealRecord(name: [], mode: 0, owner: 0, group: 0, time: 0, kind: .directory)
    /// How many directories the cursor is in; 1 in the root, 0 behind everything.
    var depth: Int { lastNames.count }

    /// Goes into the directory that the cursor is at.
    func enter() throws(VaultError) {
        guard current?.isDirectory == true else { throw .damaged(Damage(.seal)) }
        lastNames.append([])
        try read()
    }

    /// Goes on to the record after this one, behind what is in it. How many records that was.
    @discardableResult
    func skip() throws(VaultError) -> Int {
        guard let current else { return 0 }
        guard current.isDirectory else {
            try read()
            return 1
        }
        let base = depth
        var skipped = 1
        try enter()
        while depth > base {
            if let current = self.current {
                skipped += 1
                if current.isDirectory { try enter() } else { try read() }
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
        while current != nil { try skip() }
        lastNames.removeLast()
        if depth > 0 { try read() }
    }

    /// Reads what is left. What the tree hashes to; throws where it goes on behind its end.
    func finish() throws(VaultError) -> [UInt8] {
        while depth > 0 { try leave() }
        guard filled == count, position == end else { throw .damaged(Damage(.seal)) }
        return tree.root()
    }

    /// Reads the next record, or the end of the directory that the cursor is in.
    private func read() throws(VaultError) {
        current = nil
        taken = nil
        try fill()
        guard position < end else { throw .damaged(Damage(.seal)) }
        if buffer.load(fromByteOffset: position, as: UInt8.self) == SealRecord.end {
            guard depth > 0 else { throw .damaged(Damage(.seal)) }
            position += 1
            tree.end()
            return
        }
        guard end - position > prefixCount else { throw .damaged(Damage(.seal)) }
        let body = UnsafeRawBufferPointer(start: buffer + position + prefixCount, count: end - position - prefixCount)
        let view: SealRecordView?
        do throws(FormatError) {
            view = try SealRecordView(body)
        } catch {
            throw .damaged(Damage(.seal))
        }
        guard let view else { throw .damaged(Damage(.seal)) }
        try note(view)
        position += prefixCount + view.bytes.count
        current = view
    }

    private func note(_ view: SealRecordView) throws(VaultError) {
        if depth > 0 {
            guard lastNames[depth - 1].withUnsafeBytes({ Self.precedes($0, view.name) }) else {
                throw .damaged(Damage(.seal))
            }
            lastNames[depth - 1].removeAll(keepingCapacity: true)
            lastNames[depth - 1].append(contentsOf: view.name)
            entries += 1
            if let size = view.fileSize { bytes &+= Int(truncatingIfNeeded: size) }
        }
        tree.add(view.bytes, isDirectory: view.isDirectory)
    }

    /// Whether a name comes before another; an empty one before all.
    private static func precedes(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Bool {
        guard let secondBase = second.baseAddress, !second.isEmpty else { return false }
        guard let firstBase = first.baseAddress else { return true }
        let order = memcmp(firstBase, secondBase, min(first.count, second.count))
        return order == 0 ? first.count < second.count : order < 0
    }

    /// Makes sure that the next record is in the buffer as a whole.
    private func fill() throws(VaultError) {
        guard end - position < SealRecord.maximumCount + prefixCount, filled < count else { return }
        memmove(buffer, buffer + position, end - position)
        end -= position
        position = 0
        let wanted = min(Self.roomCount, count - filled)
        let got = try system { () throws(Errno) in
            try disk.read(descriptor, into: buffer + end, count: wanted, at: start + filled)
        }
        guard got == wanted else { throw .damaged(Damage(.seal)) }
        end += wanted
        filled += wanted
    }
}
