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

    func syncNow(dataOnly: Bool, _ log: IntentLog) throws(VaultError) {
        do throws(Errno) {
            try disk.sync(descriptor, dataOnly: dataOnly)
        } catch {
            log.noteFailedSync()
            throw .system(error)
        }
    }

    /// After a failure: what the log says of blocks from `first` on is void.
    func revoke(from first: Int) throws(VaultError) {
        guard let log, let file = logged else { return }
        do throws(VaultError) {
            try drain()
            file.growsIn.store(0, ordering: .relaxed)
            guard let ticket = try log.append([.revoke(first: first)], for: file, header: header.bytes) else { return }
            defer { log.end(ticket) }
            try log.commit(ticket)
        } catch {
            file.isUnsure.store(true, ordering: .relaxed)
            throw error
        }
    }

    /// After a failure half-way: what is on the disk now is what counts, whatever the log says.
    func voidLog() throws(VaultError) {
        guard let log, let file = logged else { return }
        try drain()
        try syncNow(dataOnly: false, log)
        file.hasUnloggedChanges.store(false, ordering: .relaxed)
        file.hasUnsyncedCuts.store(false, ordering: .relaxed)
        file.hasUnloggedVersions.store(false, ordering: .relaxed)
        file.newIn.store(0, ordering: .relaxed)
        file.growsIn.store(0, ordering: .relaxed)
        guard let ticket = try log.append([synced], for: file, header: header.bytes) else { return }
        defer { log.end(ticket) }
        try log.commit(ticket)
    }

    private var synced: LogRecord { .synced(size: BlockGeometry.cipherSize(plainSize: size)) }

    /// Makes durable what the log does not hold, and waits for what it does.
    func syncLogged(dataOnly: Bool, _ log: IntentLog, _ file: LoggedFile) throws(VaultError) {
        // Whoever finds nothing else to do comes after whoever did it: these are taken back only then.
        if !file.hasUnloggedChanges.load(ordering: .acquiring), file.newIn.load(ordering: .acquiring) == 0 {
            try file.pending.commit(log)
            // Unless the log failed meanwhile, and somebody stored directly what it was to have.
            if !file.hasUnloggedChanges.load(ordering: .acquiring) {
                if dataOnly { return }
                // Times that wait for what is only in the log are to be durable, too.
                if file.pending.holdsTimes { try drain() }
                try syncNow(dataOnly: false, log)
                return
            }
        }
        try file.syncing.withLock { _ throws(VaultError) in
            // No change is under way meanwhile, so that "synced" is true of all that the log says by then.
            ranges.lock(0, RangeLock.endless, exclusive: false)
            defer { ranges.unlock(0, RangeLock.endless, exclusive: false) }
            try drain()
            try syncNow(dataOnly: dataOnly, log)
            let hadCuts = file.hasUnsyncedCuts.load(ordering: .relaxed)
            let wasNew = file.newIn.load(ordering: .relaxed) != 0
            // Where the log cannot take it, it says less than is true, and what comes next will fail or be logged.
            do throws(VaultError) {
                if let ticket = try log.append([synced], for: file, header: header.bytes) {
                    defer { log.end(ticket) }
                    // What was cut must not be cut again.
                    if hadCuts { try log.commit(ticket) }
                }
            } catch {
                log.noteFailedSync()
                if wasNew {
                    // What the log has of it nobody has waited for, cuts among it.
                    file.isUnsure.store(true, ordering: .relaxed)
                    throw error
                }
            }
            // Not before: who syncs at the same time must not take it for done. Nobody changes anything meanwhile.
            file.hasUnsyncedCuts.store(false, ordering: .relaxed)
            file.hasUnloggedVersions.store(false, ordering: .relaxed)
            file.growsIn.store(0, ordering: .relaxed)
            file.newIn.store(0, ordering: .releasing)
            file.hasUnloggedChanges.store(false, ordering: .releasing)
        }
    }
}
