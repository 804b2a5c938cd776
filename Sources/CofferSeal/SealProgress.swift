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
    private let totals = Mutex(SealTotals())
    private let onProgress: @Sendable (SealTotals) -> Void

    init(_ onProgress: @escaping @Sendable (SealTotals) -> Void) { self.onProgress = onProgress }

    /// What was counted so far.
    var now: SealTotals { totals.withLock { $0 } }

    func tell(_ change: (inout SealTotals) -> Void) {
        totals.withLock { totals in
            change(&totals)
            onProgress(totals)
        }
    }
}
