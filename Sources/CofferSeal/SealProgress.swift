import Synchronization

/// How far sealing or verifying is.
public struct SealTotals: Sendable {
    /// Entries passed.
    public var entries = 0
    /// Files that were read.
    public var filesRead = 0
    /// Bytes that were read of them; holes are not.
    public var bytesRead = 0
    /// Entries that are not as they should be, so far.
    public var findings = 0

    /// Nothing yet.
    public init() {}
}

/// What several threads count, and somebody is told now and then.
final class SealProgress: Sendable {
    /// So many changes are told at once: telling takes longer than hashing a small file.
    private static let interval = 32
    private let totals = Mutex((now: SealTotals(), untold: 0))
    private let onProgress: @Sendable (SealTotals) -> Void

    init(_ onProgress: @escaping @Sendable (SealTotals) -> Void) { self.onProgress = onProgress }

    /// What was counted so far.
    var now: SealTotals { totals.withLock { $0.now } }

    func tell(_ change: (inout SealTotals) -> Void) {
        totals.withLock { totals in
            change(&totals.now)
            totals.untold += 1
            guard totals.untold >= Self.interval else { return }
            totals.untold = 0
            onProgress(totals.now)
        }
    }
}
