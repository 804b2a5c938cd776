import CLinux
import Glibc
import Synchronization

/// Keeps the processor awake on which a program waits for its answers.
///
/// A virtual machine's processor that has nothing to do is given back to the host, and getting it again takes longer than answering most requests does. So while a program makes one
/// short request after the other, a thread that gets only the time that nobody else wants looks on while they come. It goes where the scheduler puts it: what a program's processor is, proc(5) says only under locks that a program which waits for an answer may hold. The kernel can do the same by itself
/// (`guest_halt_poll_ns` of its cpuidle governor haltpoll); where it does, or where this is no virtual machine, a companion is of no use.
///
/// On a busy machine such a thread may not run for seconds. So it takes no locks and no memory, and nobody waits for it.
final class Companion: Sendable {
    /// Short requests in a row after which there is such a program.
    static let habit: UInt32 = 16
    /// Nanoseconds without a request after which there is none. A disk's sync may be waited for meanwhile.
    private static let absence = 300_000

    /// Short requests since there was a large one, or none for a while.
    private let streak = Atomic<UInt32>(0)
    private let isAway = Atomic<Bool>(false)
    private let isEnded = Atomic<Bool>(false)
    private let bell: Int32
    private let givesWay: Bool

    /// With `givesWay` its thread gets only the time that nobody else wants.
    init(givesWay: Bool = true) throws(MountError) {
        self.givesWay = givesWay
        bell = eventfd(0, Int32(EFD_CLOEXEC))
        guard bell >= 0 else { throw .resources }
    }

    deinit { close(bell) }

    /// Whether the processors of this machine are given away when they have nothing to do, and there is more than one.
    static var isOfUse: Bool {
        guard coffer_is_guest() == 1, coffer_processor_count() > 1 else { return false }
        return text(of: "/sys/module/haltpoll/parameters/guest_halt_poll_ns", { decimal($0[...]) }) ?? 0 == 0
    }

    /// Whether it is to be called.
    var isWaiting: Bool { isAway.load(ordering: .relaxed) }
    /// How many short requests in a row there have been; 0 once it has seen that there are none any more.
    var requestCount: UInt32 { streak.load(ordering: .relaxed) }

    // MARK: Who reads requests

    /// A request has come.
    @inline(__always)
    func see(_ request: RawRequest) {
        guard request.size == .small else { return streak.store(0, ordering: .relaxed) }
        // Two threads may count two as one.
        let count = streak.load(ordering: .relaxed) &+ 1
        streak.store(count, ordering: .relaxed)
        if count >= Self.habit, isWaiting { call() }
    }

    private func call() {
        if isAway.exchange(false, ordering: .relaxed) { ring() }
    }

    private func ring() {
        var one: UInt64 = 1
        _ = write(bell, &one, 8)
    }

    /// Has `run` return.
    func stop() {
        isEnded.store(true, ordering: .sequentiallyConsistent)
        ring()
    }

    // MARK: The companion

    /// Comes when it is called, until the end.
    func run() {
        if givesWay, coffer_set_idle() != 0 { return }
        while !isEnded.load(ordering: .sequentiallyConsistent) {
            isAway.store(true, ordering: .relaxed)
            var number: UInt64 = 0
            _ = read(bell, &number, 8)
            keepCompany()
        }
    }

    /// Looks on until there are no requests any more.
    private func keepCompany() {
        var (last, since) = (streak.load(ordering: .relaxed), Self.now())
        while !isEnded.load(ordering: .relaxed) {
            for _ in 0..<32 { coffer_pause() }
            let (present, now) = (streak.load(ordering: .relaxed), Self.now())
            if present == 0 { return }
            if present != last {
                (last, since) = (present, now)
            } else if now - since > Self.absence {
                return streak.store(0, ordering: .relaxed)
            }
        }
    }

    // MARK: What the kernel says

    /// The number that a text begins with.
    private static func decimal(_ text: Slice<UnsafeRawBufferPointer>) -> Int? {
        let digits = text.prefix { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }
        guard !digits.isEmpty, digits.count < 10 else { return nil }
        return digits.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
    }

    private static func text<Value>(of file: String, _ body: (UnsafeRawBufferPointer) -> Value?) -> Value? {
        let descriptor = open(file, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        return withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 1) { buffer in
            let count = read(descriptor, buffer.baseAddress, buffer.count)
            return count > 0 ? body(UnsafeRawBufferPointer(rebasing: buffer[..<count])) : nil
        }
    }

    private static func now() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }
}
