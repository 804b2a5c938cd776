import CofferFormat
import CofferKeys
import CofferSeal
import Glibc
import Synchronization

/// What a seal says, for programs and people.
struct SealReport: Encodable {
    let counter: UInt64
    /// When it was made, in universal time.
    let time: String
    let root: String
    let entries: UInt64
    let bytes: UInt64
    let anchor: String

    init(_ head: SealHead) {
        counter = head.counter
        time = TimeText.universal(Self.time(head.time))
        root = Hex.encode(head.root)
        entries = head.entries
        bytes = head.bytes
        anchor = SealAnchor(head).text
    }

    /// The seal for people: `seal 5 of 2026-01-31T13:00:00+01:00`.
    static func name(_ counter: UInt64, _ time: Int64) -> String {
        "seal \(counter) of \(TimeText.local(Self.time(time)))"
    }

    private static func time(_ nanoseconds: Int64) -> timespec {
        timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(abs(nanoseconds % 1_000_000_000)))
    }
}

extension KnownSeals.Doubt {
    /// What speaks against the copy.
    var text: String {
        switch self {
        case .older(let newest): "this machine has seen \(SealReport.name(newest.counter, newest.time))"
        case .other: "this machine has seen another seal with the same number: the vault was sealed in two places"
        }
    }
}

/// How far sealing or verifying is, on a line that writes over itself.
final class SealLine: Sendable {
    private let entryCount: UInt64
    private let byteCount: UInt64
    private let line = Mutex(ProgressLine())

    /// Of so many entries and bytes, as far as known.
    init(entries: UInt64, bytes: UInt64) {
        entryCount = entries
        byteCount = bytes
    }

    @Sendable func show(_ totals: SealTotals) {
        line.withLock { line in
            line.show { seconds in
                var parts = ["\(totals.entries)\(entryCount > 0 ? " of \(entryCount)" : "") entries"]
                let total = byteCount > 0 ? " of \(ByteText.text(Int(clamping: byteCount)))" : ""
                parts.append("\(ByteText.text(totals.bytesRead))\(total) read")
                parts.append("\(ByteText.text(Int(Double(totals.bytesRead) / seconds)))/s")
                if totals.findings > 0 { parts.append("\(totals.findings) not as sealed") }
                return parts.joined(separator: ", ")
            }
        }
    }

    /// Takes the line away.
    func clear() { line.withLock { $0.clear() } }
}
