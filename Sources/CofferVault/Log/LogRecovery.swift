import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Brings files to a state that can be read, and that holds everything a program was promised, from what the intent log says after a power cut.
///
/// An image goes into a file only where what is there is something that the log knows to be older, or does not verify. So doing it again changes nothing, and
/// neither does the log of another copy of the vault. Ends are set anew only where a record says that the file was growing or new.
public struct LogRecovery {
    /// What was done.
    public struct Report: Equatable, Sendable {
        /// Files that were changed.
        public var files = 0
        /// Blocks that were stored again.
        public var blocks = 0
        /// Ends that were set anew.
        public var ends = 0
        /// Files that the log speaks of and that are not there, or are others by now.
        public var missing = 0
        /// Files that still do not verify where they should.
        public var failed: [[StoredName]] = []
    }

    let disk: Disk
    let ring: KeyRing
    private let rootDescriptor: Int32
    let scratch: Scratch
    private var segments: [[UInt8]] = []
    /// Where recovery's own records go: behind those of the newest segment.
    struct Tail {
        let descriptor: Int32
        let generation: [UInt8]
        var end: Int
    }
    var tail: Tail?
    /// What images are verified with, by header.
    private var keys: [[UInt8]: FileContents] = [:]
    /// What was done so far.
    public internal(set) var report = Report()

    /// Recovery in the vault whose root `rootDescriptor` is.
    public init(disk: Disk, ring: KeyRing, rootDescriptor: Int32, scratch: Scratch) {
        self.disk = disk
        self.ring = ring
        self.rootDescriptor = rootDescriptor
        self.scratch = scratch
    }

    /// Does what the segments behind `descriptors`, which are the caller's, say. Returns the highest order that a segment has.
    public mutating func recover(_ descriptors: [Int32]) throws(VaultError) -> UInt64 {
        segments = []
        for descriptor in descriptors {
            segments.append(
                try system { () throws(Errno) in
                    try disk.readBytes(descriptor, limit: Int(try disk.status(descriptor).st_size))
                })
        }
        var contents: [(bytes: Int, contents: LogSegment.Contents)] = []
        for (index, bytes) in segments.enumerated() {
            if let parsed = bytes.withUnsafeBytes({ LogSegment.parse($0, ring: ring) }) {
                contents.append((index, parsed))
            }
        }
        contents.sort { $0.contents.header.order < $1.contents.header.order }
        tail = contents.last.map {
            Tail(
                descriptor: descriptors[$0.bytes], generation: $0.contents.header.generation, end: $0.contents.end)
        }
        var plans: [[UInt8]: RecoveryPlan] = [:]
        var order: [[UInt8]] = []
        for (index, segment) in contents {
            let place = try IntentLog.place(of: descriptors[index], rootDescriptor, disk)
            var files: [UInt32: [UInt8]] = [:]
            for entry in segment.records {
                if case .file(let header, let path) = entry.record {
                    let id = Array(header[8..<24])
                    files[entry.file] = id
                    if plans[id] == nil {
                        plans[id] = RecoveryPlan(header: header, path: path)
                        order.append(id)
                    }
                    if segment.header.place != place { plans[id]?.isForeign = true }
                }
                guard let id = files[entry.file], var plan = plans[id] else { continue }
                segments[index].withUnsafeBytes { bytes in
                    plan.take(entry.record, segment: index, payload: entry.payload, bytes)
                }
                // A record that came to the disk only in part was not waited for by anybody, nor was what follows it.
                guard try isWhole(entry, plan, segments[index]) else {
                    if index == contents.last?.bytes { tail?.end = entry.start }
                    break
                }
                plans[id] = plan
            }
        }
        for id in order {
            if let plan = plans[id], !plan.isEmpty { try carryOut(plan) }
        }
        return contents.last?.contents.header.order ?? 0
    }

    /// Whether a record's images verify.
    private mutating func isWhole(
        _ entry: LogSegment.Record, _ plan: RecoveryPlan, _ bytes: [UInt8]
    ) throws(VaultError) -> Bool {
        let first: Int
        switch entry.record {
        case .blocks(let block, _, _): first = block
        case .empty: first = 0
        default: return entry.payload.isEmpty
        }
        guard !entry.payload.isEmpty, let header = parse(plan.header) else { return false }
        let key: FileContents
        if let known = keys[plan.header] {
            key = known
        } else {
            key = try FileContents(recovering: -1, disk: disk, ring: ring, header: header, size: 0)
            keys[plan.header] = key
        }
        var block = first
        for start in stride(from: entry.payload.lowerBound, to: entry.payload.upperBound, by: BlockGeometry.storedCount)
        {
            let end = min(start + BlockGeometry.storedCount, entry.payload.upperBound)
            guard end - start >= BlockGeometry.overhead, verifies(Array(bytes[start..<end]), block, key) else {
                return false
            }
            block += 1
        }
        return true
    }

    // MARK: One file

    private mutating func carryOut(_ plan: RecoveryPlan) throws(VaultError) {
        guard let descriptor = try openFile(plan.path) else {
            report.missing += 1
            return
        }
        guard let header = try header(plan, descriptor) else {
            disk.close(descriptor)
            report.missing += 1
            return
        }
        let file = try FileContents(
            recovering: descriptor, disk: disk, ring: ring, header: header, size: try plainSize(descriptor))
        var isChanged = false
        try settleHeader(plan, file, &isChanged)
        try settleCut(plan, file, &isChanged)
        try settleBlocks(plan, file, &isChanged)
        file.setSize(try plainSize(descriptor))
        try settlePunched(plan, file, &isChanged)
        try settleEnd(plan, file, &isChanged)
        if isChanged {
            report.files += 1
            try system { () throws(Errno) in try disk.sync(descriptor) }
        }
    }

    private func openFile(_ path: [StoredName]) throws(VaultError) -> Int32? {
        guard let name = path.last else { return nil }
        var directory = rootDescriptor
        defer { if directory != rootDescriptor { disk.close(directory) } }
        do throws(Errno) {
            for step in path.dropLast() {
                let next = try disk.open(at: directory, step.cString, flags: Disk.pathOnly | O_DIRECTORY | O_NOFOLLOW)
                if directory != rootDescriptor { disk.close(directory) }
                directory = next
            }
            guard try disk.status(at: directory, name.cString).st_mode & S_IFMT == S_IFREG else { return nil }
            return try disk.open(at: directory, name.cString, flags: O_RDWR | O_NOFOLLOW | O_NONBLOCK)
        } catch {
            if error == .noSuchFileOrDirectory || error == .notDirectory { return nil }
            throw .system(error)
        }
    }

    func cipherSize(_ descriptor: Int32) throws(VaultError) -> Int {
        try system { () throws(Errno) in Int(try disk.status(descriptor).st_size) }
    }

    func plainSize(_ descriptor: Int32) throws(VaultError) -> Int {
        BlockGeometry.plausibleSize(cipherSize: try cipherSize(descriptor))
    }

    /// The header that the file should have; nil where it is not the one that is meant.
    private func header(_ plan: RecoveryPlan, _ descriptor: Int32) throws(VaultError) -> FileHeader? {
        guard let wanted = parse(plan.header) else { return nil }
        let raw = try system { () throws(Errno) in try disk.readBytes(descriptor, limit: FileHeader.byteCount) }
        if raw == wanted.bytes || (!plan.isForeign && plan.oldHeaders.contains(raw)) { return wanted }
        guard plan.isNew else { return nil }
        // What a new file begins with may never have come to the disk; or it was emptied since, which the log is not told of new files.
        guard let found = parse(raw) else { return wanted }
        return found.fileID == wanted.fileID ? found : nil
    }

    private func parse(_ raw: [UInt8]) -> FileHeader? {
        do throws(FormatError) {
            return try FileHeader(parsing: raw)
        } catch {
            return nil
        }
    }

    /// Puts the header in its place, where it is not there yet: the file is an empty one then.
    private func settleHeader(_ plan: RecoveryPlan, _ file: FileContents, _ isChanged: inout Bool) throws(VaultError) {
        let raw = try system { () throws(Errno) in
            try disk.readBytes(file.descriptor, limit: FileHeader.byteCount)
        }
        if raw == file.header.bytes { return }
        try putFile(file, plan.emptyImage.map { Array(segments[$0.segment][$0.image]) } ?? emptyBlock(file))
        isChanged = true
    }

    func emptyBlock(_ file: FileContents) -> [UInt8] {
        file.drawNonces(1, scratch)
        file.seal(
            scratch.zeros, count: 0, block: 0, info: BlockInfo(reconstructedWithGap: 0), nonce: scratch.nonces,
            to: scratch.probe, scratch)
        return Array(UnsafeRawBufferPointer(start: scratch.probe, count: BlockGeometry.overhead))
    }

    /// The file becomes an empty one.
    func putFile(_ file: FileContents, _ block: [UInt8]) throws(VaultError) {
        try system { () throws(Errno) in
            try disk.write(file.descriptor, bytes: file.header.bytes + block)
            try disk.truncate(file.descriptor, to: BlockGeometry.emptyFileCount)
        }
        file.setSize(0)
    }

    /// What a block's place begins with; nil where the file ends before.
    func prefix(_ block: Int, _ file: FileContents) throws(VaultError) -> [UInt8]? {
        let bytes = try system { () throws(Errno) in
            try disk.readBytes(
                file.descriptor, limit: BlockGeometry.prefixCount, at: BlockGeometry.offset(ofBlock: block))
        }
        return bytes.count == BlockGeometry.prefixCount ? bytes : nil
    }

    /// Reads a block under the file's size, whatever that is; nil where it is no block at all.
    func read(_ block: Int, _ file: FileContents) throws(VaultError) -> StoredBlock? {
        let stored = try cipherSize(file.descriptor) - BlockGeometry.offset(ofBlock: block)
        guard stored >= BlockGeometry.overhead else { return nil }
        let count = min(BlockGeometry.plainCount, stored - BlockGeometry.overhead)
        let found = try file.readBlock(
            block, to: scratch.tailBlock, image: scratch.oldImage,
            plainSize: block * BlockGeometry.plainCount + count, scratch)
        // A short block of zeros is no hole.
        if found == .zero && count < BlockGeometry.plainCount { return .damaged }
        return found
    }

    /// Cuts the file off behind the block that it was cut behind, where that is not newer than the log knows.
    private func settleCut(_ plan: RecoveryPlan, _ file: FileContents, _ isChanged: inout Bool) throws(VaultError) {
        guard !plan.isForeign, let cut = plan.cut, let block = plan.blocks[cut] else { return }
        let size = BlockGeometry.offset(ofBlock: cut) + block.image.count
        guard try cipherSize(file.descriptor) > size else { return }
        let found = try prefix(cut, file) ?? []
        if case .sealed = try read(cut, file), found != block.prefix, !block.older.contains(found) { return }
        try system { () throws(Errno) in try disk.truncate(file.descriptor, to: size) }
        isChanged = true
    }

    private mutating func settleBlocks(
        _ plan: RecoveryPlan, _ file: FileContents, _ isChanged: inout Bool
    ) throws(VaultError) {
        for (index, block) in plan.blocks.sorted(by: { $0.key < $1.key }) {
            let found = try prefix(index, file) ?? []
            let state = try read(index, file)
            // What verifies and is none of those that the log has replaced is newer, or another copy's.
            var isRight = false
            switch state {
            case .sealed: isRight = plan.isForeign || !block.older.contains(found)
            // Where the log may be old, a hole may be a newer one, and an end too.
            case .zero, nil: isRight = plan.isForeign
            case .damaged: break
            }
            if isRight { continue }
            let image = segments[block.segment][block.image]
            guard verifies(Array(image), index, file) else { continue }
            try system { () throws(Errno) in
                try disk.write(file.descriptor, bytes: Array(image), at: BlockGeometry.offset(ofBlock: index))
            }
            report.blocks += 1
            isChanged = true
        }
    }

    private func verifies(_ image: [UInt8], _ block: Int, _ file: FileContents) -> Bool {
        var info = BlockInfo(rawValue: 0)
        return image.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return false }
            return file.open(
                base, block: block, count: bytes.count - BlockGeometry.overhead, to: scratch.tailBlock, &info, scratch)
        }
    }

    /// Ranges that were being punched: what is torn in them, or was replaced before the hole was made, becomes a hole, and so does what stands between holes and
    /// the block that vouches for them. A range that is as it was before, or as it was to be, stays.
    private func settlePunched(
        _ plan: RecoveryPlan, _ file: FileContents, _ isChanged: inout Bool
    ) throws(VaultError) {
        if plan.isForeign { return }
        for range in plan.punched {
            var block = range.lowerBound - 1
            while let next = try file.nextStored(after: block, scratch), next < range.upperBound {
                block = next
                guard plan.blocks[block] == nil else { continue }
                let found = try prefix(block, file) ?? []
                let isTorn = try read(block, file) == .damaged
                guard isTorn || plan.void[block]?.contains(found) ?? false else { continue }
                try file.release(block, block + 1, scratch)
                isChanged = true
            }
        }
        for range in plan.punched {
            var block = range.lowerBound
            while block < range.upperBound, block < BlockGeometry.blockCount(plainSize: file.size) {
                guard try read(block, file) == .zero, let next = try file.nextStored(after: block, scratch) else {
                    block += 1
                    continue
                }
                if case .sealed(let info) = try read(next, file), next - info.gap <= block {
                    block = next + 1
                } else if plan.punched.contains(where: { $0.contains(next) }), plan.blocks[next] == nil {
                    try file.release(next, next + 1, scratch)
                    isChanged = true
                } else {
                    block = next + 1
                }
            }
        }
    }
}
