import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Segments that end.
extension IntentLog {
    /// Seconds that a record stays in the log at most while there is a keeper, and between two attempts to empty a segment.
    private static let patience: Int64 = 5
    /// Bytes that may be pending before they are looked after at once.
    private static let pendingLimit = 4 << 20

    /// Makes everything that the log holds durable in the files, and empties it.
    public func checkpoint() throws(VaultError) {
        lock()
        defer { unlock() }
        let target = segments[active].order
        while true {
            if isEmptying {
                wait()
            } else if !segments[1 - active].isEmpty {
                try emptyLocked(1 - active)
            } else if segments[active].order <= target, segments[active].written > LogSegment.headerCount {
                try switchLocked()
            } else {
                return
            }
        }
    }

    /// Empties segments as they fill up, and at the latest some seconds after their first record, until ``stop()``. To be called in a thread of its own, by one at
    /// a time. `onTrouble` hears of a segment that cannot be emptied, once, and with nil when it can again.
    public func keep(onTrouble: (VaultError?) -> Void) {
        lock()
        defer { unlock() }
        hasKeeper = true
        var failedAt: Int64?
        while !isStopping {
            let now = Int64(time(nil))
            do throws(VaultError) {
                try applyPendingLocked(tellsAll: true)
            } catch {
                if failedAt == nil { onTrouble(error) }
                failedAt = now
            }
            let isTired = failedAt.map { now >= $0 && now - $0 < Self.patience } ?? false
            if isEmptying || isTired {
                wait(milliseconds: 500)
            } else if !segments[1 - active].isEmpty {
                do throws(VaultError) {
                    try emptyLocked(1 - active)
                    if failedAt != nil { onTrouble(nil) }
                    failedAt = nil
                } catch {
                    if failedAt == nil { onTrouble(error) }
                    failedAt = now
                }
            } else if segments[active].written > LogSegment.headerCount, isOld(segments[active], now) {
                do throws(VaultError) {
                    try switchLocked()
                } catch {
                    if failedAt == nil { onTrouble(error) }
                    failedAt = now
                }
            } else {
                // Nothing is pending of a log that holds nothing.
                let isIdle = !isStopping && segments[active].written == LogSegment.headerCount && pendingFiles.isEmpty
                if isIdle { kept.trim() }
                wait(milliseconds: isIdle ? nil : 200)
            }
        }
        hasKeeper = false
    }

    /// Stores in the files what the log has for them. Where that was done though the log could not be made durable, it throws only with `tellsAll`.
    private func applyPendingLocked(tellsAll: Bool = false) throws(VaultError) {
        let files = pendingFiles
        pendingFiles = [:]
        pendingBytes = 0
        for file in files.values { file.isPending = false }
        var failure: VaultError?
        for (key, file) in files {
            unlock()
            let outcome: Result<Void, VaultError> = Result { () throws(VaultError) in
                try file.pending.apply(self, tellsAll: tellsAll)
            }
            lock()
            if !file.pending.isEmpty {
                pendingFiles[key] = file
                file.isPending = true
                signal()
            }
            if case .failure(let error) = outcome { failure = error }
        }
        if let failure { throw failure }
    }

    /// Whether it holds nothing.
    public var isEmpty: Bool {
        lock()
        defer { unlock() }
        return segments[active].written == LogSegment.headerCount && segments[1 - active].isEmpty
    }

    /// A file has something pending.
    func notePending(_ file: LoggedFile, byteCount: Int) {
        lock()
        if !file.isPending {
            file.isPending = true
            pendingFiles[file.key] = file
        }
        pendingBytes += byteCount
        // Whoever waits for everybody to end must know; and so much is not left for later.
        if isEmptying || isClosed || pendingBytes >= Self.pendingLimit { signal() }
        unlock()
    }

    /// Stores in an object's file what the log has for it, before anybody else opens it. False where there was nothing.
    func settle(_ status: stat) throws(VaultError) -> Bool {
        let key = LoggedFile.Key(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
        lock()
        let file = files[key]
        unlock()
        guard let file, !file.pending.isEmpty else { return false }
        try file.pending.apply(self)
        return true
    }

    /// A clock that was set back makes it old too.
    private func isOld(_ segment: Segment, _ now: Int64) -> Bool {
        now < segment.begun || now - segment.begun >= Self.patience
    }

    /// Ends ``keep(onTrouble:)``.
    public func stop() {
        lock()
        isStopping = true
        signal()
        unlock()
    }

    /// The other segment, which is empty, becomes active: once the present one's records are durable, for what comes after them relies on them.
    private func switchLocked() throws(VaultError) {
        let (old, order) = (active, segments[active].order)
        while segments[old].isSyncing {
            wait()
            if segments[active].order != order { return }
        }
        if segments[old].failure == nil, segments[old].durable < segments[old].written {
            do throws(Errno) {
                try disk.sync(segments[old].descriptor, dataOnly: true)
                segments[old].durable = segments[old].written
            } catch {
                // Those who wait for it hear of it.
                segments[old].failure = error
            }
        }
        try begin(1 - old)
        active = 1 - old
        signal()
    }

    /// The active segment is full, or failed: returns when another is active.
    func makeRoomLocked() throws(VaultError) {
        let full = active
        while !segments[1 - full].isEmpty {
            if isEmptying { wait() } else { try emptyLocked(1 - full) }
            if active != full { return }
        }
        try switchLocked()
        if hasKeeper || isEmptying { return }
        do throws(VaultError) {
            try emptyLocked(full)
        } catch {
            // Whoever needs it next tries again, and hears of it.
        }
    }

    /// Once nobody writes by it any more, everything is made durable, and the segment is overwritten.
    private func emptyLocked(_ index: Int) throws(VaultError) {
        isEmptying = true
        defer {
            isEmptying = false
            signal()
        }
        while segments[index].users > 0 || segments[index].isSyncing {
            if pendingFiles.isEmpty { wait() } else { try applyPendingLocked() }
        }
        if mustRewrite {
            // The system tells each sync of the file system once of what could not be written before: storing it once more is the answer to that.
            unlock()
            _ = Result { () throws(Errno) in try disk.syncFileSystem(rootDescriptor) }
            lock()
            try rewriteLocked()
        }
        let descriptor = segments[index].descriptor
        unlock()
        let outcome: Result<Void, Errno> = Result { () throws(Errno) in
            try disk.syncFileSystem(rootDescriptor)
            try disk.write(descriptor, bytes: [UInt8](repeating: 0, count: LogSegment.headerCount))
            try disk.sync(descriptor, dataOnly: true)
        }
        lock()
        if case .failure(let error) = outcome {
            // The next sync may succeed without having written what this one could not.
            mustRewrite = true
            throw .system(error)
        }
        segments[index].isEmpty = true
        let order = segments[index].order
        files = files.filter { $0.value.lastOrder > order || $0.value.hasUntoldFailure.load(ordering: .relaxed) }
    }

    /// Stores once more what the log says of files, because a sync has failed: while nobody writes, so that what is in the log is the last there is.
    private func rewriteLocked() throws(VaultError) {
        isClosed = true
        defer {
            isClosed = false
            signal()
        }
        while segments.contains(where: { $0.users > 0 || $0.isSyncing }) {
            if pendingFiles.isEmpty { wait() } else { try applyPendingLocked() }
        }
        mustRewrite = false
        let descriptors = segments.filter { !$0.isEmpty }.map(\.descriptor)
        unlock()
        let outcome: Result<Void, VaultError> = Result { () throws(VaultError) in
            let scratch: Scratch
            do {
                scratch = try Scratch()
            } catch {
                throw VaultError.cryptography
            }
            var recovery = LogRecovery(disk: disk, ring: ring, rootDescriptor: rootDescriptor, scratch: scratch)
            try recovery.rewrite(descriptors) { status, body throws(VaultError) in
                if let file = known(status) { try file.pending.alone(body) } else { try body() }
            }
        }
        lock()
        if case .failure(let error) = outcome {
            mustRewrite = true
            throw error
        }
    }

    /// A sync failed, and what the log has was not stored once more since.
    var hasFailedSync: Bool {
        lock()
        defer { unlock() }
        return mustRewrite
    }

    /// A sync of a file failed: what the log says of it may be on no disk.
    func noteFailedSync() {
        lock()
        mustRewrite = true
        unlock()
    }
}
