import CofferVault
import SystemPackage

/// Tells problems as they come, and keeps them for a summary.
final class ExtractionProblems {
    private let progress: Progress
    private let keepsAll: Bool
    private(set) var all: [ExtractionSummary.Problem] = []

    init(progress: Progress, keepsAll: Bool) {
        self.progress = progress
        self.keepsAll = keepsAll
    }

    func tell(_ problem: TreeProblem) {
        progress.clear()
        let told = ExtractionSummary.Problem(problem)
        Report.problem(told.line)
        if keepsAll { all.append(told) }
    }
}

/// What `coffer extract` tells at its end.
struct ExtractionSummary: Encodable {
    /// One thing that went wrong.
    struct Problem: Encodable {
        let path: String
        let pathHex: String?
        let stored: String
        let kind: String
        let reason: String
        let block: Int?
        /// Only of salvaged files.
        let lostBytes: Int?
        let savedAs: String?

        init(_ problem: TreeProblem) {
            let place = problem.place.path
            (path, pathHex) = JSONText.pair(place.isEmpty ? Array("/".utf8) : place)
            stored = visible(problem.place.storedPath)
            var damage: Damage?
            var lost: Int?
            var name: String?
            switch problem.reason {
            case .damaged(let found):
                (kind, reason, damage) = ("damaged", "\(found)", found)
            case .salvaged(let found, let salvaged, let lostCount):
                (kind, reason, damage) = ("salvaged", "\(found)", found)
                (lost, name) = (lostCount, visible(salvaged))
            case .damagedAttribute(let found): (kind, reason) = ("damaged", "\(found)")
            case .unreadable(let code): (kind, reason) = ("failed", "cannot be read: \(code)")
            case .unwritable(let code): (kind, reason) = ("failed", "cannot be written: \(code)")
            case .skippedDevice: (kind, reason) = ("skipped", "only root can make a device node, with --trust-modes")
            case .vanished: (kind, reason) = ("skipped", "gone while the vault was read")
            case .incomplete(let property, let code):
                (kind, reason) = ("incomplete", "without its \(property): \(code)")
            }
            block = damage?.block
            lostBytes = lost
            savedAs = name
        }

        /// For a person.
        var line: String {
            var text = "\(quoted(path)): \(printable(reason))"
            if let savedAs, let lostBytes {
                text += "; saved as \(quoted(savedAs)) without \(lostBytes) bytes"
            }
            if kind == "damaged" || kind == "salvaged" { text += " (stored as \(quoted(stored)))" }
            return text
        }
    }

    let complete: Bool
    let files: Int
    let directories: Int
    let symlinks: Int
    let hardLinks: Int
    let nodes: Int
    let bytes: Int
    let damaged: Int
    let salvaged: Int
    let failed: Int
    let skipped: Int
    let incomplete: Int
    let problems: [Problem]

    init(_ totals: TreeTotals, _ problems: [Problem], isComplete: Bool) {
        files = totals.files
        directories = totals.directories
        symlinks = totals.links
        hardLinks = totals.hardLinks
        nodes = totals.nodes
        bytes = totals.bytes
        damaged = totals.damaged
        salvaged = totals.salvaged
        failed = totals.failed
        skipped = totals.skipped
        incomplete = totals.incomplete
        complete = isComplete && totals.damaged == 0 && totals.failed == 0 && totals.skipped == 0
        self.problems = problems
    }

    /// One line.
    func text(_ destination: String) -> String {
        let made = [
            (files, "file", "files"), (directories, "directory", "directories"), (symlinks, "link", "links"),
            (hardLinks, "hard link", "hard links"), (nodes, "special file", "special files"),
        ]
        var parts = made.filter { $0.0 > 0 }.map { "\($0.0) \($0.0 == 1 ? $0.1 : $0.2)" }
        if parts.isEmpty { parts = ["nothing"] }
        let wrong = [
            (damaged, "damaged"), (salvaged, "salvaged in part"), (failed, "failed"), (skipped, "left out"),
            (incomplete, "properties not set"),
        ]
        let end = wrong.filter { $0.0 > 0 }.map { "; \($0.0) \($0.1)" }.joined()
        return "extracted \(parts.joined(separator: ", ")), \(ByteText.text(bytes)), to \(quoted(destination))\(end)"
    }

    /// What the exit status must tell; nil where all is well.
    var failure: CommandError? {
        if damaged > 0 {
            return CommandError(.damaged, "not all was extracted: the stored data of \(damaged) is damaged; see above")
        }
        if failed > 0 { return CommandError(.inputOutput, "not all was extracted: \(failed) failed; see above") }
        return nil
    }
}
