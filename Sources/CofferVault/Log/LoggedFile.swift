import CofferFormat
import Synchronization

/// One file as the intent log knows it.
public final class LoggedFile: @unchecked Sendable {
    /// Where the file is now: stored names from the vault's root. Nil once it has no name, after which there is nothing to recover.
    let place: @Sendable () -> [StoredName]?
    /// The file's number in a segment, and which segment that is. Guarded by the log's lock.
    var number: (order: UInt64, file: UInt32)?
    /// The segment that says it is new, so that nothing of it has been promised; 0 for none.
    let newIn = Atomic<UInt64>(0)
    /// The segment that says it may grow; 0 for none.
    let growsIn = Atomic<UInt64>(0)
    /// It was changed in ways that are not in the log since it was synced last.
    let hasUnloggedChanges = Atomic<Bool>(false)

    /// Blocks were made holes or cut off, and that is not on the disk yet: with a power cut what was there may come back.
    let hasUnsyncedCuts = Atomic<Bool>(false)

    /// A file whose place `place` tells.
    public init(place: @escaping @Sendable () -> [StoredName]?) {
        self.place = place
    }
}
