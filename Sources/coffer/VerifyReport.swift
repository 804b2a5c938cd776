import CofferFormat
import CofferSeal
import Glibc

/// What a verification has found, for programs and people.
struct VerifyReport {
    /// One line of it.
    struct Line: Encodable {
        /// In plaintext; null where there is no key.
        let path: String?
        /// Where the path is not UTF-8, its bytes.
        let pathBytes: [UInt8]?
        /// The place in the copy; null for what is no matter of one place.
        let stored: String?
        /// One word.
        let problem: String
        /// How grave it is.
        let severity: String
        let detail: String

        private enum CodingKeys: String, CodingKey {
            case path, pathBytes, stored, problem, detail
            case severity = "class"
        }

        var text: String {
            let place = (path ?? stored).map { "'\($0)': " } ?? ""
            return "\(severity): \(place)\(detail)"
        }
    }

    private struct JSON: Encodable {
        let result: String
        let seal: SealReport?
        let entries: Int
        let filesRead: Int
        let bytesRead: Int
        let findings: [Line]
    }

    private static let maximumForeign = 20
    private let copy: String
    private var lines: [Line] = []
    private var head: SealHead?
    private var totals = SealTotals()
    private var counts: [VerifyFinding.Severity: Int] = [:]
    private var timesOnly = 0
    /// Findings that are about the copy's age, not about what is in it.
    private var ages = 0

    init(copy: String) {
        self.copy = copy
    }

    // MARK: Seals

    /// Says which seals are there, and what is wrong with them.
    mutating func note(_ seals: [StoredSeal], newest: SealHead?) {
        head = newest
        for seal in seals {
            let stored = "coffer.seals/" + SealHead.fileName(seal.counter).description
            let isNewer = newest.map { seal.counter > $0.counter } ?? true
            switch seal.state {
            case .whole: continue
            case .headOnly, .incomplete:
                if case .headOnly = seal.state, !isNewer { continue }
                let severity: VerifyFinding.Severity = isNewer ? .incomplete : .note
                add(
                    nil, stored, "sealIncomplete", severity,
                    "the seal is genuine, but not all of it is there, or its list was changed")
            case .cut:
                add(
                    nil, stored, "sealIncomplete", isNewer ? .incomplete : .note,
                    "not even the seal's head is all there")
            case .forged:
                // One that is older than a genuine one says nothing.
                add(
                    nil, stored, "sealForged", isNewer ? .damaged : .note,
                    "the seal is not signed by this vault's key, or was changed; seals from before 'coffer key rotate' are by another key"
                )
            case .unknown:
                add(nil, stored, "sealUnknown", .note, "the seal is of a newer version of coffer")
            case .unreadable(let code):
                add(
                    nil, stored, "sealUnreadable", .damaged,
                    "the seal cannot be read: \(String(cString: strerror(code.rawValue)))")
            }
        }
    }

    /// Says that a newer seal is known.
    mutating func rolledBack(_ reason: String) {
        ages += 1
        add(nil, nil, "rolledBack", .incomplete, "the copy is older than it should be: \(reason)")
    }

    /// Compares the newest seal with one that was written down.
    mutating func compare(_ anchor: SealAnchor, _ head: SealHead, _ all: [StoredSeal]) {
        if head.counter < anchor.counter {
            ages += 1
            add(
                nil, nil, "anchor", .incomplete,
                "the copy is older than the anchor, which is of seal \(anchor.counter); its newest is seal \(head.counter)"
            )
        } else if let same = all.compactMap(\.head).first(where: { $0.counter == anchor.counter }) {
            if !anchor.isOf(same) {
                add(nil, nil, "anchor", .damaged, "seal \(anchor.counter) is not the one that the anchor is of")
            }
        } else {
            add(
                nil, nil, "anchorGone", .note,
                "seal \(anchor.counter), which the anchor is of, is not kept any more; seal \(head.counter) is newer, and by the same key"
            )
        }
    }

    // MARK: Findings

    /// Takes what was found, in the order of places, with plaintext names where there is a key.
    mutating func add(_ findings: [VerifyFinding], _ totals: SealTotals, _ names: SealNames?) {
        self.totals = totals
        names?.learn(from: findings)
        var foreign = 0
        for finding in findings {
            if case .foreign = finding.kind {
                foreign += 1
                if foreign > Self.maximumForeign { continue }
            }
            if case .time = finding.kind { timesOnly += 1 }
            let named = names.map { $0.path(of: finding.place) }
            let stored = finding.place.path
            let detail = finding.text { place in
                if let names { quoted(names.path(of: place).bytes) } else { quoted(place.path) }
            }
            let part =
                named?.isPart == true ? " (of the part of it that is stored as \(quoted(finding.place.name)))" : ""
            add(
                named.map { $0.bytes.isEmpty ? Array("/".utf8) : $0.bytes },
                visible(stored.isEmpty ? Array(".".utf8) : stored),
                finding.word, finding.severity, detail + part)
        }
    }

    private mutating func add(
        _ path: [UInt8]?, _ stored: String?, _ word: String, _ severity: VerifyFinding.Severity, _ detail: String
    ) {
        counts[severity, default: 0] += 1
        lines.append(
            Line(
                path: path.map { visible($0) },
                pathBytes: path.flatMap { String(validating: $0, as: UTF8.self) == nil ? $0 : nil }, stored: stored,
                problem: word, severity: severity.rawValue, detail: detail))
    }

    private func has(_ severity: VerifyFinding.Severity) -> Bool { counts[severity, default: 0] > 0 }

    private var result: String {
        if head == nil { return "noSeal" }
        return has(.damaged) ? "damaged" : has(.incomplete) ? "incomplete" : has(.newer) ? "newer" : "whole"
    }

    /// Prints it, and throws what the exit status has to say.
    func tell(json: Bool, isStrict: Bool) throws(CommandError) {
        if json {
            try Report.line(
                try JSONText.pretty(
                    JSON(
                        result: result, seal: head.map { SealReport($0) }, entries: totals.entries,
                        filesRead: totals.filesRead, bytesRead: totals.bytesRead, findings: lines)))
        } else {
            for severity in VerifyFinding.Severity.allCases {
                for line in lines where line.severity == severity.rawValue { try Report.line(line.text) }
            }
            if let head { try Report.line(summary(head)) }
        }
        if timesOnly > 10, timesOnly * 2 > totals.filesRead {
            Report.note(
                "most files have other times of modification than sealed: the copy was made without them; --ignore times"
            )
        }
        let name = quoted(copy)
        guard head != nil else {
            throw CommandError(
                .noSeal,
                "\(name): there is no genuine seal\(lines.isEmpty ? "; 'coffer seal' makes one" : " that is whole")")
        }
        if has(.damaged) {
            throw CommandError(.damaged, "\(name): there is damage; 'coffer repair' can heal it by another copy")
        }
        if has(.incomplete) {
            let isOnlyOld = counts[.incomplete, default: 0] == ages && !has(.newer)
            throw CommandError(
                .incomplete,
                isOnlyOld ? "\(name) is whole, but older than it should be" : "\(name) is not as it was sealed")
        }
        if isStrict && has(.newer) { throw CommandError(.incomplete, "\(name) is newer than its seal in part") }
    }

    private func summary(_ head: SealHead) -> String {
        let what = "\(totals.entries) entries, \(ByteText.text(totals.bytesRead)) read"
        let seal = SealReport.name(head.counter, head.time)
        var parts: [String] = []
        for (severity, text) in [
            (VerifyFinding.Severity.damaged, "damaged"), (.incomplete, "not as sealed"),
            (.newer, "newer than the seal"),
        ] {
            let count = counts[severity, default: 0] - (severity == .incomplete ? ages : 0)
            if count > 0 { parts.append("\(count) \(text)") }
        }
        var result = parts.isEmpty ? "exactly as sealed" : parts.joined(separator: ", ")
        if ages > 0 { result += ", but there is a newer seal" }
        return "\(quoted(copy)): \(seal): \(what): \(result)"
    }
}

extension VerifyFinding {
    /// One word for programs.
    var word: String {
        switch kind {
        case .missing: "missing"
        case .older: "older"
        case .newer: "newer"
        case .busy: "busy"
        case .added: "added"
        case .contents: "contents"
        case .size: "size"
        case .link: "link"
        case .device: "device"
        case .type: "type"
        case .name: "name"
        case .unnamed: "unnamed"
        case .swapped: "swapped"
        case .blocks: "blocks"
        case .unreadable: "unreadable"
        case .mode: "mode"
        case .attributes: "attributes"
        case .owner: "owner"
        case .time: "time"
        case .unsure: "unsure"
        case .sealedDamaged: "sealedDamaged"
        case .foreign: "foreign"
        }
    }

    /// What it is, for people.
    func text(_ name: (StoredPlace) -> String) -> String {
        switch kind {
        case .missing(0): isDirectory ? "the directory is missing" : "missing: not there yet, removed since, or lost"
        case .missing(let inside): "the directory is missing, with \(inside) entries"
        case .older(let counter?): "an older version, that of seal \(counter)"
        case .older(nil): "an older version than was sealed"
        case .newer: "changed since the seal"
        case .busy: "it is being written to"
        case .added(nil): isDirectory ? "a directory that was not sealed" : "it was not sealed"
        case .added(let place?): "it was not sealed here; it holds what was sealed as \(name(place))"
        case .contents: "other bytes, with the size and time that were sealed"
        case .size(let sealed, let found): "\(found) bytes stored, not \(sealed), with the time that was sealed"
        case .link: "the link's text is another, with the time that was sealed"
        case .device: "another device, with the time that was sealed"
        case .type: "something of another type than was sealed"
        case .name: "the name does not verify here; it was not sealed"
        case .unnamed: "what it takes to read its name is not all there; it was not sealed"
        case .swapped(let place): "it holds what was sealed as \(name(place))"
        case .blocks: "blocks do not verify; 'coffer check' says which"
        case .unreadable(let code): "it cannot be read: \(String(cString: strerror(code.rawValue)))"
        case .mode(let sealed, let found):
            "permissions \(String(found & 0o7777, radix: 8)), not \(String(sealed & 0o7777, radix: 8))"
        case .attributes: "other extended attributes or ACLs than were sealed"
        case .owner: "another owner or group than was sealed"
        case .time: "another time of modification than was sealed"
        case .unsure: "it was written to all the time when it was sealed: nothing is proven"
        case .sealedDamaged: "it was damaged when it was sealed"
        case .foreign: "none of Coffer's names; it is not shown by a mount"
        }
    }
}
