import CofferFormat
import Synchronization
import SystemPackage

/// Syncing a file that the intent log knows, and what the log says of it that is void.
extension FileContents {
    /// A record that fills a hole, or adds a block, says that nothing was there: so nothing must be, on the disk too.
    func syncCuts(_ log: IntentLog, _ file: LoggedFile) throws(VaultError) {
        guard file.hasUnsyncedCuts.load(ordering: .relaxed) else { return }
        // Cuts that could not be made yet among them.
        try drain()
        try syncNow(dataOnly: true, log)
        file.hasUnsyncedCuts.store(false, ordering: .relaxed)
    }

    /// Before a block is to vouch for more: what the log says of it must be what counts, and that takes that it knows each version that may be there.
    func leaveGrowth() throws(VaultError) {
        guard let log, let file = logged else { return }
        file.growsIn.store(0, ordering: .relaxed)
        guard file.hasUnloggedVersions.load(ordering: .relaxed) else { return }
        try drain()
        try syncNow(dataOnly: true, log)
        file.hasUnloggedVersions.store(false, ordering: .relaxed)
    }

    private func syncNow(dataOnly: Bool, _ log: IntentLog) throws(VaultError) {
        do throws(Errno) {
            try disk.sync(descriptor, dataOnly: dataOnly)
        } catch {
            log.noteFailedSync()
            throw .system(error)
        }
    }

    /// After a sync: what the log says of the file so far is void. After one that failed the system may take for written what it could not write, so what the log has is stored once more
    /// instead, and the log emptied. `isWaitedFor`: returns once that is durable.
    private func noteSynced(isWaitedFor: Bool, _ log: IntentLog, _ file: LoggedFile) throws(VaultError) {
        // Of a new file the log promises nothing.
        if log.hasFailedSync, file.newIn.load(ordering: .relaxed) == 0 { return try log.checkpoint() }
        let synced = LogRecord.synced(size: BlockGeometry.cipherSize(plainSize: size))
        guard let ticket = try log.append([synced], for: file, header: header.bytes) else { return }
        defer { log.end(ticket) }
        if isWaitedFor { try log.commit(ticket) }
    }

    /// After a failure: what the log says of blocks from `first` on is void.
    func revoke(from first: Int) throws(VaultError) {
        guard let log, let file = logged else { return }
        var failure: VaultError?
        do throws(VaultError) {
            do throws(VaultError) {
                try drain()
            } catch {
                // Where the segment failed, all is stored, and there is another one that can be told.
                guard file.pending.isEmpty else { throw error }
                failure = error
            }
            file.growsIn.store(0, ordering: .relaxed)
            if let ticket = try log.append([.revoke(first: first)], for: file, header: header.bytes) {
                defer { log.end(ticket) }
                try log.commit(ticket)
            }
        } catch {
            failure = error
        }
        if let failure {
            file.isUnsure.store(true, ordering: .relaxed)
            throw failure
        }
    }

    /// After a failure half-way: what is on the disk now is what counts, whatever the log says.
    func voidLog() throws(VaultError) {
        guard let log, let file = logged else { return }
        try drain(isSyncedNext: true)
        try syncNow(dataOnly: false, log)
        try noteSynced(isWaitedFor: true, log, file)
        noteAllSynced(file)
    }

    /// All that the file has is durable, and nothing that the log says of it counts. Not before that: who syncs at the same time must not take it for done.
    private func noteAllSynced(_ file: LoggedFile) {
        file.hasUnsyncedCuts.store(false, ordering: .relaxed)
        file.hasUnloggedVersions.store(false, ordering: .relaxed)
        file.hasRefusedImages.store(false, ordering: .relaxed)
        file.growsIn.store(0, ordering: .relaxed)
        file.newIn.store(0, ordering: .releasing)
        file.hasUnloggedChanges.store(false, ordering: .releasing)
    }

    /// Makes durable what the log does not hold, and waits for what it does.
    func syncLogged(dataOnly: Bool, _ log: IntentLog, _ file: LoggedFile) throws(VaultError) {
        // Whoever finds nothing else to do comes after whoever did it: these are taken back only then.
        if !file.hasUnloggedChanges.load(ordering: .acquiring), file.newIn.load(ordering: .acquiring) == 0,
            !file.isUnsure.load(ordering: .acquiring)
        {
            try file.pending.commit(log)
            // Unless the log failed meanwhile, and somebody stored directly what it was to have.
            if !file.hasUnloggedChanges.load(ordering: .acquiring) {
                if dataOnly { return }
                // Times that wait for what is only in the log are to be durable, too.
                if file.pending.holdsTimes { try drain(isSyncedNext: true) }
                try syncNow(dataOnly: false, log)
                return
            }
        }
        try file.syncing.withLock { _ throws(VaultError) in
            // No change is under way meanwhile, so that "synced" is true of all that the log says by then.
            ranges.lock(0, RangeLock.endless, exclusive: false)
            defer { ranges.unlock(0, RangeLock.endless, exclusive: false) }
            try drain(isSyncedNext: true)
            try syncNow(dataOnly: dataOnly, log)
            let hadCuts = file.hasUnsyncedCuts.load(ordering: .relaxed)
            let isUntrue =
                file.hasRefusedImages.load(ordering: .relaxed) || file.isUnsure.load(ordering: .relaxed)
            let wasNew = file.newIn.load(ordering: .relaxed) != 0
            // Where the log cannot take it, it says less than is true, and what comes next will fail or be logged.
            do throws(VaultError) {
                // What was cut must not be cut again, nor what failed be made.
                try noteSynced(isWaitedFor: hadCuts || isUntrue, log, file)
            } catch {
                log.noteFailedSync()
                if wasNew || isUntrue {
                    // What the log has of it nobody has waited for, cuts among it.
                    file.isUnsure.store(true, ordering: .relaxed)
                    throw error
                }
            }
            // Nobody changes anything meanwhile.
            noteAllSynced(file)
        }
    }
}
