import CofferDisk
import Glibc
import Randomness
import Synchronization
import SystemPackage

/// The host's file system, on which calls fail when they are told to. For any number of threads.
final class FaultyDisk: Disk, @unchecked Sendable {
    /// Which calls fail, and how.
    struct Fault: Sendable, CustomStringConvertible {
        let error: Errno
        /// The number of the first call that fails, counted from where the disk is armed.
        let first: Int
        /// How many calls in a row fail.
        let count: Int
        /// A write that fails is done in part.
        let isPartial: Bool

        var description: String {
            "call \(first)\(count > 1 ? " and \(count - 1) more" : "") \(isPartial ? "half-way " : "")with errno \(error.rawValue)"
        }
    }

    private enum Kind {
        case looking
        case changing
    }

    private struct State {
        var fault: Fault?
        var isPaused = false
        var calls = 0
        var failed: [String] = []
    }

    private let state = Mutex(State())
    /// Whether reads and writes are interrupted, and shorter than asked for.
    let interrupts = Atomic<Bool>(false)
    private let interruptions = Atomic<Int>(0)
    private let tosses = Atomic<UInt64>(0)
    /// What the disk says of the order of entries; the driver syncs more where they have none.
    private let hasEntryOrder: Bool

    init(hasEntryOrder: Bool = true) {
        self.hasEntryOrder = hasEntryOrder
    }

    /// Counts calls from now on, and lets those fail that a fault names. Without one nothing fails.
    func arm(_ fault: Fault?) {
        state.withLock { $0 = State(fault: fault) }
    }

    /// Nothing fails any more; what has failed is still known.
    func disarm() {
        state.withLock { $0.fault = nil }
    }

    /// Lets nothing fail, nor be counted, while `body` looks at what is there.
    func pausing<Result>(_ body: () throws -> Result) rethrows -> Result {
        state.withLock { $0.isPaused = true }
        defer { state.withLock { $0.isPaused = false } }
        return try body()
    }

    /// The calls so far that could fail.
    var calls: Int { state.withLock { $0.calls } }
    /// The names and numbers of those that did.
    var failed: [String] { state.withLock { $0.failed } }
    /// How often a read or write was interrupted.
    var interruptionCount: Int { interruptions.load(ordering: .relaxed) }

    /// Counts a call; the fault that it meets.
    private func meet(_ name: String, _ kind: Kind) -> Fault? {
        state.withLock { state in
            if state.isPaused { return nil }
            // What merely looks does not fail for want of room.
            if let fault = state.fault, fault.error != .ioError, kind == .looking { return nil }
            defer { state.calls += 1 }
            guard let fault = state.fault, state.calls >= fault.first, state.calls < fault.first + fault.count else {
                return nil
            }
            if state.failed.count < 50 { state.failed.append("\(name) \(state.calls)") }
            return fault
        }
    }

    private func step(_ name: String, _ kind: Kind) throws(Errno) {
        if let fault = meet(name, kind) { throw fault.error }
    }

    // MARK: Descriptors

    override func open(
        at directory: Int32, _ name: UnsafePointer<CChar>, flags: Int32, mode: mode_t
    ) throws(Errno) -> Int32 {
        try step(flags & O_CREAT != 0 ? "create" : "open", flags & O_CREAT != 0 ? .changing : .looking)
        return try super.open(at: directory, name, flags: flags, mode: mode)
    }

    override func reopen(_ descriptor: Int32, flags: Int32) throws(Errno) -> Int32 {
        try step("reopen", .looking)
        return try super.reopen(descriptor, flags: flags)
    }

    override func replace(_ target: Int32, with source: Int32) throws(Errno) {
        try step("replace", .looking)
        try super.replace(target, with: source)
    }

    override func duplicate(_ descriptor: Int32) throws(Errno) -> Int32 {
        try step("duplicate", .looking)
        return try super.duplicate(descriptor)
    }

    // MARK: Contents

    override func read(
        _ descriptor: Int32, into buffer: UnsafeMutableRawPointer, count: Int, at offset: Int
    ) throws(Errno) -> Int {
        try step("read", .looking)
        return try super.read(descriptor, into: buffer, count: count, at: offset)
    }

    override func write(_ descriptor: Int32, _ buffer: UnsafeRawPointer, count: Int, at offset: Int) throws(Errno) {
        if let fault = meet("write", .changing) {
            if fault.isPartial { try super.write(descriptor, buffer, count: min(count, 700), at: offset) }
            throw fault.error
        }
        try super.write(descriptor, buffer, count: count, at: offset)
    }

    /// What one read or write does of `count` bytes; nil where it is interrupted.
    private func toss(_ count: Int) -> Int? {
        guard interrupts.load(ordering: .relaxed) else { return count }
        let number = SeededRandom.mixed(tosses.add(1, ordering: .relaxed).newValue)
        if number % 4 == 0 {
            interruptions.add(1, ordering: .relaxed)
            return nil
        }
        return number % 4 == 1 && count > 1 ? 1 + Int(number >> 8) % (count - 1) : count
    }

    override func readOnce(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer, _ count: Int, _ offset: Int) -> Int {
        guard let count = toss(count) else {
            errno = EINTR
            return -1
        }
        return super.readOnce(descriptor, buffer, count, offset)
    }

    override func writeOnce(_ descriptor: Int32, _ buffer: UnsafeRawPointer, _ count: Int, _ offset: Int) -> Int {
        guard let count = toss(count) else {
            errno = EINTR
            return -1
        }
        return super.writeOnce(descriptor, buffer, count, offset)
    }

    override func truncate(_ descriptor: Int32, to size: Int) throws(Errno) {
        try step("truncate", .changing)
        try super.truncate(descriptor, to: size)
    }

    override func allocate(_ descriptor: Int32, mode: Int32, offset: Int, length: Int) throws(Errno) {
        try step("allocate", .changing)
        try super.allocate(descriptor, mode: mode, offset: offset, length: length)
    }

    override func sync(_ descriptor: Int32, dataOnly: Bool) throws(Errno) {
        try step("sync", .changing)
        try super.sync(descriptor, dataOnly: dataOnly)
    }

    override func syncFileSystem(_ descriptor: Int32) throws(Errno) {
        try step("syncfs", .changing)
        try super.syncFileSystem(descriptor)
    }

    override func nextData(_ descriptor: Int32, from offset: Int) throws(Errno) -> Int? {
        try step("data", .looking)
        return try super.nextData(descriptor, from: offset)
    }

    override func nextHole(_ descriptor: Int32, from offset: Int) throws(Errno) -> Int? {
        try step("hole", .looking)
        return try super.nextHole(descriptor, from: offset)
    }

    // MARK: Attributes

    override func status(_ descriptor: Int32) throws(Errno) -> stat {
        try step("fstat", .looking)
        return try super.status(descriptor)
    }

    override func status(at directory: Int32, _ name: UnsafePointer<CChar>) throws(Errno) -> stat {
        try step("fstatat", .looking)
        return try super.status(at: directory, name)
    }

    override func birthTime(
        at directory: Int32, _ name: UnsafePointer<CChar>
    ) throws(Errno) -> (time: timespec, isExact: Bool) {
        try step("statx", .looking)
        return try super.birthTime(at: directory, name)
    }

    override func keepsEntryOrder(_ descriptor: Int32) -> Bool { hasEntryOrder }
    override func passesOverDirectories(_ directory: Int32) -> Bool { !hasEntryOrder }

    override func fileSystemStatus(_ descriptor: Int32) throws(Errno) -> statvfs {
        try step("fstatvfs", .looking)
        return try super.fileSystemStatus(descriptor)
    }

    override func setMode(_ descriptor: Int32, _ mode: mode_t) throws(Errno) {
        try step("chmod", .changing)
        try super.setMode(descriptor, mode)
    }

    override func setOwner(_ descriptor: Int32, user: uid_t, group: gid_t) throws(Errno) {
        try step("chown", .changing)
        try super.setOwner(descriptor, user: user, group: group)
    }

    override func setTimes(_ descriptor: Int32, access: timespec, modification: timespec) throws(Errno) {
        try step("utimens", .changing)
        try super.setTimes(descriptor, access: access, modification: modification)
    }

    // MARK: Directory entries

    override func makeDirectory(at directory: Int32, _ name: UnsafePointer<CChar>, mode: mode_t) throws(Errno) {
        try step("mkdir", .changing)
        try super.makeDirectory(at: directory, name, mode: mode)
    }

    override func makeNode(
        at directory: Int32, _ name: UnsafePointer<CChar>, mode: mode_t, device: dev_t
    ) throws(Errno) {
        try step("mknod", .changing)
        try super.makeNode(at: directory, name, mode: mode, device: device)
    }

    override func makeLink(
        at directory: Int32, _ name: UnsafePointer<CChar>, target: UnsafePointer<CChar>
    ) throws(Errno) {
        try step("symlink", .changing)
        try super.makeLink(at: directory, name, target: target)
    }

    override func hardLink(
        from source: Int32, _ name: UnsafePointer<CChar>, to target: Int32, _ newName: UnsafePointer<CChar>
    ) throws(Errno) {
        try step("link", .changing)
        try super.hardLink(from: source, name, to: target, newName)
    }

    override func rename(
        from source: Int32, _ name: UnsafePointer<CChar>, to target: Int32, _ newName: UnsafePointer<CChar>,
        mode: RenameMode
    ) throws(Errno) {
        try step("rename", .changing)
        try super.rename(from: source, name, to: target, newName, mode: mode)
    }

    override func remove(at parent: Int32, _ name: UnsafePointer<CChar>, directory: Bool) throws(Errno) {
        try step(directory ? "rmdir" : "unlink", .changing)
        try super.remove(at: parent, name, directory: directory)
    }

    override func readLink(
        at directory: Int32, _ name: UnsafePointer<CChar>, into buffer: UnsafeMutableBufferPointer<CChar>
    ) throws(Errno) -> Int {
        try step("readlink", .looking)
        return try super.readLink(at: directory, name, into: buffer)
    }

    override func readDirectory(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) throws(Errno) -> Int {
        try step("getdents", .looking)
        return try super.readDirectory(descriptor, into: buffer)
    }

    override func seekDirectory(_ descriptor: Int32, to position: Int) throws(Errno) {
        try step("seek", .looking)
        try super.seekDirectory(descriptor, to: position)
    }

    // MARK: Extended attributes

    override func attribute(
        _ descriptor: Int32, _ name: UnsafePointer<CChar>, into buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int {
        try step("getxattr", .looking)
        return try super.attribute(descriptor, name, into: buffer)
    }

    override func setAttribute(
        _ descriptor: Int32, _ name: UnsafePointer<CChar>, _ value: UnsafeRawBufferPointer, flags: Int32
    ) throws(Errno) {
        try step("setxattr", .changing)
        try super.setAttribute(descriptor, name, value, flags: flags)
    }

    override func listAttributes(
        _ descriptor: Int32, into buffer: UnsafeMutableBufferPointer<CChar>
    ) throws(Errno) -> Int {
        try step("listxattr", .looking)
        return try super.listAttributes(descriptor, into: buffer)
    }

    override func removeAttribute(_ descriptor: Int32, _ name: UnsafePointer<CChar>) throws(Errno) {
        try step("removexattr", .changing)
        try super.removeAttribute(descriptor, name)
    }
}
