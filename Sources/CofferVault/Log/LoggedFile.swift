import CofferFormat
import Synchronization

/// One file as the intent log knows it. It outlives its being closed, for as long as a segment speaks of it.
public final class LoggedFile: @unchecked Sendable {
    /// What tells files apart while the vault is in use.
    struct Key: Hashable {
        let device: UInt64
        let inode: UInt64
    }

    let key: Key
    /// 16 bytes.
    let id: [UInt8]

    // Guarded by the log's lock.

    /// Where the file is now: stored names from the vault's root. Nil once it has no name, after which there is nothing to recover.
    var place: @Sendable () -> [StoredName]?
    /// The file's number in a segment, and which segment that is.
    var number: (order: UInt64, file: UInt32)?
    /// The segment that speaks of it last, in whose time it is among the log's files; 0 for none.
    var lastOrder: UInt64 = 0
    /// It is among those that have something pending.
    var isPending = false
    /// What the last segment says of it is void: all of it is on the disk.
    var isVoid = true

    /// The segment since whose beginning it is new, so that nothing of it has been promised; 0 for none.
    let newIn = Atomic<UInt64>(0)
    /// The segment that says it may grow; 0 for none.
    let growsIn = Atomic<UInt64>(0)
    /// The first block that it had not when that was said: nothing of what is there from here on has been promised.
    let growsFrom = Atomic<Int>(0)
    /// It was changed in ways that are not in the log since it was synced last.
    let hasUnloggedChanges = Atomic<Bool>(false)
    /// Blocks were made holes or cut off, and that is not on the disk yet: with a power cut what was there may come back.
    let hasUnsyncedCuts = Atomic<Bool>(false)
    /// Blocks that it was growing by were stored more than once since it was synced, and the log does not know of it: with a power cut an older one may come back.
    let hasUnloggedVersions = Atomic<Bool>(false)
    /// The log has images that the system refused to store: they are void once the log says, durably, that the file was synced.
    let hasRefusedImages = Atomic<Bool>(false)
    /// It could not be synced while no program waited for that, and none has been told yet.
    let hasUntoldFailure = Atomic<Bool>(false)
    /// A write failed of which the kernel tells whoever syncs next, before it asks for a sync, and nothing was changed since.
    let isFailureTold = Atomic<Bool>(false)
    /// A sync has told of what it is unsure of, and it has been so since: nothing could be changed.
    let isTroubleTold = Atomic<Bool>(false)
    /// The log says that it was cut, or emptied, and not that it has grown since: nobody need have waited for that.
    let isCutInLog = Atomic<Bool>(false)
    /// The log says of a cut, which is under way, what the system refused.
    let isCutUntrue = Atomic<Bool>(false)
    /// The log may say something of it that was given up, because a sync of the log failed.
    let isUnsure = Atomic<Bool>(false)
    /// What it is to hold and does not yet.
    let pending = PendingStores()
    /// Held while the file is being synced: nobody is told that it is who did not wait for that.
    let syncing = Mutex<Void>(())

    /// Something failed while no program waited: whoever syncs next is told, unless that is so already.
    func noteUntold() {
        if isFailureTold.load(ordering: .acquiring) || isTroubleTold.load(ordering: .acquiring) { return }
        hasUntoldFailure.store(true, ordering: .releasing)
    }

    init(key: Key, id: [UInt8], place: @escaping @Sendable () -> [StoredName]?) {
        self.key = key
        self.id = id
        self.place = place
    }
}
