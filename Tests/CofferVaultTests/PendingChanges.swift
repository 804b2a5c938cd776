import Randomness

/// Changes of entries that may be on the disk or not, by the rules of a file system's journal.
struct PendingChanges {
    typealias Entries = [UInt: [String: UInt]]

    /// One entry that comes or goes.
    struct Change {
        let directory: UInt
        let name: String
        let node: UInt?
        /// What is concerned: the object itself, which a sync of it makes durable.
        let object: UInt
    }

    /// Changes that are made together: all of them are on the disk, or none.
    private struct Group {
        let changes: [Change]
        /// Syncs of what have written it.
        var writtenWith: Set<UInt> = []
        /// Btrfs has it in its log, which the next sync of anything writes: because of this earlier one, which is there.
        var logFrom: Int?
        /// That sync has been.
        var isLogWritten = false
        /// The next sync of anything takes this earlier one out of Btrfs' log, and does not say what was there before.
        var takesOut: Int?
        /// It takes this object's last name. The next sync of anything writes a log that has none of its names.
        var gone: UInt?

        var isDurable: Bool { !writtenWith.isEmpty || isLogWritten }

        func apply(to entries: inout Entries) {
            for change in changes { entries[change.directory, default: [:]][change.name] = change.node }
        }

        /// Btrfs' log has no name of `object` any more, and so not that it is there now: but where what it left was synced, or what it changed places with.
        mutating func forget(_ object: UInt) {
            (logFrom, isLogWritten) = (nil, false)
            let others = changes.filter { $0.node != object }
            writtenWith.formIntersection(others.map(\.directory) + others.map(\.object).filter { $0 != object })
        }

        func concerns(_ number: UInt) -> Bool { changes.contains { $0.directory == number || $0.object == number } }
    }

    let journal: SimulatedTree.Journal
    /// What is on the disk, but for `groups`.
    private var durable: Entries
    /// What was done since, in that order.
    private var groups: [Group] = []

    init(_ journal: SimulatedTree.Journal, on durable: Entries) {
        self.journal = journal
        self.durable = durable
    }

    /// How many are not on the disk for certain.
    var unsynced: Int { groups.filter { !$0.isDurable }.count }

    /// Notes what was done. `gone` is an object that has lost its last name by it.
    mutating func add(_ changes: [Change], gone: UInt?) {
        var group = Group(changes: changes)
        if journal == .btrfs {
            // An entry that is in Btrfs' log goes there as well, and one that moves comes there under its new name.
            if let from = groups.indices.last(where: { bringsToLog($0, changes) }) {
                if changes.count > 1 || groups[from].writtenWith.contains(changes[0].directory) {
                    group.logFrom = from
                } else {
                    group.takesOut = from
                }
            }
            group.gone = gone
        }
        groups.append(group)
    }

    /// Whether an entry is in the log by group `index` that is changed now.
    private func bringsToLog(_ index: Int, _ changes: [Change]) -> Bool {
        groups[index].isDurable
            && changes.contains { change in
                groups[index].changes.contains { $0.isAt(change) && $0.node == change.object }
                    && !groups[(index + 1)...].contains { $0.changes.contains { $0.isAt(change) } }
            }
    }

    /// An object, or a directory, is synced.
    mutating func sync(_ number: UInt) {
        switch journal {
        case .ext4: return syncAll()
        case .xfs:
            guard let last = groups.indices.last(where: { groups[$0].concerns(number) }) else { return }
            for group in groups[...last] { group.apply(to: &durable) }
            groups.removeFirst(last + 1)
        case .btrfs:
            for index in writtenBySync(of: number) { groups[index].writtenWith.insert(number) }
            syncLog()
        }
    }

    /// What Btrfs writes when an object, or a directory, is synced: of what moved where it is now, though it has moved again.
    private func writtenBySync(of number: UInt) -> Set<Int> {
        var (written, moved): (Set<Int>, Set<UInt>) = ([], [])
        for (index, group) in groups.enumerated()
        where group.concerns(number) || group.changes.contains(where: { moved.contains($0.object) }) {
            written.insert(index)
            if group.changes.count > 1 { moved.formUnion(group.changes.map(\.object)) }
        }
        return written
    }

    /// What is in the log already is written, with whatever else.
    mutating func syncLog() { Self.writeLog(&groups) }

    private static func writeLog(_ groups: inout [Group]) {
        for index in groups.indices {
            groups[index].isLogWritten = groups[index].logFrom != nil
            if let taken = groups[index].takesOut {
                groups[taken].forget(groups[index].changes[0].object)
                if groups[taken].isDurable { (groups[index].logFrom, groups[index].isLogWritten) = (taken, true) }
            }
            if let gone = groups[index].gone, let left = forgetNames(of: gone, &groups),
                groups[index].logFrom == nil
            {
                (groups[index].logFrom, groups[index].isLogWritten) = (left, true)
            }
        }
    }

    /// With its last name what Btrfs' log has of an object's names goes, and so that it moved, but where the directory that it left was synced.
    /// Returns which change says so: with the log it has no name then.
    private static func forgetNames(of object: UInt, _ groups: inout [Group]) -> Int? {
        var left: Int?
        for index in groups.indices {
            guard groups[index].changes.contains(where: { $0.node == object }) else { continue }
            groups[index].forget(object)
            if groups[index].isDurable { left = index }
        }
        return left
    }

    mutating func syncAll() {
        for group in groups { group.apply(to: &durable) }
        groups = []
    }

    /// What a power cut may leave. With `everything` what is there now. `isOwn`: other programs do not know it.
    func left(everything: Bool, isOwn: (Change) -> Bool, _ random: inout SeededRandom) -> Entries {
        var left = durable
        // A prefix of what was done, and what was synced besides.
        let reached = everything ? groups.count : random.below(groups.count + 1)
        var synced: UInt?
        var isLogSynced = false
        if !everything, journal == .btrfs {
            synced = syncedByAnother(isOwn, &random)
            isLogSynced = synced != nil || random.oneIn(2)
        }
        let writtenNow = synced.map(writtenBySync) ?? []
        var groups = groups
        if isLogSynced { Self.writeLog(&groups) }
        for (index, group) in groups.enumerated() {
            // What was on the disk by itself is not in the log.
            let isInLog = group.logFrom.map { $0 >= reached } ?? false
            let isWritten = !group.writtenWith.isEmpty || isInLog && group.isLogWritten
            if index < reached || isWritten || writtenNow.contains(index) {
                group.apply(to: &left)
            }
        }
        return left
    }

    /// What another program has just synced: a directory, or something in one; or nothing.
    private func syncedByAnother(_ isOwn: (Change) -> Bool, _ random: inout SeededRandom) -> UInt? {
        guard let change = groups.last(where: { _ in random.oneIn(4) })?.changes.randomElement(using: &random) else {
            return nil
        }
        return isOwn(change) || random.oneIn(2) ? change.directory : change.object
    }
}

extension PendingChanges.Change {
    func isAt(_ other: Self) -> Bool { directory == other.directory && name == other.name }
}
