import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Brings files to a state that can be read, and that holds everything a program was promised, from what the intent log says after a power cut.
///
/// An image goes into a file only where what is there is something that the log knows to be older, or does not verify. So doing it again changes nothing, and
/// neither does the log of another copy of the vault. Ends are set anew only where the file was growing or new, and the log of this place says so.
public struct LogRecovery {
    /// What was done.
    public struct Report: Equatable, Sendable {
        /// A file that could not be brought to rights.
        public struct Failure: Equatable, Sendable {
            /// Stored names from the vault's root.
            public let path: [StoredName]
            /// Why.
            public let error: VaultError
        }

        /// Files that were changed.
        public var files = 0
        /// Blocks that were stored again.
        public var blocks = 0
        /// Ends that were set anew.
        public var ends = 0
        /// Files that the log speaks of and that are not there, or are others by now.
        public var missing = 0
        /// Files that still do not verify where they should, or could not be reached.
        public var failed: [Failure] = []
        /// Whether another attempt may do better: the system, and not the bytes, was in the way.
        public var isUnfinished: Bool {
            failed.contains { if case .damaged = $0.error { false } else { true } }
        }
    }

    /// A segment that verifies.
    struct Source {
        /// Where its bytes are among `segments`.
        let index: Int
        let contents: LogSegment.Contents
        let trust: RecoveryPlan.Trust
    }

    /// Where recovery's own records go: behind those of the newest segment.
    struct Tail {
        let descriptor: Int32
        let generation: [UInt8]
        var end: Int

        /// The number of a file in a record that is put here: none that the session which ended can have given.
        var number: UInt32 { UInt32(truncatingIfNeeded: end) | Self.mark }
        /// Whether a recovery gave this number.
        static func isOwn(_ number: UInt32) -> Bool { number & mark != 0 }
        private static let mark: UInt32 = 1 << 31
    }

    let disk: Disk
    let ring: KeyRing
    let rootDescriptor: Int32
    let scratch: Scratch
    /// What files are sealed with that become new ones.
    let cipher: CipherSuite
    let names: NameCodec
    var segments: [[UInt8]] = []
    var sources: [Source] = []
    var tail: Tail?
    /// What images are verified with, by header.
    private var keys: [[UInt8]: FileContents] = [:]
    /// What was done so far.
    public internal(set) var report = Report()
    /// Whether there was anything to look at.
    public var hasFound: Bool { !report.failed.isEmpty || sources.contains { !$0.contents.records.isEmpty } }

    /// Recovery in the vault whose root `rootDescriptor` is, and whose new files are sealed with `cipher`.
    public init(
        disk: Disk, ring: KeyRing, rootDescriptor: Int32, cipher: CipherSuite = .aes256GCM, scratch: Scratch
    ) {
        self.cipher = cipher
        self.disk = disk
        self.ring = ring
        self.rootDescriptor = rootDescriptor
        self.scratch = scratch
        names = NameCodec(ring: ring, limit: NameCodec.limits.upperBound)
    }

    /// Does what the segments behind `descriptors`, which are the caller's, say, and makes that durable. What `leftovers` say, of which an earlier recovery could not
    /// do everything, counts as a foreign log's. Returns the highest order that a segment has.
    public mutating func recover(_ descriptors: [Int32], leftovers: [Int32] = []) throws(VaultError) -> UInt64 {
        try read(descriptors, leftovers: leftovers)
        if sources.isEmpty { return 0 }
        if let newest = sources.last(where: { $0.trust == .own }) {
            tail = Tail(
                descriptor: descriptors[newest.index], generation: newest.contents.header.generation,
                end: newest.contents.end)
        }
        let own = try plan(sources.filter { $0.trust == .own })
        // A new file that is not where its records say is found where new ones may be.
        var known: Set<[UInt8]> = []
        for plan in own.files {
            var isThere = true
            if !plan.isEmpty {
                try attempt(plan.paths) { recovery throws(VaultError) in
                    isThere = try recovery.carryOut(plan)
                }
            }
            if isThere || !plan.isNew { known.insert(Array(plan.header[8..<24])) }
        }
        var scan = NewFiles(known: known)
        for place in own.making {
            try attempt([place.path]) { recovery throws(VaultError) in
                try recovery.settleNew(place, &scan)
            }
        }
        for trust in [RecoveryPlan.Trust.left, .foreign] {
            for plan in try plan(sources.filter { $0.trust == trust }).files where !plan.isEmpty {
                try attempt(plan.paths) { recovery throws(VaultError) in
                    _ = try recovery.carryOut(plan)
                }
            }
        }
        // What was found to be right may have been so in memory only.
        try system { () throws(Errno) in try disk.syncFileSystem(rootDescriptor) }
        return sources.map(\.contents.header.order).max() ?? 0
    }

    /// One file's trouble keeps no other from recovery.
    private mutating func attempt(
        _ paths: [[StoredName]], _ body: (inout LogRecovery) throws(VaultError) -> Void
    ) throws(VaultError) {
        do throws(VaultError) {
            try body(&self)
        } catch {
            report.failed.append(Report.Failure(path: paths.first ?? [], error: error))
        }
    }

    /// Where the records of one of the segments end, or 0 where it has none.
    func end(of segment: Int) -> Int { sources.first { $0.index == segment }?.contents.end ?? 0 }

    /// Stores once more what files hold of what the segments behind `descriptors` say: for a log that is in use, after a sync has failed.
    /// `alone` runs what must not meet anybody who sets a file's times.
    mutating func rewrite(
        _ descriptors: [Int32], alone: (stat, () throws(VaultError) -> Void) throws(VaultError) -> Void
    ) throws(VaultError) {
        try read(descriptors, leftovers: [])
        // A segment that cannot be read says nothing, and is not done with.
        if let failure = report.failed.first { throw failure.error }
        var failure: VaultError?
        for plan in try plan(sources.filter { $0.trust == .own }).files where !plan.isEmpty {
            do throws(VaultError) {
                try rewrite(plan, alone: alone)
            } catch {
                // The others are stored all the same.
                failure = error
            }
        }
        if let failure { throw failure }
    }

    private mutating func rewrite(
        _ plan: RecoveryPlan, alone: (stat, () throws(VaultError) -> Void) throws(VaultError) -> Void
    ) throws(VaultError) {
        guard let (descriptor, header) = try find(plan) else { return }
        let file = try FileContents(recovering: descriptor, disk: disk, ring: ring, header: header, size: 0)
        let raw = try system { () throws(Errno) in try disk.readBytes(descriptor, limit: FileHeader.byteCount) }
        // What was given up is in the log too.
        guard raw == plan.header else { return }
        // No program changes it meanwhile, and none has by this.
        let known = try system { () throws(Errno) in try disk.status(descriptor) }
        try alone(known) { () throws(VaultError) in try store(plan, file) }
    }

    private func store(_ plan: RecoveryPlan, _ file: FileContents) throws(VaultError) {
        let before = try system { () throws(Errno) in try disk.status(file.descriptor) }
        defer { restoreTimes(file, before) }
        if plan.emptyImage != nil {
            try system { () throws(Errno) in try disk.write(file.descriptor, bytes: file.header.bytes) }
        }
        for (index, block) in plan.blocks where try prefix(index, file) == block.prefix {
            let image = Array(segments[block.segment][block.image])
            try system { () throws(Errno) in
                try disk.write(file.descriptor, bytes: image, at: BlockGeometry.offset(ofBlock: index))
            }
        }
    }

    private func restoreTimes(_ file: FileContents, _ before: stat) {
        do throws(Errno) {
            try disk.setTimes(file.descriptor, access: before.st_atim, modification: before.st_mtim.next)
        } catch {
            // As where permissions are taken back: a copy tool looks once more.
        }
    }

    // MARK: Reading

    mutating func read(_ descriptors: [Int32], leftovers: [Int32]) throws(VaultError) {
        for (index, descriptor) in (descriptors + leftovers).enumerated() {
            var bytes: [UInt8] = []
            do throws(Errno) {
                // No more than a log ever has, whatever is in its place.
                let size = min(Int(try disk.status(descriptor).st_size), LogDirectory.standardCapacity)
                bytes = try disk.readBytes(descriptor, limit: size)
            } catch {
                report.failed.append(Report.Failure(path: [ReservedName.log], error: .system(error)))
            }
            segments.append(bytes)
            guard let contents = bytes.withUnsafeBytes({ LogSegment.parse($0, ring: ring) }) else { continue }
            let place = try IntentLog.place(of: descriptor, rootDescriptor, disk)
            sources.append(
                Source(
                    index: index, contents: contents,
                    trust: contents.header.place != place ? .foreign : index < descriptors.count ? .own : .left))
        }
        sources.sort { $0.contents.header.order < $1.contents.header.order }
    }

    /// What the segments say, older ones first.
    mutating func plan(_ sources: [Source]) throws(VaultError) -> LogPlan {
        var result = LogPlan()
        for source in sources {
            var files: [UInt32: Int] = [:]
            let bytes = segments[source.index]
            for entry in source.contents.records {
                if result.takePlace(entry.record) { continue }
                if case .file(let header, let path) = entry.record {
                    let isNew = sources.contains {
                        LogSegment.isNew(Array(header[8..<24]), header: $0.contents.header, ring: ring)
                    }
                    files[entry.file] = result.introduce(
                        header: header, path: path, isNew: isNew, trust: source.trust)
                }
                // A recovery's own records are durable before anything is done by them, and come after what a session left half-way: each is believed by itself.
                let isRecoverys = Tail.isOwn(entry.file)
                // And a file was synced before that was said, whatever the log holds of it before.
                var isBelieved = isRecoverys
                if case .synced = entry.record { isBelieved = true }
                guard let index = files[entry.file], isBelieved || !result.files[index].isBroken else { continue }
                var plan = result.files[index]
                bytes.withUnsafeBytes {
                    plan.take(entry.record, segment: source.index, payload: entry.payload, $0)
                }
                // Of a record that came to the disk only in part nothing was done, and nobody waited for it or for what follows it.
                if try isWhole(entry, plan, bytes) {
                    result.files[index] = plan
                } else if !isRecoverys {
                    result.files[index].isBroken = true
                }
            }
        }
        return result
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
}
