import CofferFormat
import CofferVault
import Glibc
import Synchronization

/// What a check has found, for programs and people.
struct CheckReport: Encodable {
    /// One finding.
    struct Finding: Encodable, Sendable {
        let path: String
        /// Where the path is not UTF-8, its bytes.
        let pathBytes: [UInt8]?
        let stored: String
        let problem: String
        let isLoss: Bool
        /// The first plaintext byte that is lost, and the first after those.
        let bytes: [Int]?
        let storedBytes: [Int]?

        init(_ finding: CheckFinding) {
            let bytes = finding.place.path
            path = bytes.isEmpty ? "/" : visible(bytes)
            pathBytes = String(validating: bytes, as: UTF8.self) == nil ? bytes : nil
            stored = String(decoding: finding.place.storedPath, as: UTF8.self)
            problem = finding.kind.text
            isLoss = finding.isLoss
            self.bytes = finding.bytes.map { [$0.lowerBound, $0.upperBound] }
            storedBytes = finding.storedBytes.map { [$0.lowerBound, $0.upperBound] }
        }

        /// The finding in a line.
        var text: String {
            var parts = ["'\(path)': \(problem)"]
            if let bytes { parts.append("bytes \(bytes[0]) to \(bytes[1]) are lost") }
            if let storedBytes {
                parts.append("stored in '\(stored)', bytes \(storedBytes[0]) to \(storedBytes[1])")
            } else if isLoss {
                parts.append("stored as '\(stored)'")
            }
            return parts.joined(separator: "; ")
        }
    }

    let entries: Int
    let files: Int
    let bytes: Int
    let losses: Int
    let notes: Int
    let quick: Bool
    let findings: [Finding]

    init(_ totals: CheckTotals, _ findings: [Finding], quick: Bool) {
        entries = totals.entries
        files = totals.files
        bytes = totals.bytes
        losses = totals.losses
        notes = totals.notes
        self.quick = quick
        self.findings = findings
    }

    func text(_ vault: String) -> String {
        let what =
            "\(entries) entries, \(files) files\(quick ? ", beginnings and ends only" : ", \(ByteText.text(bytes))")"
        let result =
            losses == 0
            ? "everything verifies" : "\(losses) \(losses == 1 ? "thing is" : "things are") damaged or unreadable"
        return "\(quoted(vault)): \(what): \(result)\(notes == 0 ? "" : "; \(notes) to know of")"
    }
}

/// Findings as they come: a line each on standard output, or all of them at the end; and how far it is.
final class CheckLines: Sendable {
    private struct State {
        var all: [CheckReport.Finding] = []
        var isDamaged = false
        var isUnreadable = false
    }

    private let keepsAll: Bool
    private let total: Int?
    private let state = Mutex(State())
    private let line = Mutex(ProgressLine())

    init(keepsAll: Bool, total: Int?) {
        self.keepsAll = keepsAll
        self.total = total
    }

    /// All findings, where they are kept.
    var all: [CheckReport.Finding] { state.withLock { $0.all } }

    /// One more.
    func tell(_ finding: CheckFinding) {
        let shown = CheckReport.Finding(finding)
        state.withLock { state in
            switch finding.kind {
            case .damage: state.isDamaged = true
            case .unreadable, .busy: state.isUnreadable = true
            case .orphan, .strangeRecord, .conflictCopy, .leftover, .reconstructed: break
            }
            if keepsAll { state.all.append(shown) }
        }
        if keepsAll { return }
        clear()
        do throws(CommandError) {
            try Report.line(finding.isLoss ? shown.text : "note: \(shown.text)")
        } catch {
            // Nobody reads it; the exit status says what there was.
        }
    }

    /// How far it is.
    func show(_ totals: CheckTotals) {
        line.withLock { line in
            line.show { seconds in
                var parts = ["\(totals.entries) entries", ByteText.text(totals.bytes)]
                if let total, total > 0 { parts[1] += " of \(ByteText.text(total))" }
                parts.append("\(ByteText.text(Int(Double(totals.bytes) / seconds)))/s")
                if totals.losses > 0 { parts.append("\(totals.losses) damaged") }
                return parts.joined(separator: ", ")
            }
        }
    }

    /// Takes the line away.
    func clear() { line.withLock { $0.clear() } }

    /// What the exit status has to say.
    func failure(_ vault: String) -> CommandError? {
        state.withLock { state in
            if state.isDamaged {
                return CommandError(
                    .damaged,
                    "\(quoted(vault)): what is named above is damaged; another copy of the vault may have it whole")
            }
            if state.isUnreadable {
                return CommandError(.inputOutput, "\(quoted(vault)): not everything could be looked at")
            }
            return nil
        }
    }
}

extension CheckFinding.Kind {
    /// What it is, for people and programs.
    var text: String {
        switch self {
        case .damage(let kind): kind.rawValue
        case .unreadable(let code): "cannot be read: \(String(cString: strerror(code.rawValue)))"
        case .orphan: "a piece of a name or link that nothing goes with; it means nothing"
        case .strangeRecord:
            "its coffer.dir has a record of another place, or a damaged one; what needs that is named as not verifying"
        case .conflictCopy:
            "encrypted content under none of Coffer's names, like a sync tool's conflict copy; it is not shown"
        case .leftover: "left half-made by a crash; it means nothing"
        case .reconstructed: "its end was set by the recovery from a power cut"
        case .busy: "it changed each time it was looked at"
        }
    }
}
