import CofferCrypto
import CofferFormat
import Synchronization
import SystemPackage

/// Changing a file by way of the intent log.
///
/// What replaces stored bytes is in the log, durably, before the file is touched; so is the word that blocks may be added. A file that is new, and that no
/// program has synced, is written directly: nothing of it has been promised, and recovery cuts it to what verifies.
extension FileContents {
    /// Blocks that one write may add by way of the log: so few that a sync of the log is cheaper than one of the file.
    private static let loggedGrowth = 16
    /// Bytes that a disk must have left for blocks that find their place later.
    private static let plenty: UInt = 256 << 20

    /// As ``store(_:byteCount:firstBlock:cuttingTo:)``, where there is a log.
    func storeLogged(
        _ images: UnsafeRawPointer, byteCount: Int, firstBlock: Int, cuttingTo cutSize: Int?, _ log: IntentLog,
        _ file: LoggedFile
    ) throws(VaultError) {
        if let ticket = log.hold(file.newIn.load(ordering: .relaxed)) {
            defer { log.end(ticket) }
            noteUnlogged(file, cuts: cutSize != nil)
            return try storeNow(images, byteCount: byteCount, firstBlock: firstBlock, cuttingTo: cutSize)
        }
        if file.isUnsure.load(ordering: .acquiring) {
            // Until what was given up is void, which takes the whole file, nothing is logged that would rely on it.
            try drain()
            noteUnlogged(file, cuts: cutSize != nil)
            return try unlogged { () throws(VaultError) in
                try storeNow(images, byteCount: byteCount, firstBlock: firstBlock, cuttingTo: cutSize)
            }
        }
        // In this order: where the one is new, so is the other.
        let growsIn = file.growsIn.load(ordering: .acquiring)
        if cutSize == nil, firstBlock >= file.growsFrom.load(ordering: .relaxed), let ticket = log.hold(growsIn) {
            // Recovery ends the file before the first of these that does not verify.
            defer { log.end(ticket) }
            // A request that began before them may have logged some of them.
            try drain()
            noteUnlogged(file, cuts: false)
            if firstBlock < BlockGeometry.blockCount(plainSize: size) {
                file.hasUnloggedVersions.store(true, ordering: .relaxed)
            }
            return try storeNow(images, byteCount: byteCount, firstBlock: firstBlock, cuttingTo: nil)
        }
        let total = (byteCount + BlockGeometry.storedCount - 1) / BlockGeometry.storedCount
        let present = max(1, BlockGeometry.blockCount(plainSize: size))
        let replaced = max(0, min(present - firstBlock, total))
        let growsUnlogged = total - replaced > Self.loggedGrowth
        let logged = growsUnlogged ? replaced : total
        let growingFrom = growsUnlogged ? BlockGeometry.cipherSize(plainSize: size) : nil
        if growsUnlogged {
            try drain()
            noteUnlogged(file, cuts: false)
            try syncCuts(log, file)
        }
        var needsRoom = false

        let ticket: IntentLog.Ticket?
        if logged > 0 {
            var predecessors: [LogRecord.Predecessor] = []
            predecessors.reserveCapacity(logged)
            for block in firstBlock..<(firstBlock + logged) {
                predecessors.append(block < present ? try predecessor(of: block) : .absent)
            }
            let hole = LogRecord.Predecessor.stored([UInt8](repeating: 0, count: BlockGeometry.prefixCount))
            needsRoom = predecessors.contains(hole) || predecessors.contains(.absent)
            if needsRoom { try syncCuts(log, file) }
            ticket = try log.append(
                [.blocks(first: firstBlock, isCut: cutSize != nil, predecessors: predecessors)],
                payload: UnsafeRawBufferPointer(
                    start: images, count: min(byteCount, logged * BlockGeometry.storedCount)),
                growingFrom: growingFrom, for: file, header: header.bytes)
        } else if let held = log.hold(file.growsIn.load(ordering: .relaxed)) {
            ticket = held
        } else {
            ticket = try log.append([], growingFrom: growingFrom, for: file, header: header.bytes)
        }
        var isDeferred = cutSize == nil && !growsUnlogged
        if isDeferred, needsRoom { isDeferred = hasPlenty() }
        if let ticket, isDeferred {
            file.pending.add(ticket, images, first: firstBlock, byteCount: byteCount, cutSize: nil, log, in: self)
            return log.notePending(file, byteCount: byteCount)
        }
        if let ticket, cutSize != nil {
            return try cutLogged(
                ticket, images, byteCount: byteCount, firstBlock: firstBlock, cuttingTo: cutSize, log, file)
        }
        defer { if let ticket { log.end(ticket) } }
        // One that has no name any more, or none that is known, is written directly, and synced where a program asks for it.
        if ticket == nil {
            try drain()
            noteUnlogged(file, cuts: cutSize != nil)
        }
        if let ticket {
            try commit(ticket, log, file)
            // What was logged before this is in its place before it.
            try drain()
            if growsUnlogged { noteGrowth(in: log.order(of: ticket), from: present, file) }
        }
        try storeNow(images, byteCount: byteCount, firstBlock: firstBlock, cuttingTo: cutSize)
    }

    /// The log says that the file grows; how far it reached before counts where that is said.
    private func noteGrowth(in order: UInt64, from block: Int, _ file: LoggedFile) {
        if file.growsIn.load(ordering: .relaxed) == order { return }
        file.growsFrom.store(block, ordering: .relaxed)
        file.growsIn.store(order, ordering: .releasing)
    }

    /// Once the log has it durably, the file is cut, whatever the system says now of its doing so: what cannot be done yet is pending.
    private func cutLogged(
        _ ticket: IntentLog.Ticket, _ images: UnsafeRawPointer, byteCount: Int, firstBlock: Int,
        cuttingTo cutSize: Int?, _ log: IntentLog,
        _ file: LoggedFile
    ) throws(VaultError) {
        do throws(VaultError) {
            try commit(ticket, log, file)
        } catch {
            log.end(ticket)
            throw error
        }
        file.hasUnsyncedCuts.store(true, ordering: .relaxed)
        // Whoever makes it grow again says so again.
        file.growsIn.store(0, ordering: .relaxed)
        file.pending.add(ticket, images, first: firstBlock, byteCount: byteCount, cutSize: cutSize, log, in: self)
        log.notePending(file, byteCount: byteCount)
        do throws(VaultError) {
            try drain()
        } catch {
            // Whoever sees to what is pending tries again, and tells.
        }
    }

    /// Waits until a record is durable. Where it cannot be, nobody knows whether it is.
    private func commit(_ ticket: IntentLog.Ticket, _ log: IntentLog, _ file: LoggedFile) throws(VaultError) {
        do throws(VaultError) {
            try log.commit(ticket)
        } catch {
            file.isUnsure.store(true, ordering: .relaxed)
            throw error
        }
    }

    /// Before anything more is logged of a file: what was given up is made void. Only under a lock on everything.
    func makeSure(_ file: LoggedFile) throws(VaultError) {
        guard file.isUnsure.load(ordering: .relaxed) else { return }
        try voidLog()
        file.isUnsure.store(false, ordering: .relaxed)
    }

    /// Whether the disk has so much room that what is logged will find its place later.
    private func hasPlenty() -> Bool {
        do throws(Errno) {
            let status = try disk.fileSystemStatus(descriptor)
            return status.f_bavail * status.f_frsize >= Self.plenty
        } catch {
            return false
        }
    }

    /// Stores in the file what the log has for it: before anything but whole blocks is changed, and before whoever does not know of the log looks at it.
    public func drain() throws(VaultError) {
        guard let log, let logged, !logged.pending.isEmpty else { return }
        try logged.pending.apply(log)
    }

    /// Reads stored bytes, or what is to be in their place: as `Disk.read`.
    @inline(__always)
    func readStored(_ buffer: UnsafeMutableRawPointer, count: Int, at offset: Int) throws(Errno) -> Int {
        // Nothing can become pending of blocks that are locked; but it can find its place between a look at the one and at the other.
        guard let logged, !logged.pending.isEmpty else {
            return try disk.read(descriptor, into: buffer, count: count, at: offset)
        }
        return try logged.pending.read(buffer, count: count, at: offset, descriptor, disk)
    }

    /// Runs what changes the file without a record of its own. The caller has no ticket.
    func unlogged(_ body: () throws(VaultError) -> Void) throws(VaultError) {
        guard let log, logged != nil else { return try body() }
        let ticket = log.enter()
        defer { log.end(ticket) }
        try body()
    }

    /// Something was cut off that may come back with a power cut, in versions that the log does not know.
    func noteCutOff() {
        guard let logged else { return }
        noteUnlogged(logged, cuts: true)
        logged.hasUnloggedVersions.store(true, ordering: .relaxed)
    }

    /// The file is changed in a way that the log is not told of.
    private func noteUnlogged(_ file: LoggedFile, cuts: Bool) {
        file.hasUnloggedChanges.store(true, ordering: .relaxed)
        if cuts { file.hasUnsyncedCuts.store(true, ordering: .relaxed) }
    }

    /// A record that fills a hole, or adds a block, says that nothing was there: so nothing must be, on the disk too.
    private func syncCuts(_ log: IntentLog, _ file: LoggedFile) throws(VaultError) {
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

    private func predecessor(of block: Int) throws(VaultError) -> LogRecord.Predecessor {
        do throws(Errno) {
            return try withUnsafeTemporaryAllocation(byteCount: BlockGeometry.prefixCount, alignment: 16) { buffer in
                Result { () throws(Errno) -> LogRecord.Predecessor in
                    guard let base = buffer.baseAddress else { return .absent }
                    let got = try readStored(
                        base, count: buffer.count, at: BlockGeometry.offset(ofBlock: block))
                    return got < buffer.count ? .absent : .stored(Array(buffer))
                }
            }.get()
        } catch {
            throw .system(error)
        }
    }

    /// Runs what a record announces, once that is durable. Without a log, or in a new file, at once. With `isPromiseEnding` the file is like a new one after.
    func announcing(
        _ record: LogRecord, payload: UnsafeRawBufferPointer? = nil, isPromiseEnding: Bool = false,
        _ body: () throws(VaultError) -> Void
    ) throws(VaultError) {
        guard let log, let file = logged else { return try body() }
        try drain()
        if let ticket = log.hold(file.newIn.load(ordering: .relaxed)) {
            defer { log.end(ticket) }
            noteUnlogged(file, cuts: true)
            if case .empty = record { log.introduceAnew(file) }
            return try body()
        }
        try makeSure(file)
        noteUnlogged(file, cuts: true)
        guard let ticket = try log.append([record], payload: payload, for: file, header: header.bytes) else {
            return try body()
        }
        defer { log.end(ticket) }
        try commit(ticket, log, file)
        do throws(VaultError) {
            try body()
        } catch {
            // It was said, and is not so.
            file.isUnsure.store(true, ordering: .releasing)
            throw error
        }
        if isPromiseEnding { file.newIn.store(log.order(of: ticket), ordering: .relaxed) }
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
                if !dataOnly { try syncNow(dataOnly: false, log) }
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
            file.hasUnsyncedCuts.store(false, ordering: .relaxed)
            file.hasUnloggedVersions.store(false, ordering: .relaxed)
            file.growsIn.store(0, ordering: .relaxed)
            file.newIn.store(0, ordering: .releasing)
            file.hasUnloggedChanges.store(false, ordering: .releasing)
            // Where the log cannot take it, it says less than is true, and what comes next will fail or be logged.
            do throws(VaultError) {
                guard let ticket = try log.append([synced], for: file, header: header.bytes) else { return }
                defer { log.end(ticket) }
                // What was cut must not be cut again.
                if hadCuts { try log.commit(ticket) }
            } catch {
                log.noteFailedSync()
            }
        }
    }
}
