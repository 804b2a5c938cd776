import CofferCrypto
import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// Whether a copy of a vault is what was sealed. It is only read, and no key is needed; with one, more can be told of what differs.
public final class SealVerification {
    /// What is compared, and how.
    public struct Options: Sendable {
        /// Owners and groups, which only root can copy.
        public var owners = false
        /// Times of modification.
        public var times = true
        /// What files hold; else only whether they are there, and their sizes and times.
        public var contents = true
        /// Permissions, ACLs and extended attributes.
        public var attributes = true
        /// Threads that hash.
        public var threadCount = 1
        /// What an earlier verification of the same seal, which was broken off, has found as sealed.
        public var done = Progress()

        /// The defaults.
        public init() {}
    }

    /// How far a verification has come: enough to go on there.
    public struct Progress: Codable, Equatable, Sendable {
        /// The manifest's records up to which everything was looked at.
        public var records = 0
        /// Those among them that were not found as sealed: places of stored names, in base64url.
        public var different: Set<String> = []
        /// What was compared.
        public var comparing = ""
        /// When it began; nanoseconds since 1970.
        public var began = SealTime.now

        /// Nothing yet.
        public init() {}

        /// Whether a record was found as sealed, and what it is about has not changed since.
        func covers(_ number: Int, _ place: StoredPlace, _ status: stat, comparing: String) -> Bool {
            guard number < records, comparing == self.comparing, SealTime.nanoseconds(status.st_ctim) < began else {
                return false
            }
            var above: StoredPlace? = place
            while let here = above, here.parent != nil {
                if different.contains(Base64URL.text(here.path)) { return false }
                above = here.parent
            }
            return true
        }
    }

    /// A difference that has to be looked at more closely.
    struct Mismatch {
        let place: StoredPlace
        /// What was sealed; nil for what was not.
        let record: SealRecord?
        let status: stat
        let contents: [UInt8]
    }

    /// What is looked at, each with the number of the manifest's record that comes after.
    enum Item {
        case same(Int)
        case file(StoredPlace, SealRecord?, Int)
    }

    let disk: Disk
    let root: Int32
    let vault: Vault?
    let options: Options
    let progress: SealProgress
    var findings: [VerifyFinding] = []
    var mismatches: [Mismatch] = []
    private let onDone: (Progress) -> Void
    private var done = Progress()
    /// No sealed file is larger.
    private var sealedBytes: UInt64 = 0

    /// A verification of the copy at `root`, whose descriptor stays the caller's. With its `vault` unlocked, names and blocks that differ are looked at, too.
    /// `onDone` is told how far it is.
    public init(
        disk: Disk, root: Int32, vault: Vault?, options: Options, onProgress: @escaping @Sendable (SealTotals) -> Void,
        onDone: @escaping (Progress) -> Void = { _ in }
    ) {
        self.disk = disk
        self.root = root
        self.vault = vault
        self.options = options
        self.onDone = onDone
        done.comparing = "\(options.owners) \(options.times) \(options.attributes)"
        progress = SealProgress(onProgress)
    }

    /// What was read and found.
    public var totals: SealTotals { progress.now }

    /// Compares everything with a seal, whose manifest has been found genuine. Throws where that changes meanwhile, or the root cannot be read.
    public func run(_ head: SealHead, in seals: VaultSeals) throws(VaultError) -> [VerifyFinding] {
        let file = try seals.store.open(head.counter)
        defer { disk.close(file) }
        sealedBytes = head.bytes
        let cursor = try SealCursor(
            disk: disk, descriptor: file, start: SealHead.byteCount, count: Int(head.manifestCount))
        try compare(cursor)
        guard try cursor.finish() == head.root else { throw .damaged(Damage(.seal)) }
        if options.contents { try classify(head, file, in: seals) }
        return findings
    }

    func find(_ place: StoredPlace, _ kind: VerifyFinding.Kind, isDirectory: Bool = false) {
        let finding = VerifyFinding(place, kind, isDirectory: isDirectory)
        findings.append(finding)
        if finding.severity != .note { progress.tell { $0.findings += 1 } }
    }

    // MARK: Side by side

    private func compare(_ cursor: SealCursor) throws(VaultError) {
        let progress = progress
        let pipeline = try HashPipeline<Item>(
            disk: disk, threadCount: options.threadCount, verifyingWith: nil,
            comparing: SealComparison(sizeLimit: Int(clamping: sealedBytes), owners: options.owners),
            onBytes: { count in progress.tell { $0.bytesRead += count } },
            emit: { [self] (item, result) throws(VaultError) in emit(item, result) })
        let outcome: Result<Void, VaultError> = Result { () throws(VaultError) in
            try walk(cursor, pipeline)
            try pipeline.finish()
        }
        if case .failure = outcome { pipeline.abandon() }
        try outcome.get()
    }

    private func walk(_ cursor: SealCursor, _ pipeline: HashPipeline<Item>) throws(VaultError) {
        let walk = try SealWalk(disk: disk, root: root)
        compareDirectory(cursor.root, walk)
        while true {
            let sealed = cursor.item?.record
            // Below 0 for what was not sealed, above 0 for what is not there.
            let order = sealed.map { walk.order($0.name) } ?? -1
            if let sealed, order >= 0 {
                if order > 0 { try miss(sealed, cursor, walk) } else { try meet(sealed, cursor, walk, pipeline) }
            } else if let found = walk.name {
                try add(found, walk, pipeline, before: cursor.entries)
                walk.advance()
            } else {
                for name in walk.foreign { find(StoredPlace(in: walk.place, name), .foreign) }
                try cursor.leave()
                guard try walk.leave() else { return }
            }
        }
    }

    private func miss(_ sealed: SealRecord, _ cursor: SealCursor, _ walk: SealWalk) throws(VaultError) {
        let place = StoredPlace(in: walk.place, sealed.name)
        let skipped = try cursor.skip()
        find(place, .missing(inside: skipped - 1), isDirectory: sealed.isDirectory)
        done.different.insert(Base64URL.text(place.path))
        progress.tell { $0.entries += skipped }
    }

    /// Something that was not sealed.
    private func add(
        _ name: [UInt8], _ walk: SealWalk, _ pipeline: HashPipeline<Item>, before number: Int
    ) throws(VaultError) {
        let place = StoredPlace(in: walk.place, name)
        do throws(VaultError) {
            let status = try system { () throws(Errno) in
                try disk.status(at: walk.descriptor, StoredName(name).cString)
            }
            // What is larger than all that was sealed is nothing of it.
            if status.st_mode & S_IFMT == S_IFREG, options.contents, UInt64(status.st_size) <= sealedBytes {
                try pipeline.put(
                    .file(place, nil, number), file: name, in: try walk.shared(), size: status.st_size,
                    isContent: false)
            } else {
                mismatches.append(Mismatch(place: place, record: nil, status: status, contents: []))
            }
        } catch {
            if error == .system(.noSuchFileOrDirectory) { return }
            find(place, .unreadable(error.errno))
        }
    }

    /// Something that is where it was sealed.
    private func meet(
        _ sealed: SealRecord, _ cursor: SealCursor, _ walk: SealWalk, _ pipeline: HashPipeline<Item>
    ) throws(VaultError) {
        let place = StoredPlace(in: walk.place, sealed.name)
        do throws(VaultError) {
            if walk.isFile, let size = smallSize(sealed, cursor) {
                // Whoever opens it sees what it is.
                try pipeline.put(
                    .file(place, sealed, cursor.entries), file: sealed.name, in: try walk.shared(), size: size,
                    isContent: false, sealed: sealed)
                try cursor.skip()
                return walk.advance()
            }
            let status = try system { () throws(Errno) in
                try disk.status(at: walk.descriptor, StoredName(sealed.name).cString)
            }
            if status.st_mode & S_IFMT != mode_t(sealed.mode) & S_IFMT {
                find(place, .type, isDirectory: sealed.isDirectory)
            } else if sealed.isDirectory {
                try walk.enter(sealed.name)
                compareDirectory(sealed, walk)
                try pipeline.put(.same(cursor.entries))
                return try cursor.enter()
            } else if case .file = sealed.kind {
                if !options.contents {
                    compareQuickly(place, sealed, status)
                    try pipeline.put(.same(cursor.entries))
                } else if options.done.covers(cursor.entries, place, status, comparing: done.comparing),
                    isAsBefore(sealed, status)
                {
                    try pipeline.put(.same(cursor.entries))
                } else if isOfAnotherSize(sealed, status) {
                    // Whatever it holds, it is not that.
                    mismatches.append(Mismatch(place: place, record: sealed, status: status, contents: []))
                    done.different.insert(Base64URL.text(place.path))
                    progress.tell { $0.findings += 1 }
                    try pipeline.put(.same(cursor.entries))
                } else {
                    try pipeline.put(
                        .file(place, sealed, cursor.entries), file: sealed.name, in: try walk.shared(),
                        size: status.st_size, isContent: false, sealed: sealed)
                }
            } else {
                let now = try Sealing.record(disk, sealed.name, in: walk.descriptor, status)
                compareSpecial(place, sealed, now)
                try pipeline.put(.same(cursor.entries))
            }
        } catch {
            if error == .system(.noSuchFileOrDirectory) { return try miss(sealed, cursor, walk) }
            find(place, .unreadable(error.errno), isDirectory: sealed.isDirectory)
            done.different.insert(Base64URL.text(place.path))
        }
        try cursor.skip()
        walk.advance()
    }

    /// The size of a small file that is read in any case; nil for anything else.
    private func smallSize(_ sealed: SealRecord, _ cursor: SealCursor) -> Int? {
        guard case .file(let size, _) = sealed.kind, size <= HashPipeline<Item>.smallSize, !sealed.isUnsure,
            options.contents, cursor.entries > options.done.records
        else { return nil }
        return Int(size)
    }

    /// Without reading: another size or time says that it is another version.
    private func compareQuickly(_ place: StoredPlace, _ sealed: SealRecord, _ status: stat) {
        guard case .file(let size, _) = sealed.kind else { return }
        let now = SealTime.nanoseconds(status.st_mtim)
        if UInt64(status.st_size) != size {
            find(
                place,
                now > sealed.time
                    ? .newer
                    : now < sealed.time
                        ? .older(counter: nil)
                        : .size(sealed: size, found: UInt64(status.st_size)))
        } else if options.times, !Self.isSame(sealed.time, status.st_mtim) {
            find(place, .time)
        }
    }

    /// Larger than anything that was sealed: then it is not read.
    private func isOfAnotherSize(_ sealed: SealRecord, _ status: stat) -> Bool {
        guard case .file(let size, _) = sealed.kind, !sealed.isUnsure else { return false }
        return UInt64(status.st_size) != size && UInt64(status.st_size) > sealedBytes
    }

    /// What was verified already is believed to be the same as long as its size and time are.
    private func isAsBefore(_ sealed: SealRecord, _ status: stat) -> Bool {
        guard case .file(let size, _) = sealed.kind else { return false }
        return size == UInt64(status.st_size) && sealed.time == SealTime.nanoseconds(status.st_mtim)
            && sealed.mode == UInt32(status.st_mode)
    }

    // MARK: What was sealed, and what is

    /// The walk is in it, and goes on, whatever cannot be read of it.
    private func compareDirectory(_ sealed: SealRecord, _ walk: SealWalk) {
        do throws(VaultError) {
            let status = try system { () throws(Errno) in try disk.status(walk.descriptor) }
            compareProperties(
                walk.place, sealed, status, try StoredAttributes.hash(disk: disk, walk.descriptor))
        } catch {
            find(walk.place, .unreadable(error.errno), isDirectory: true)
        }
    }

    private func compareSpecial(_ place: StoredPlace, _ sealed: SealRecord, _ now: SealRecord) {
        if now.kind != sealed.kind {
            let found = timespec(tv_sec: Int(now.time / 1_000_000_000), tv_nsec: Int(now.time % 1_000_000_000))
            if Self.isSame(sealed.time, found) {
                if case .link = now.kind { find(place, .link) } else { find(place, .device) }
            } else if case .link = now.kind, linkVerifies(place) == false {
                find(place, .link)
            } else {
                find(place, now.time > sealed.time ? .newer : .older(counter: nil))
            }
            return
        }
        var status = stat()
        status.st_mode = mode_t(now.mode)
        status.st_uid = now.owner
        status.st_gid = now.group
        status.st_mtim = timespec(tv_sec: Int(now.time / 1_000_000_000), tv_nsec: Int(now.time % 1_000_000_000))
        compareProperties(place, sealed, status, now.attributes)
    }

    private func compareProperties(
        _ place: StoredPlace, _ sealed: SealRecord, _ status: stat, _ attributes: [UInt8]?
    ) {
        let isDirectory = sealed.isDirectory
        // A link has no permissions of its own.
        if options.attributes, status.st_mode & S_IFMT != S_IFLNK, UInt32(status.st_mode) != sealed.mode {
            find(place, .mode(sealed: sealed.mode, found: UInt32(status.st_mode)), isDirectory: isDirectory)
        }
        if options.attributes, attributes != sealed.attributes { find(place, .attributes, isDirectory: isDirectory) }
        if options.owners, status.st_uid != sealed.owner || status.st_gid != sealed.group {
            find(place, .owner, isDirectory: isDirectory)
        }
        if options.times, !isDirectory, !Self.isSame(sealed.time, status.st_mtim) { find(place, .time) }
    }

    /// Whether a time is one that was sealed, as far as the copy's file system keeps it: some only whole seconds, or two.
    static func isSame(_ sealed: Int64, _ found: timespec) -> Bool {
        let now = SealTime.nanoseconds(found)
        if now == sealed { return true }
        guard now % 1_000_000_000 == 0 else {
            // Some keep microseconds, or tenths of them.
            return [1000, 100].contains { now % $0 == 0 && now == sealed - sealed % $0 }
        }
        return now <= sealed + 1_999_999_999 && sealed - now < 2_000_000_000 && now % 2_000_000_000 == 0
            || now == sealed - sealed % 1_000_000_000
    }

    private func emit(_ item: Item, _ result: Result<FileHashing.Result, VaultError>?) {
        let before = findings.count + mismatches.count
        look(item, result)
        switch item {
        case .same(let number): done.records = number
        case .file(let place, _, let number):
            if findings.count + mismatches.count > before { done.different.insert(Base64URL.text(place.path)) }
            done.records = number
        }
        progress.tell { $0.entries += 1 }
        onDone(done)
    }

    private func look(_ item: Item, _ result: Result<FileHashing.Result, VaultError>?) {
        guard case .file(let place, let sealed, _) = item else { return }
        // Exactly as sealed.
        guard let result else { return progress.tell { $0.filesRead += 1 } }
        do throws(VaultError) {
            let found = try result.get()
            if found.isTooLarge {
                mismatches.append(Mismatch(place: place, record: sealed, status: found.status, contents: []))
                return progress.tell { $0.findings += 1 }
            }
            progress.tell { $0.filesRead += 1 }
            if found.isUnsure { return find(place, .busy) }
            guard let sealed, case .file(let size, let contents) = sealed.kind else {
                mismatches.append(
                    Mismatch(place: place, record: nil, status: found.status, contents: found.contents))
                return
            }
            if sealed.isUnsure {
                find(place, .unsure)
            } else if sealed.isDamaged, contents.allSatisfy({ $0 == 0 }) {
                // The disk did not give it out.
                find(place, .sealedDamaged)
            } else if UInt64(found.status.st_size) != size || found.contents != contents {
                mismatches.append(
                    Mismatch(place: place, record: sealed, status: found.status, contents: found.contents))
                progress.tell { $0.findings += 1 }
                return
            } else if sealed.isDamaged {
                find(place, .sealedDamaged)
            }
            compareProperties(place, sealed, found.status, found.attributes)
        } catch {
            switch error {
            case .system(.noSuchFileOrDirectory):
                if sealed != nil { find(place, .missing(inside: 0)) }
            default: find(place, .unreadable(error.errno))
            }
        }
    }
}
