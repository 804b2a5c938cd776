import CLinux
import CofferVault
import Glibc

/// A listing for a person: names, or lines like those of ls -l.
struct TextListing: ListingFormat {
    private let output: Output
    private let isLong: Bool
    private var owners = Owners()
    private var widths = Widths()

    private struct Widths {
        var links = 1
        var owner = 1
        var group = 1
        var size = 1
    }

    init(output: Output, isLong: Bool) {
        self.output = output
        self.isLong = isLong
    }

    mutating func begin() {}

    mutating func measure(_ rows: [ListedRow]) {
        guard isLong else { return }
        for row in rows {
            let status = row.entry.status
            widths.links = max(widths.links, String(status.st_nlink).utf8.count)
            widths.owner = max(widths.owner, owners.user(status.st_uid).utf8.count)
            widths.group = max(widths.group, owners.group(status.st_gid).utf8.count)
            widths.size = max(widths.size, Self.size(status).utf8.count)
        }
    }

    mutating func put(_ row: ListedRow) throws(CommandError) {
        if isLong {
            let status = row.entry.status
            let columns = [
                FileMode.text(status.st_mode),
                Self.padded(String(status.st_nlink), widths.links, left: true),
                Self.padded(owners.user(status.st_uid), widths.owner),
                Self.padded(owners.group(status.st_gid), widths.group),
                Self.padded(Self.size(status), widths.size, left: true),
                TimeText.local(status.st_mtim),
            ]
            try output.put(columns.joined(separator: " ") + " ")
        }
        try output.put(name: row.shown)
        if isLong {
            if let target = row.target {
                try output.put(" -> ")
                try output.put(name: target)
            }
            if row.isDamaged { try output.put("  (damaged)") }
        }
        try output.put("\n")
    }

    mutating func end() {}

    /// A device's numbers stand where others have their size.
    private static func size(_ status: stat) -> String {
        switch status.st_mode & S_IFMT {
        case S_IFCHR, S_IFBLK: "\(coffer_major(status.st_rdev)), \(coffer_minor(status.st_rdev))"
        default: String(status.st_size)
        }
    }

    private static func padded(_ text: String, _ width: Int, left: Bool = false) -> String {
        let space = String(repeating: " ", count: max(0, width - text.utf8.count))
        return left ? space + text : text + space
    }
}

/// Names of users and groups, each looked up once.
struct Owners {
    private var users: [uid_t: String] = [:]
    private var groups: [gid_t: String] = [:]

    /// The user's name, or the number where there is none.
    mutating func user(_ id: uid_t) -> String {
        if let known = users[id] { return known }
        let name = getpwuid(id).map { printable(String(cString: $0.pointee.pw_name)) } ?? String(id)
        users[id] = name
        return name
    }

    /// The group's name, or the number where there is none.
    mutating func group(_ id: gid_t) -> String {
        if let known = groups[id] { return known }
        let name = getgrgid(id).map { printable(String(cString: $0.pointee.gr_name)) } ?? String(id)
        groups[id] = name
        return name
    }
}

/// Modes as text.
enum FileMode {
    /// As ls -l has it: `drwxr-xr-x`.
    static func text(_ mode: mode_t) -> String {
        let bits: [(mode_t, Character)] = [
            (0o400, "r"), (0o200, "w"), (0o100, "x"), (0o040, "r"), (0o020, "w"), (0o010, "x"), (0o004, "r"),
            (0o002, "w"), (0o001, "x"),
        ]
        var text = [letter(mode)] + bits.map { mode & $0.0 != 0 ? $0.1 : "-" }
        for (bit, place, mark) in [(S_ISUID, 3, "s"), (S_ISGID, 6, "s"), (S_ISVTX, 9, "t")] where mode & bit != 0 {
            text[place] = text[place] == "x" ? Character(mark) : Character(mark.uppercased())
        }
        return String(text)
    }

    /// The word for the file's type, as JSON has it.
    static func type(_ mode: mode_t) -> String {
        switch mode & S_IFMT {
        case S_IFREG: "file"
        case S_IFDIR: "directory"
        case S_IFLNK: "symlink"
        case S_IFIFO: "fifo"
        case S_IFSOCK: "socket"
        case S_IFCHR: "character-device"
        case S_IFBLK: "block-device"
        default: "unknown"
        }
    }

    private static func letter(_ mode: mode_t) -> Character {
        switch mode & S_IFMT {
        case S_IFREG: "-"
        case S_IFDIR: "d"
        case S_IFLNK: "l"
        case S_IFIFO: "p"
        case S_IFSOCK: "s"
        case S_IFCHR: "c"
        case S_IFBLK: "b"
        default: "?"
        }
    }
}
