import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import Synchronization
import SystemPackage

/// One open file's contents, shared by all its handles: one inode, one lock, one size.
///
/// Reading, writing, cutting and punching are in extensions by concern. The lock's contract is in ``RangeLock``.
public final class FileContents: @unchecked Sendable {
    /// What is known of the file besides its blocks. Guarded by `knowledge`, a leaf lock: nothing else is taken under it.
    struct Knowledge {
        /// Holes that were verified.
        var holes = HoleMap()
        /// Blocks whose stored info grants more than it should by now: final but not last, or a gap over blocks since filled. To
        /// be taken back by ``FileContents/settle(_:)``.
        var stale: Set<Int> = []
        /// All blocks before this one are known to be stored and to have gap 0, so that rewriting them whole needs no read.
        var densePrefix = 0
        /// The file may be longer on the disk than it is: it could not be cut back after a failure.
        var hasSurplus = false
        /// The file was cut to nothing, and the disk does not say so yet: header and block are to be stored.
        var isEmptyUnstored = false
        /// The last block has verified as final, or was written in this session.
        var isEndVerified = false
        /// The first block holds nothing but what growing the file left there.
        var isFirstUnwritten = false
    }

    let disk: Disk
    let ring: KeyRing
    /// What new contents are sealed with once the file was cut to nothing.
    let newCipher: CipherSuite
    /// The backing file, open for reading and, where `isWritable`, writing. Closed with this object.
    public let descriptor: Int32
    /// Who else may change the file while this has it.
    let company: Company
    /// The intent log, and the file in its terms; both or neither.
    let log: IntentLog?
    /// Set once by `init`.
    @exclusivity(unchecked) private(set) var logged: LoggedFile?
    // The same two, to be lent without counting references.
    let lentLog: Unmanaged<IntentLog>?
    @exclusivity(unchecked) private(set) var lentLogged: Unmanaged<LoggedFile>?
    /// Held for a whole call where others write too.
    let turn = RangeLock()
    /// The backing file as it was when it was last loaded, where others write too. Guarded by `turn`.
    let loaded = Mutex<FileStamp?>(nil)
    let ranges = RangeLock()
    let knowledge = Mutex(Knowledge())
    /// Which key ``fileKey`` is: a leaf lock, under which it changes.
    let numberedKey: Mutex<NumberedKey>

    /// Guarded by `ranges`: changes only under a lock on everything.
    @exclusivity(unchecked) var header: FileHeader
    /// 32 bytes. Guarded like the header; changed by ``changeKey(_:)``.
    let fileKey: UnsafeMutableRawPointer
    private let plainSize: Atomic<Int>
    private let writable: Atomic<Bool>
    /// Blocks were stored or given back since ``takeTouched()`` asked, or ``setTimes(access:modification:)`` said when.
    private let touched = Atomic<Bool>(false)
    /// The system has been shown a read since the file was changed last.
    private let accessed = Atomic<Bool>(false)

    /// Opens the contents behind `descriptor`, which this object owns from here on, also where it throws. A file of plaintext size 0 is
    /// verified at once; of others the header is read, which the first block vouches for.
    ///
    /// With `emptying`, whatever is there is replaced by an empty file, unread but for its id where it has one. With `salvaging`, a size that no file can have
    /// is taken for that of its whole blocks.
    public init(
        disk: Disk, ring: KeyRing, cipher: CipherSuite, descriptor: Int32, isWritable: Bool, emptying: Bool = false,
        salvaging: Bool = false, company: Company = .alone, log: IntentLog? = nil,
        place: (@Sendable () -> [StoredName]?)? = nil, newHeader: FileHeader? = nil, scratch: Scratch
    ) throws(VaultError) {
        self.log = place == nil ? nil : log
        lentLog = self.log.map { Unmanaged.passUnretained($0) }
        self.disk = disk
        self.company = company
        self.ring = ring
        newCipher = cipher
        numberedKey = Mutex(NumberedKey(cipher: cipher))
        self.descriptor = descriptor
        writable = Atomic(isWritable)
        plainSize = Atomic(0)
        fileKey = .allocate(byteCount: SecretKey.byteCount, alignment: 16)
        fileKey.initializeMemory(as: UInt8.self, repeating: 0, count: SecretKey.byteCount)
        header = newHeader ?? FileHeader(cipher: cipher, epoch: ring.newest)
        // From here on every property is set, so that a throw runs deinit and closes the descriptor, which ends the lock.
        let isLocked = company == .alone ? false : try lockBacking(exclusive: emptying)
        var status = try system { () throws(Errno) in try disk.status(descriptor) }
        if let log, try log.settle(status) {
            status = try system { () throws(Errno) in try disk.status(descriptor) }
        }
        let image = scratch.probe
        let isNothing = company == .alone && status.st_size == 0
        let got =
            isNothing
            ? 0
            : try system { () throws(Errno) in
                try disk.read(descriptor, into: image, count: BlockGeometry.emptyFileCount, at: 0)
            }
        let raw = Array(UnsafeRawBufferPointer(start: image, count: min(got, FileHeader.byteCount)))
        if emptying {
            // A file whose header is damaged gets a new id: its contents are going anyway.
            if newHeader == nil, let old = try? FileHeader(parsing: raw) { header = old }
            fileID = header.fileID
            introduce(status, place)
            try makeEmpty(scratch, as: newHeader, ofNothing: isNothing)
            if isLocked { disk.releaseLock(descriptor) }
            return
        }
        let canSalvage = salvaging && status.st_size > BlockGeometry.emptyFileCount
        let plausible = canSalvage ? BlockGeometry.plausibleSize(cipherSize: status.st_size) : nil
        guard let size = BlockGeometry.plainSize(cipherSize: status.st_size) ?? plausible else {
            throw .damaged(Damage(.size))
        }
        try take(raw, size: size, image: image, scratch)
        fileID = header.fileID
        introduce(status, place)
        if isLocked { disk.releaseLock(descriptor) }
    }

    /// Tells the intent log where the file is from now on: stored names from the root, nil where it has none.
    public func follow(_ place: @escaping @Sendable () -> [StoredName]?) {
        if let log, let logged { log.follow(logged, place) }
    }

    private func introduce(_ status: stat, _ place: (@Sendable () -> [StoredName]?)?) {
        guard let log, let place else { return }
        let file = log.file(status, id: fileID, place: place)
        logged = file
        lentLogged = Unmanaged.passUnretained(file)
    }

    /// Believes a header, the file's first bytes and its size. Only under a lock on everything, or while nobody else has the object.
    func take(_ raw: [UInt8], size: Int, image: UnsafeMutableRawPointer, _ scratch: Scratch) throws(VaultError) {
        do throws(FormatError) {
            header = try FileHeader(parsing: raw)
        } catch {
            throw .damaged(Damage(.header))
        }
        try deriveKey()
        plainSize.store(size, ordering: .releasing)
        guard size == 0 else { return }
        var info = BlockInfo(rawValue: 0)
        guard open(image + BlockGeometry.headerCount, block: 0, count: 0, to: scratch.spareBlock, &info, scratch),
            info.isFinal
        else { throw .damaged(Damage(.end, block: 0)) }
        knowledge.withLock { $0.isEndVerified = true }
    }

    /// A new, empty file behind `descriptor`, which is empty on disk; owned from here on, also where it throws. With a log, `making` is its leave, and still held.
    public convenience init(
        creating descriptor: Int32, disk: Disk, ring: KeyRing, cipher: CipherSuite, company: Company = .alone,
        log: IntentLog? = nil, making: IntentLog.Making? = nil, place: (@Sendable () -> [StoredName]?)? = nil,
        scratch: Scratch
    ) throws(VaultError) {
        let header =
            if let log, let making { log.newHeader(making, cipher: cipher) } else {
                FileHeader(cipher: cipher, epoch: ring.newest)
            }
        try self.init(
            disk: disk, ring: ring, cipher: cipher, descriptor: descriptor, isWritable: true, emptying: true,
            company: company, log: log, place: place, newHeader: header, scratch: scratch)
    }

    /// A file as recovery finds it: with a header that it knows, and nothing verified. `descriptor` is owned from here on; without one (-1) there are only the
    /// keys.
    init(recovering descriptor: Int32, disk: Disk, ring: KeyRing, header: FileHeader, size: Int) throws(VaultError) {
        self.disk = disk
        self.ring = ring
        self.descriptor = descriptor
        self.header = header
        newCipher = header.cipher
        numberedKey = Mutex(NumberedKey(cipher: header.cipher))
        company = .alone
        log = nil
        lentLog = nil
        writable = Atomic(true)
        plainSize = Atomic(size)
        fileKey = .allocate(byteCount: SecretKey.byteCount, alignment: 16)
        fileKey.initializeMemory(as: UInt8.self, repeating: 0, count: SecretKey.byteCount)
        fileID = header.fileID
        try deriveKey()
    }

    deinit {
        wipe(fileKey, count: SecretKey.byteCount)
        fileKey.deallocate()
        if descriptor >= 0 { disk.close(descriptor) }
    }

    /// The plaintext size in bytes.
    public var size: Int { plainSize.load(ordering: .acquiring) }

    /// The file's random id: what its attributes are bound to. Set once by `init`; the header, which has it too, may change meanwhile.
    public private(set) var fileID: [UInt8] = []

    /// Whether the descriptor may be written through.
    public var isWritable: Bool { writable.load(ordering: .acquiring) }

    /// Puts a descriptor that may be written through in the place of a read-only one. Takes `newDescriptor` and closes it.
    public func makeWritable(_ newDescriptor: Int32) throws(VaultError) {
        defer { disk.close(newDescriptor) }
        try system { () throws(Errno) in try disk.replace(descriptor, with: newDescriptor) }
        writable.store(true, ordering: .releasing)
    }

    /// Sets the size that readers see. Only under a lock that reaches from the old last block to the end of time.
    func setSize(_ size: Int) {
        plainSize.store(size, ordering: .releasing)
    }

    /// Makes everything written so far durable, permissions taken back first.
    public func sync(dataOnly: Bool, _ scratch: Scratch) throws(VaultError) {
        guard let log, let logged else {
            try settle(scratch)
            return try system { () throws(Errno) in try disk.sync(descriptor, dataOnly: dataOnly) }
        }
        do throws(VaultError) {
            try settle(scratch)
            try syncLogged(dataOnly: dataOnly, log, logged)
        } catch {
            noteFailureTold()
            throw error
        }
        logged.isFailureTold.store(false, ordering: .relaxed)
        if logged.hasUntoldFailure.exchange(false, ordering: .acquiringAndReleasing) { throw .system(.ioError) }
    }

    /// A write failed of which the kernel tells whoever syncs next, before it asks for a sync: with that, whatever failed until now is told, and what fails again as long as nothing
    /// is changed.
    public func noteFailureIsKernels() {
        guard let logged else { return }
        logged.isFailureTold.store(true, ordering: .sequentiallyConsistent)
        logged.hasUntoldFailure.store(false, ordering: .sequentiallyConsistent)
    }

    /// A change succeeded: what fails from now on may have been told already, or not, for who was told of what failed before may be the one who made it.
    @inline(__always)
    func noteChanged() {
        guard let logged, logged.isFailureTold.load(ordering: .relaxed) else { return }
        logged.isFailureTold.store(false, ordering: .sequentiallyConsistent)
    }

    /// A program that syncs is being told of a failure: whatever failed until now, it is told by this.
    public func noteFailureTold() {
        guard let logged else { return }
        logged.hasUntoldFailure.store(false, ordering: .relaxed)
        logged.isTroubleTold.store(true, ordering: .sequentiallyConsistent)
        // Whoever ends the trouble takes that back afterwards; where it has ended, there is nothing to be told of.
        if !logged.isUnsure.load(ordering: .sequentiallyConsistent) {
            logged.isTroubleTold.store(false, ordering: .sequentiallyConsistent)
        }
    }

    /// Notes that a program has read: the driver's own reading leaves the time of access as it is, so the system is shown one that does not, once after
    /// each change of the file. Whether the time changes is the backing mount's to say.
    @inline(__always)
    public func noteAccess(_ scratch: Scratch) {
        if accessed.load(ordering: .relaxed) { return }
        markAccess(scratch)
    }

    private func markAccess(_ scratch: Scratch) {
        accessed.store(true, ordering: .relaxed)
        do throws(Errno) {
            try disk.noteAccess(descriptor, scratch.probe)
        } catch {
            // It keeps the time that was.
        }
    }

    /// Whether the backing file, and so its time of modification, was changed since this was asked last.
    public func takeTouched() -> Bool {
        touched.exchange(false, ordering: .acquiringAndReleasing)
    }

    /// Lends the backing file's descriptor, for its attributes.
    package func withDescriptor<Result>(_ body: (Int32) throws(VaultError) -> Result) throws(VaultError) -> Result {
        ranges.lock(0, RangeLock.endless, exclusive: false)
        defer { ranges.unlock(0, RangeLock.endless, exclusive: false) }
        return try body(descriptor)
    }

    /// Notes that the backing file is being changed.
    public func touch() {
        accessed.store(false, ordering: .relaxed)
        touched.store(true, ordering: .releasing)
    }

    /// Sets the file's times while no block is being stored: taking permissions back goes by the times that it found, and must not find them half-way. What is
    /// still to be stored is stored before: copy tools go by size and time, so no time may be that of two contents.
    public func setTimes(access: timespec, modification: timespec) throws(VaultError) {
        ranges.lock(0, RangeLock.endless, exclusive: true)
        defer { ranges.unlock(0, RangeLock.endless, exclusive: true) }
        let set = { () throws(VaultError) in
            let isQueued = self.logged?.pending.queue(access: access, modification: modification) ?? false
            if !isQueued {
                try system { () throws(Errno) in
                    try self.disk.setTimes(self.descriptor, access: access, modification: modification)
                }
            }
            // What was changed until now has its time.
            if modification.tv_nsec != Disk.unchangedTime.tv_nsec { _ = self.takeTouched() }
        }
        if let logged { try logged.pending.alone(set) } else { try set() }
    }

    func deriveKey() throws(VaultError) {
        guard let contentsKey = ring.subkey(.contents, epoch: header.epoch) else { throw .damaged(Damage(.header)) }
        try changeKey { () throws(VaultError) in
            header.deriveKey(
                contentsKey: contentsKey,
                into: UnsafeMutableRawBufferPointer(start: fileKey, count: SecretKey.byteCount))
        }
    }
}
