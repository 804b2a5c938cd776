import CofferCrypto
import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// Entries in the order in which they were put in, each with what its file hashes to, while several threads hash those that come after. What is under way at
/// once is bounded, whatever there is.
final class HashPipeline<Item> {
    private enum Pending {
        case ready(Item)
        case file(HashJob, Item)
        /// Small files of one directory, and what is between them: nil for an item that is no file.
        case batch(HashJob, [(item: Item, file: Int?)])
        case part(HashJob, LargeState)
        case check(HashJob, LargeState)
        case large(LargeState, Item)
    }

    private final class LargeState {
        let file: LargeFile
        let attributes: [UInt8]?
        let isContent: Bool
        let hash: ContentHash
        let began = SealTime.now
        var isComplete = true
        var isDamaged = false
        var failure: VaultError?

        init(_ file: LargeFile, attributes: [UInt8]?, isContent: Bool) {
            self.file = file
            self.attributes = attributes
            self.isContent = isContent
            hash = ContentHash(size: file.before.st_size)
        }
    }

    private static var limit: Int { 64 }
    /// What one thread takes at once of small files: waking a thread costs as much as hashing several.
    private static var batchFiles: Int { 64 }
    private static var batchBytes: Int { 1 << 20 }
    private var batch: [(item: Item, file: Int?)] = []
    private var batchNames: [HashJob.File] = []
    private var batchDirectory: SharedDirectory?
    private var batchSize = 0
    private let disk: Disk
    private let pool: HashPool
    private let own: FileHashing
    private let verifies: Bool
    private var pending: [Pending] = []
    private var first = 0
    private let emit: (Item, Result<FileHashing.Result, VaultError>?) throws(VaultError) -> Void

    /// `emit` gets each item in order; with the result where it is a file's, unless that is exactly as sealed. With a ring, what is read is verified, too. `onBytes` is called by several threads.
    init(
        disk: Disk, threadCount: Int, verifyingWith ring: KeyRing?,
        comparing comparison: SealComparison = SealComparison(),
        onBytes: @escaping @Sendable (Int) -> Void,
        emit: @escaping (Item, Result<FileHashing.Result, VaultError>?) throws(VaultError) -> Void
    ) throws(VaultError) {
        self.disk = disk
        self.emit = emit
        verifies = ring != nil
        var hashings: [FileHashing] = []
        for _ in 0..<max(1, threadCount) {
            hashings.append(try FileHashing(disk: disk, verifyingWith: ring, onBytes: onBytes))
        }
        own = try FileHashing(disk: disk, verifyingWith: ring, onBytes: onBytes)
        pool = try HashPool(disk: disk, comparing: comparison, hashings)
    }

    /// Puts something in that is no file, or need not be read.
    func put(_ item: Item) throws(VaultError) {
        if batch.isEmpty { return try append(.ready(item)) }
        batch.append((item, nil))
        if batch.count >= 4 * Self.batchFiles { try flush() }
    }

    /// Files of so many bytes and less are small: nothing has to be known of one before it is put in.
    static var smallSize: Int { 1 << 16 }

    /// Puts a file in. Where it is small it is compared with what was `sealed` of it, if that is given.
    func put(
        _ item: Item, file name: [UInt8], in directory: SharedDirectory, size: Int, isContent: Bool,
        sealed: SealRecord? = nil
    ) throws(VaultError) {
        if size <= Self.smallSize {
            if batchDirectory !== directory || batchNames.count >= Self.batchFiles || batchSize >= Self.batchBytes {
                try flush()
            }
            batchDirectory = directory
            batch.append((item, batchNames.count))
            batchNames.append(HashJob.File(name: name, isContent: isContent, sealed: sealed))
            batchSize += size
            return
        }
        try flush()
        if size <= FileHashing.groupParts * ContentHash.partCount || size > FileHashing.sizeLimit {
            let job = HashJob(.file(directory, name, isContent: isContent))
            pool.add(job)
            return try append(.file(job, item))
        }
        let state: LargeState
        do throws(VaultError) {
            state = try open(name, in: directory, isContent: isContent)
        } catch {
            // What cannot be opened is found out by whoever's turn it is, who tells.
            let job = HashJob(.file(directory, name, isContent: isContent))
            pool.add(job)
            return try append(.file(job, item))
        }
        if verifies && isContent {
            let job = HashJob(.check(state.file))
            pool.add(job)
            try append(.check(job, state))
        }
        let count = ContentHash.parts(ofSize: state.file.before.st_size)
        for start in stride(from: 0, to: count, by: FileHashing.groupParts) {
            let job = HashJob(.parts(state.file, start..<min(count, start + FileHashing.groupParts)))
            pool.add(job)
            try append(.part(job, state))
        }
        try append(.large(state, item))
    }

    /// Hands the small files over that were put in so far.
    private func flush() throws(VaultError) {
        guard let directory = batchDirectory, !batch.isEmpty else { return }
        let job = HashJob(.files(directory, batchNames))
        let entries = batch
        batch = []
        batchNames = []
        batchDirectory = nil
        batchSize = 0
        pool.add(job)
        try append(.batch(job, entries))
    }

    /// Waits until everything has come out.
    func finish() throws(VaultError) {
        try flush()
        while first < pending.count { try step(waits: true) }
        pool.finish()
    }

    /// Ends the threads, whatever is left.
    func abandon() {
        pending = []
        first = 0
        pool.finish()
    }

    private func open(
        _ name: [UInt8], in directory: SharedDirectory, isContent: Bool
    ) throws(VaultError) -> LargeState {
        let descriptor = try FileHashing.open(disk: disk, name, in: directory.descriptor)
        let status: stat
        do throws(Errno) {
            status = try disk.status(descriptor)
        } catch {
            disk.close(descriptor)
            throw .system(error)
        }
        let file = LargeFile(disk: disk, descriptor: descriptor, before: status)
        guard status.st_mode & S_IFMT == S_IFREG else { throw .system(.staleNFSFileHandle) }
        return LargeState(
            file, attributes: try StoredAttributes.hash(disk: disk, descriptor), isContent: isContent)
    }

    private func append(_ entry: Pending) throws(VaultError) {
        pending.append(entry)
        while first < pending.count, try step(waits: pending.count - first > Self.limit) {}
        if first > 1024 {
            pending.removeFirst(first)
            first = 0
        }
    }

    /// Lets the first entry out; false where it is not done.
    @discardableResult
    private func step(waits: Bool) throws(VaultError) -> Bool {
        switch pending[first] {
        case .ready(let item):
            first += 1
            try emit(item, nil)
        case .file(let job, let item):
            guard let outcome = pool.outcome(of: job, waits: waits) else { return false }
            first += 1
            switch outcome {
            case .file(let result): try emit(item, .success(result))
            case .failed(let error): try emit(item, .failure(error))
            case .parts, .checked, .files: try emit(item, .failure(.cryptography))
            }
        case .batch(let job, let entries):
            guard let outcome = pool.outcome(of: job, waits: waits) else { return false }
            first += 1
            guard case .files(let others) = outcome else { throw .cryptography }
            var next = 0
            for entry in entries {
                if next < others.count, entry.file == others[next].number {
                    try emit(entry.item, others[next].result)
                    next += 1
                } else {
                    try emit(entry.item, nil)
                }
            }
        case .part(let job, let state), .check(let job, let state):
            guard let outcome = pool.outcome(of: job, waits: waits) else { return false }
            first += 1
            switch outcome {
            case .parts(let hashes):
                if let hashes { hashes.withUnsafeBytes { state.hash.add($0) } } else { state.isComplete = false }
            case .checked(let isGood): state.isDamaged = !isGood
            case .failed(let error): state.failure = error
            case .file, .files: break
            }
        case .large(let state, let item):
            first += 1
            let result: Result<FileHashing.Result, VaultError> = Result { () throws(VaultError) in
                try finish(state)
            }
            try emit(item, result)
        }
        return true
    }

    private func finish(_ state: LargeState) throws(VaultError) -> FileHashing.Result {
        if let failure = state.failure { throw failure }
        let after = try system { () throws(Errno) in try disk.status(state.file.descriptor) }
        if state.isComplete && !state.isDamaged && FileStamp(state.file.before) == FileStamp(after) {
            return FileHashing.Result(
                status: after, attributes: state.attributes, contents: state.hash.finish(),
                readAt: state.began)
        }
        return try own.hash(state.file.descriptor, isContent: state.isContent)
    }
}
