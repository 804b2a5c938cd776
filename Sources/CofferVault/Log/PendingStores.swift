import CofferDisk
import CofferFormat
import Glibc
import Synchronization
import SystemPackage

/// What a file is to hold and does not yet: images that the intent log has, and that may be stored in the file only once they are durable there.
///
/// A program does not wait for that when it writes, only when it syncs. Until an image is in its place, whoever reads gets it from the log. Images are stored in
/// the order in which they were logged, none left out, for the log says of each what was there before.
final class PendingStores: @unchecked Sendable {
    /// Images of consecutive blocks.
    private struct Store {
        /// Counts what was ever added.
        let sequence: Int
        let ticket: IntentLog.Ticket
        let first: Int
        let byteCount: Int
        /// Where they are: the log's segment, and where in it.
        let descriptor: Int32
        let offset: Int
        /// The same in memory, where there was room.
        let kept: KeptImages.Kept?
        /// The ciphertext size that the file is cut to behind them.
        let cutSize: Int?

        var last: Int { first + (byteCount + BlockGeometry.storedCount - 1) / BlockGeometry.storedCount - 1 }

        /// Where one of its blocks is in the segment.
        func image(of block: Int) -> (offset: Int, count: Int) {
            let start = (block - first) * BlockGeometry.storedCount
            return (offset + start, min(BlockGeometry.storedCount, byteCount - start))
        }
    }

    /// Held while images are being stored in the file; before `mutex`.
    private let applying = Mutex<Void>(())
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let count = Atomic<Int>(0)

    // Guarded by `mutex`, a leaf but for the system calls that read. What is being stored stays here until it is, so that whoever reads meanwhile does not need what
    // the file has in its place.

    /// In the order in which they were added.
    private var stores: [Store] = []
    private var nextSequence = 0
    /// Which of the stores holds a block's last image: its sequence.
    private var blocks: [Int: Int] = [:]
    /// No block beyond this one has an image here; -1 where none has.
    private var highest = -1
    /// What is farthest in each segment that has any of them: not what was added last, for two threads may log in one order and add in the other.
    private var tickets: [IntentLog.Ticket] = []
    /// The file, which stays open for as long as there is something to store.
    private var owner: FileContents?
    /// The times that the file gets once everything is in its place: not before, or what copies the vault would take what it has now for that time's.
    private var times: (access: timespec, modification: timespec)?

    init() {
        BriefMutex.initialize(mutex)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Whether everything is in its place.
    var isEmpty: Bool { count.load(ordering: .acquiring) == 0 }

    /// Takes images that were just logged. The caller has the blocks for itself.
    func add(
        _ ticket: IntentLog.Ticket, _ images: UnsafeRawPointer, first: Int, byteCount: Int, cutSize: Int?,
        _ log: IntentLog, in file: FileContents
    ) {
        let kept = log.kept.keep(images, count: byteCount)
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        let store = Store(
            sequence: nextSequence, ticket: ticket, first: first, byteCount: byteCount,
            descriptor: log.descriptor(of: ticket), offset: ticket.end - byteCount, kept: kept, cutSize: cutSize)
        nextSequence += 1
        stores.append(store)
        if cutSize != nil { blocks = blocks.filter { $0.key < store.first } }
        for block in store.first...store.last { blocks[block] = store.sequence }
        highest = cutSize != nil ? store.last : max(highest, store.last)
        if owner !== file { owner = file }
        noteTicket(ticket)
        count.store(stores.count, ordering: .releasing)
    }

    /// The caller holds the mutex.
    private func noteTicket(_ ticket: IntentLog.Ticket) {
        guard let index = tickets.firstIndex(where: { $0.segment == ticket.segment }) else {
            return tickets.append(ticket)
        }
        if ticket.end > tickets[index].end { tickets[index] = ticket }
    }

    /// Some are gone. The caller holds the mutex.
    private func recount() {
        highest = blocks.keys.max() ?? -1
        tickets = []
        for store in stores { noteTicket(store.ticket) }
        count.store(stores.count, ordering: .releasing)
    }

    /// Reads `count` bytes from ciphertext offset `offset` of the file behind `file`, with pending images over them. Returns how many there are.
    func read(
        _ buffer: UnsafeMutableRawPointer, count: Int, at offset: Int, _ file: Int32, _ disk: Disk
    ) throws(Errno) -> Int {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        var reached = try disk.read(file, into: buffer, count: count, at: offset)
        let first = max(0, (offset - BlockGeometry.headerCount) / BlockGeometry.storedCount)
        var block = first
        while BlockGeometry.offset(ofBlock: block) < offset + count {
            defer { block += 1 }
            guard let store = lastStore(of: block) else { continue }
            let image = store.image(of: block)
            let start = BlockGeometry.offset(ofBlock: block)
            let (from, to) = (max(start, offset), min(start + image.count, offset + count))
            guard from < to else { continue }
            if from - offset > reached {
                // Holes that only the new size makes.
                (buffer + reached).initializeMemory(as: UInt8.self, repeating: 0, count: from - offset - reached)
            }
            let position = image.offset + (from - start)
            if let kept = store.kept?.bytes {
                (buffer + (from - offset)).copyMemory(from: kept + (position - store.offset), byteCount: to - from)
            } else {
                let read = try disk.read(
                    store.descriptor, into: buffer + (from - offset), count: to - from, at: position)
                guard read == to - from else { throw .ioError }
            }
            reached = max(reached, to - offset)
        }
        // Holes before what makes the file longer.
        let end = highest < 0 ? 0 : min(count, BlockGeometry.offset(ofBlock: highest) - offset)
        if reached < end {
            (buffer + reached).initializeMemory(as: UInt8.self, repeating: 0, count: end - reached)
            reached = end
        }
        return reached
    }

    /// What holds a block's last image. The caller holds the mutex.
    private func lastStore(of block: Int) -> Store? {
        guard let sequence = blocks[block], let first = stores.first else { return nil }
        // Unless something was given up, none is missing.
        let guess = sequence - first.sequence
        if stores.indices.contains(guess), stores[guess].sequence == sequence { return stores[guess] }
        return stores.first { $0.sequence == sequence }
    }

    /// Returns once the log has everything durably. Where it cannot, everything goes to the file directly, which has unlogged changes then and is to be synced.
    func commit(_ log: IntentLog) throws(VaultError) {
        var isDurable = false
        do throws(VaultError) {
            for ticket in snapshot().tickets { try log.commit(ticket) }
            isDurable = true
        } catch {
            // The file is to have it.
        }
        if !isDurable { try apply(log, isSyncedNext: true) }
    }

    /// Stores everything in the file, once it is durable in the log. The file's times stay. Where the log cannot be made durable that is done all the same,
    /// and told, unless `tellsAll` is false, or the caller goes on to sync the file, with `isSyncedNext`: then no promise is broken by a log that fails. That images were only there, where the
    /// system may have lost them, whoever syncs the file is told.
    func apply(_ log: IntentLog, tellsAll: Bool = true, isSyncedNext: Bool = false) throws(VaultError) {
        if isEmpty { return }
        var failure: VaultError?
        let committed = snapshot()
        do throws(VaultError) {
            for ticket in committed.tickets { try log.commit(ticket) }
        } catch {
            failure = error
        }
        guard let last = committed.stores.last?.sequence else { return }
        try applying.withLock { _ throws(VaultError) in
            // Another thread may have stored some of it meanwhile; and what was added since is not durable.
            let batch = snapshot().stores.filter { $0.sequence <= last }
            let (done, released, outcome) = store(batch, isProtected: failure == nil, log.kept)
            for store in batch.prefix(done) { log.end(store.ticket) }
            withExtendedLifetime(released) {}
            if failure != nil { log.noteFailedSync() }
            if case .failure(let error) = outcome { throw .system(error) }
            if let failure, tellsAll, !isSyncedNext { throw failure }
        }
    }

    /// Gives up what was added of blocks from `block` on: a program was told that it failed.
    func discard(from block: Int, _ log: IntentLog) {
        applying.withLock { _ in
            let (given, released) = drop(from: block, log.kept)
            for store in given { log.end(store.ticket) }
            if let released {
                do throws(Errno) {
                    try setTimes(behind: 0, released)
                } catch {
                    // A time that is not the program's makes a copy tool look once more.
                }
            }
        }
    }

    private func drop(from block: Int, _ memory: KeptImages) -> ([Store], released: FileContents?) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        let given = stores.filter { $0.first >= block }
        stores.removeAll { $0.first >= block }
        blocks = blocks.filter { $0.key < block }
        for store in given { if let kept = store.kept { memory.giveBack(kept) } }
        recount()
        guard stores.isEmpty else { return (given, nil) }
        defer { owner = nil }
        return (given, owner)
    }

    private func snapshot() -> (stores: [Store], tickets: [IntentLog.Ticket]) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return (stores, tickets)
    }

    /// Returns how many were stored, and the file where it need not stay open any longer. The caller holds `applying`.
    private func store(
        _ batch: [Store], isProtected: Bool, _ memory: KeptImages
    ) -> (done: Int, released: FileContents?, outcome: Result<Void, Errno>) {
        pthread_mutex_lock(mutex)
        let file = owner
        pthread_mutex_unlock(mutex)
        guard let file, !batch.isEmpty else { return (0, nil, .success(())) }
        if !isProtected {
            // Images that are only in the log's file may be lost there: whoever syncs next is told, whoever stores them.
            if batch.contains(where: { $0.kept == nil }) { file.logged?.noteUntold() }
            file.logged?.hasUnloggedChanges.store(true, ordering: .releasing)
            file.logged?.isUnsure.store(true, ordering: .releasing)
        }
        var done = 0
        let outcome: Result<Void, Errno> = Result { () throws(Errno) in
            let room = batch.lazy.filter { $0.kept == nil }.map(\.byteCount).max() ?? 0
            let buffer = UnsafeMutableRawPointer.allocate(byteCount: max(room, 1), alignment: 4096)
            defer { buffer.deallocate() }
            for store in batch {
                let images: UnsafeRawPointer
                if let kept = store.kept?.bytes {
                    images = kept
                } else {
                    let got = try file.disk.read(
                        store.descriptor, into: buffer, count: store.byteCount, at: store.offset)
                    guard got == store.byteCount else { throw .ioError }
                    images = UnsafeRawPointer(buffer)
                }
                try file.disk.write(
                    file.descriptor, images, count: store.byteCount, at: BlockGeometry.offset(ofBlock: store.first))
                if let cutSize = store.cutSize { try file.disk.truncate(file.descriptor, to: cutSize) }
                done += 1
            }
            // Where none are queued the file has the present time now: other contents never have a time that was seen.
            file.touch()
            try setTimes(behind: done, file)
        }
        return (done, leave(batch.prefix(done), memory) ? file : nil, outcome)
    }

    /// These are in their place. Whether nothing else is pending.
    private func leave(_ batch: ArraySlice<Store>, _ memory: KeptImages) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        for store in batch {
            for block in store.first...store.last where blocks[block] == store.sequence { blocks[block] = nil }
            if let kept = store.kept { memory.giveBack(kept) }
        }
        stores.removeFirst(batch.count)
        recount()
        if stores.isEmpty { owner = nil }
        return stores.isEmpty
    }

    /// Puts times behind what is pending; false where nothing is. The caller runs ``alone(_:)``.
    func queue(access: timespec, modification: timespec) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        guard !stores.isEmpty else { return false }
        var queued = times ?? (Disk.unchangedTime, Disk.unchangedTime)
        if access.tv_nsec != Disk.unchangedTime.tv_nsec { queued.access = access }
        if modification.tv_nsec != Disk.unchangedTime.tv_nsec { queued.modification = modification }
        times = queued
        return true
    }

    /// Whether times wait for what is pending.
    var holdsTimes: Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return times != nil
    }

    /// Sets the times that wait behind the last `count` stores, unless more was added since. Whoever asks is told of them until then. The caller holds `applying`, as whoever queues them.
    private func setTimes(behind count: Int, _ file: FileContents) throws(Errno) {
        pthread_mutex_lock(mutex)
        let waiting = stores.count == count ? times : nil
        pthread_mutex_unlock(mutex)
        guard let waiting else { return }
        defer {
            // Also where it failed: later they would be older than what was set since.
            pthread_mutex_lock(mutex)
            times = nil
            pthread_mutex_unlock(mutex)
        }
        try file.disk.setTimes(file.descriptor, access: waiting.access, modification: waiting.modification)
    }

    /// Runs what must not meet images being stored.
    func alone<Result>(_ body: () throws(VaultError) -> Result) throws(VaultError) -> Result {
        try applying.withLock { _ throws(VaultError) in try body() }
    }
}
