import CofferVault
import Glibc

/// A line on standard error that writes over itself; only where that is a terminal.
final class ProgressLine {
    /// Whether anybody looks.
    static var isWanted: Bool { isatty(STDERR_FILENO) == 1 }

    private let isShown = ProgressLine.isWanted
    private let began = ProgressLine.now()
    private var last = 0.0
    private var hasLine = false

    /// Shows what `text` says, which gets the seconds since the beginning, ten times a second at most.
    func show(_ text: (Double) -> String) {
        guard isShown else { return }
        let now = Self.now()
        guard now - last >= 0.1 else { return }
        last = now
        put("\r\(text(max(now - began, 0.001)))\u{1B}[K")
        hasLine = true
    }

    /// Takes the line away, so that something else can be written there.
    func clear() {
        if hasLine { put("\r\u{1B}[K") }
        hasLine = false
    }

    private func put(_ text: String) {
        var text = text
        // What cannot be shown is no reason to stop.
        text.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    private static func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

/// How far an extraction is.
final class Progress {
    private let line = ProgressLine()

    /// Shows the line, ten times a second at most.
    func show(_ totals: TreeTotals) {
        line.show { seconds in
            "\(totals.files) files, \(ByteText.text(totals.bytes)), "
                + "\(ByteText.text(Int(Double(totals.bytes) / seconds)))/s"
        }
    }

    /// Takes the line away.
    func clear() { line.clear() }
}

/// Counts of bytes for people.
enum ByteText {
    /// With the unit that leaves one to four digits: `812 B`, `45.3 MB`.
    static func text(_ count: Int) -> String {
        var value = count * 10
        var unit = 0
        let units = ["B", "kB", "MB", "GB", "TB", "PB"]
        while value >= 10_000 && unit < units.count - 1 {
            value /= 1000
            unit += 1
        }
        return (unit == 0 ? String(count) : "\(value / 10).\(value % 10)") + " " + units[unit]
    }
}
