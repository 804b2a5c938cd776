import CofferCrypto
import CofferFormat
import Synchronization
import SystemPackage

/// Changing a file by way of the intent log.
///
/// What replaces stored bytes is in the log, durably, before the file is touched; so is the word that blocks may be added. A file that is new, and that no
/// program has synced, is written directly: nothing of it has been promised, and recovery cuts it to what verifies. What it replaces in place is in the log
/// before all the same, though nobody waits for that: a process that is killed in the middle of a write leaves a block that is neither old nor new, and what the
/// program was told is written must not go with it.
extension FileContents {
    /// Blocks that one write may add by way of the log: so few that a sync of the log is cheaper than one of the file.
    private static let loggedGrowth = 16
    /// Blocks of one write from which on a record that says which file it is comes by itself.
    private static let introducedFirst = 8
    /// Bytes that a disk must have left for blocks that find their place later.
    private static let plenty: UInt = 256 << 20

    /// As ``store(_:byteCount:firstBlock:cuttingTo:before:_:)``, where there is a log.
    func storeLogged(
        _ images: UnsafeRawPointer, byteCount: Int, firstBlock: Int, cuttingTo cutSize: Int?,
        before: UnsafeRawPointer?, _ log: IntentLog, _ file: LoggedFile, _ scratch: Scratch
    ) throws(VaultError) {
        let newIn = file.newIn.load(ordering: .relaxed)
        if newIn != 0, !file.isUnsure.load(ordering: .acquiring),
            let ticket = try cover(
                images, byteCount: byteCount, firstBlock: firstBlock, isCut: cutSize != nil, before: before,
                within: newIn, log, file, scratch)
        {
            noteUnlogged(file, cuts: cutSize != nil)
            let outcome: Result<Void, VaultError> = Result { () throws(VaultError) in
                try storeCovered(images, byteCount: byteCount, firstBlock: firstBlock, cuttingTo: cutSize, file)
            }
            log.end(ticket)
            if case .failure = outcome, cutSize != nil { file.isCutUntrue.store(true, ordering: .relaxed) }
            return try outcome.get()
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
        if cutSize == nil, growsIn != 0, firstBlock >= file.growsFrom.load(ordering: .relaxed),
            let ticket = try cover(
                images, byteCount: byteCount, firstBlock: firstBlock, isCut: false, before: before, within: growsIn,
                log, file, scratch)
        {
            // Recovery ends the file before the first of these that does not verify.
            defer { log.end(ticket) }
            noteUnlogged(file, cuts: false)
            if firstBlock < BlockGeometry.blockCount(plainSize: size) {
                file.hasUnloggedVersions.store(true, ordering: .relaxed)
            }
            return try storeCovered(images, byteCount: byteCount, firstBlock: firstBlock, cuttingTo: nil, file)
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
            let images = UnsafeRawBufferPointer(
                start: images, count: min(byteCount, logged * BlockGeometry.storedCount))
            (ticket, needsRoom) = try logBlocks(
                images, firstBlock: firstBlock, count: logged, present: present, isCut: cutSize != nil,
                growingFrom: growingFrom, before: before, log, file, scratch)
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
            if growsUnlogged { noteGrowth(in: ticket.order, from: present, file) }
        }
        try storeCovered(images, byteCount: byteCount, firstBlock: firstBlock, cuttingTo: cutSize, file)
    }

    /// Stores what the log may have, too. Where the system refuses, it is the next sync that makes it void there: else a power cut after that would bring about what a program was
    /// told had failed.
    private func storeCovered(
        _ images: UnsafeRawPointer, byteCount: Int, firstBlock: Int, cuttingTo cutSize: Int?, _ file: LoggedFile
    ) throws(VaultError) {
        do throws(VaultError) {
            // A request that began earlier may have logged some of them: what was logged before is in its place before.
            try drain()
            try storeNow(images, byteCount: byteCount, firstBlock: firstBlock, cuttingTo: cutSize)
        } catch {
            file.hasRefusedImages.store(true, ordering: .relaxed)
            file.hasUnloggedChanges.store(true, ordering: .releasing)
            throw error
        }
    }

    /// Leave for a change that no record has to come before for a power cut's sake, as long as the segment of `order` is active; nil where that is another, or the file has no
    /// name. What it replaces is logged, for that of a process that is killed. An empty file's block is no loss.
    private func cover(
        _ images: UnsafeRawPointer, byteCount: Int, firstBlock: Int, isCut: Bool, before: UnsafeRawPointer?,
        within order: UInt64, _ log: IntentLog, _ file: LoggedFile, _ scratch: Scratch
    ) throws(VaultError) -> IntentLog.Ticket? {
        let total = (byteCount + BlockGeometry.storedCount - 1) / BlockGeometry.storedCount
        let present = BlockGeometry.blockCount(plainSize: size)
        let replaced = max(0, min(present - firstBlock, total))
        if replaced == 0 {
            // Recovery would cut it once more.
            guard file.isCutInLog.load(ordering: .relaxed) else { return log.hold(order) }
            let grows = LogRecord.grow(from: BlockGeometry.cipherSize(plainSize: size))
            let ticket = try log.append([grows], for: file, header: header.bytes, within: order)
            if ticket != nil { file.isCutInLog.store(false, ordering: .relaxed) }
            return ticket
        }
        let replacing = UnsafeRawBufferPointer(
            start: images, count: min(byteCount, replaced * BlockGeometry.storedCount))
        let (ticket, _) = try logBlocks(
            replacing, firstBlock: firstBlock, count: replaced, present: present, isCut: isCut, growingFrom: nil,
            before: before, within: order, log, file, scratch)
        if isCut, ticket != nil { file.isCutInLog.store(true, ordering: .relaxed) }
        // What has no name is not recovered.
        return ticket ?? log.hold(order)
    }

    /// A cut that was tried was not made. Where the log says otherwise, it is told so.
    func noteRefusedCut() {
        guard let log, let file = logged, file.isCutUntrue.exchange(false, ordering: .relaxed) else { return }
        noteUntrue(file, header: header.bytes, log)
    }

    /// The log says of a new file what was not done, so it is told that it is not so: of what is not promised that is enough. The caller has no ticket, and a lock on everything:
    /// what the log has for those who write is void, too.
    func noteUntrue(_ file: LoggedFile, header: [UInt8], _ log: IntentLog) {
        do throws(VaultError) {
            // With its header, which is the old one again.
            log.introduceAnew(file)
            if let ticket = try log.append([.revoke(first: 0)], for: file, header: header) { log.end(ticket) }
        } catch {
            file.newIn.store(0, ordering: .relaxed)
            file.isUnsure.store(true, ordering: .releasing)
        }
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
    func commit(_ ticket: IntentLog.Ticket, _ log: IntentLog, _ file: LoggedFile) throws(VaultError) {
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
        file.isUnsure.store(false, ordering: .sequentiallyConsistent)
        file.isTroubleTold.store(false, ordering: .sequentiallyConsistent)
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

    /// Stores in the file what the log has for it: before anything but whole blocks is changed, and before whoever does not know of the log looks at it. With
    /// `isSyncedNext` the caller syncs the file then.
    public func drain(isSyncedNext: Bool = false) throws(VaultError) {
        guard let log, let logged, !logged.pending.isEmpty else { return }
        try logged.pending.apply(log, isSyncedNext: isSyncedNext)
    }

    /// Reads stored bytes, or what is to be in their place: as `Disk.read`.
    @inline(__always)
    func readStored(_ buffer: UnsafeMutableRawPointer, count: Int, at offset: Int) throws(Errno) -> Int {
        // Nothing can become pending of blocks that are locked; but it can find its place between a look at the one and at the other.
        guard let lentLogged, lentLogged.lend({ !$0.pending.isEmpty }) else {
            return try disk.read(descriptor, into: buffer, count: count, at: offset)
        }
        return try lentLogged.lend { logged throws(Errno) in
            try logged.pending.read(buffer, count: count, at: offset, descriptor, disk)
        }
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
    func noteUnlogged(_ file: LoggedFile, cuts: Bool) {
        file.hasUnloggedChanges.store(true, ordering: .relaxed)
        if cuts { file.hasUnsyncedCuts.store(true, ordering: .relaxed) }
    }

    /// Logs that blocks are about to be stored, of which those from `present` on are new. Also tells whether any takes room that the file had not. `before`: the first
    /// 16 bytes of the first block as it is, where somebody knows. With `order`, nobody will wait for the record, and it goes to that segment or nowhere.
    private func logBlocks(
        _ images: UnsafeRawBufferPointer, firstBlock: Int, count: Int, present: Int, isCut: Bool, growingFrom: Int?,
        before: UnsafeRawPointer?, within order: UInt64? = nil, _ log: IntentLog, _ file: LoggedFile,
        _ scratch: Scratch
    ) throws(VaultError) -> (IntentLog.Ticket?, needsRoom: Bool) {
        let size = LogRecord.predecessorCount
        let predecessors = scratch.predecessors
        // Nothing becomes pending of blocks that are locked.
        let isPending = !file.pending.isEmpty
        var needsRoom = false
        for index in 0..<count {
            let predecessor = predecessors + index * size
            if index == 0, let before {
                predecessor.storeBytes(of: 0, as: UInt8.self)
                (predecessor + 1).copyMemory(from: before, byteCount: size - 1)
            } else if try !getPredecessor(
                of: firstBlock + index, isPresent: firstBlock + index < present, isPending: isPending, predecessor)
            {
                needsRoom = true
            }
        }
        if needsRoom, order == nil { try syncCuts(log, file) }
        let change = LogSegment.BlockChange(
            first: firstBlock, isCut: isCut,
            predecessors: UnsafeRawBufferPointer(start: predecessors, count: count * size), images: images)
        if let ticket = try log.appendBlocks(change, isGrowing: growingFrom != nil, for: file, within: order) {
            return (ticket, needsRoom)
        }
        // Many are worth a call for introducing the file, after which they take no allocating.
        if count > Self.introducedFirst, growingFrom == nil, order == nil,
            let introduction = try log.append(
                [], for: file, header: header.bytes, reserving: LogSegment.byteCount(of: change))
        {
            log.end(introduction)
            if let ticket = try log.appendBlocks(change, isGrowing: false, for: file) { return (ticket, needsRoom) }
        }
        let ticket = try log.append(
            [change.record], payload: images, growingFrom: growingFrom, for: file, header: header.bytes, within: order)
        return (ticket, needsRoom)
    }

    /// What is in a block's place, as a record says it. False where that is nothing, or a hole.
    private func getPredecessor(
        of block: Int, isPresent: Bool, isPending: Bool, _ predecessor: UnsafeMutableRawPointer
    ) throws(VaultError) -> Bool {
        let count = BlockGeometry.prefixCount
        let prefix = predecessor + 1
        let got =
            isPresent
            ? try system { () throws(Errno) in
                let offset = BlockGeometry.offset(ofBlock: block)
                return isPending
                    ? try readStored(prefix, count: count, at: offset)
                    : try disk.read(descriptor, into: prefix, count: count, at: offset)
            } : 0
        let isStored = got == count
        predecessor.storeBytes(of: isStored ? 0 : 1, as: UInt8.self)
        if !isStored { prefix.initializeMemory(as: UInt8.self, repeating: 0, count: count) }
        return prefix.loadUnaligned(as: UInt64.self) != 0
            || prefix.loadUnaligned(fromByteOffset: 8, as: UInt64.self) != 0
    }
}
