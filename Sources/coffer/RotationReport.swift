import CofferKeys
import CofferVault
import Glibc

/// What a rotation has done.
struct RotationReport: Encodable {
    let resumed: Bool
    let entries: Int
    let files: Int
    let bytes: Int
    let epoch: Int
    let fingerprint: String
    let slots: [InfoReport.Slot]

    init(_ opened: UnlockedVault, _ totals: RotationTotals, _ isResumed: Bool) {
        resumed = isResumed
        entries = totals.entries
        files = totals.files
        bytes = totals.bytes
        epoch = Int(opened.ring.newest)
        fingerprint = opened.ring.fingerprint(epoch: opened.ring.newest) ?? ""
        slots = opened.config.slots.map { InfoReport.Slot($0) }
    }

    func text(_ vault: String) -> String {
        let lines = [
            "\(quoted(vault)) has another key: \(entries) entries, \(ByteText.text(bytes)); the key of before is gone",
            "fingerprint \(fingerprint)",
            "it opens with:",
        ]
        return (lines + slots.map { "  " + $0.text }).joined(separator: "\n")
    }
}

/// What could not be done, a line each.
final class ProblemLines {
    /// How many are named.
    private static let limit = 100
    private(set) var count = 0
    private(set) var hasDamage = false

    /// One more.
    func tell(_ place: TreePlace, _ error: VaultError, _ progress: RotationProgress) {
        count += 1
        hasDamage = hasDamage || error.isDamage
        guard count <= Self.limit else { return }
        progress.clear()
        Report.problem("\(quoted(place.path.isEmpty ? Array("/".utf8) : place.path)): \(error.text)")
        if count == Self.limit { Report.problem("more are not named") }
    }
}

/// How far a rotation is, in one line on standard error that writes over itself.
final class RotationProgress {
    private let line = ProgressLine()
    // Small files cost what their making costs, not their bytes.
    private static let costOfEntry = 65536

    /// Shows the line, ten times a second at most.
    func show(_ totals: RotationTotals, checking: Bool = false) {
        line.show { seconds in
            let all = Double(totals.byteCount + totals.entryCount * Self.costOfEntry)
            let done = Double(totals.bytes + totals.entries * Self.costOfEntry)
            var parts = [
                "\(checking ? "looked at" : "encrypted") \(min(totals.entries, totals.entryCount)) of \(totals.entryCount) entries",
                "\(ByteText.text(totals.bytes)) of \(ByteText.text(totals.byteCount))",
                "\(ByteText.text(Int(Double(totals.bytes) / seconds)))/s",
            ]
            if done > 0, all > done, seconds > 2 { parts.append("\(Self.time(seconds * (all - done) / done)) left") }
            return parts.joined(separator: ", ")
        }
    }

    /// Takes the line away.
    func clear() { line.clear() }

    private static func time(_ seconds: Double) -> String {
        let whole = Int(seconds)
        if whole < 60 { return "\(whole) s" }
        if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
        return "\(whole / 3600) h \(whole % 3600 / 60) min"
    }
}

extension VaultError {
    /// Whether stored bytes are not what was stored.
    var isDamage: Bool {
        if case .damaged = self { return true }
        return false
    }

    /// What went wrong, for a person.
    var text: String {
        switch self {
        case .damaged(let damage): damage.block.map { "\(damage.kind.rawValue) (block \($0))" } ?? damage.kind.rawValue
        case .system(.fileExists): "another entry has the name already"
        case .system(let code): String(cString: strerror(code.rawValue))
        case .cryptography: "no memory to encrypt with"
        }
    }
}
