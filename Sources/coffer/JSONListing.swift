import CofferFormat
import CofferVault
import FoundationEssentials
import Glibc

/// A listing as one JSON array, an object a line.
struct JSONListing: ListingFormat {
    /// What the array holds. Names that are not UTF-8 are given in hexadecimal too, because the text replaces what it cannot say.
    private struct Row: Encodable {
        let name: String
        let nameHex: String?
        let path: String
        let pathHex: String?
        let type: String
        let mode: String
        let links: UInt
        let uid: UInt32
        let gid: UInt32
        let size: Int
        let mtime: String
        let target: String?
        let targetHex: String?
        let damaged: Bool

        init(_ row: ListedRow) {
            let status = row.entry.status
            (name, nameHex) = JSONText.pair(row.entry.name)
            (path, pathHex) = JSONText.pair(row.path)
            type = FileMode.type(status.st_mode)
            let octal = String(status.st_mode & 0o7777, radix: 8)
            mode = String(repeating: "0", count: max(0, 4 - octal.utf8.count)) + octal
            links = UInt(status.st_nlink)
            uid = status.st_uid
            gid = status.st_gid
            size = Int(status.st_size)
            mtime = TimeText.universal(status.st_mtim)
            (target, targetHex) = row.target.map { JSONText.pair($0) } ?? (nil, nil)
            damaged = row.isDamaged
        }
    }

    private let output: Output
    private var isFirst = true

    init(output: Output) {
        self.output = output
    }

    mutating func begin() throws(CommandError) { try output.put("[") }

    mutating func measure(_ rows: [ListedRow]) {}

    mutating func put(_ row: ListedRow) throws(CommandError) {
        try output.put((isFirst ? "\n  " : ",\n  ") + JSONText.line(Row(row)))
        isFirst = false
    }

    mutating func end() throws(CommandError) { try output.put(isFirst ? "]\n" : "\n]\n") }
}

/// JSON as this program writes it: names in snake case and in order; what is not known is left out.
enum JSONText {
    /// A value in one line.
    static func line(_ value: some Encodable) throws(CommandError) -> String {
        try encode(value, [.sortedKeys, .withoutEscapingSlashes])
    }

    /// A value over several lines.
    static func pretty(_ value: some Encodable) throws(CommandError) -> String {
        try encode(value, [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
    }

    /// A name as text, and in hexadecimal where the text does not tell it whole.
    static func pair(_ name: [UInt8]) -> (text: String, hex: String?) {
        if let text = String(validating: name, as: UTF8.self) { return (text, nil) }
        return (String(decoding: name, as: UTF8.self), Hex.encode(name))
    }

    private static func encode(
        _ value: some Encodable, _ formatting: JSONEncoder.OutputFormatting
    ) throws(CommandError) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = formatting
        encoder.keyEncodingStrategy = .convertToSnakeCase
        do {
            return String(decoding: try encoder.encode(value), as: UTF8.self)
        } catch {
            throw CommandError(.other, "the report cannot be written as JSON")
        }
    }
}
