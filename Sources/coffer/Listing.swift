import CofferVault
import SystemPackage

/// One line of a listing.
struct ListedRow {
    let entry: TreeEntry
    /// The path from the vault's root.
    let path: [UInt8]
    /// The path from what is being listed.
    let shown: [UInt8]
    /// A symbolic link's target.
    var target: [UInt8]?
    /// The name, or the link's target, does not verify.
    var isDamaged = false
}

/// How a listing is written.
protocol ListingFormat {
    /// Before everything.
    mutating func begin() throws(CommandError)
    /// Before the rows of a directory.
    mutating func measure(_ rows: [ListedRow])
    /// For each row.
    mutating func put(_ row: ListedRow) throws(CommandError)
    /// After everything.
    mutating func end() throws(CommandError)
}

/// Walks what is to be listed.
struct Listing {
    let tree: Tree
    let isRecursive: Bool
    /// Rows that are damaged, and directories whose records are.
    private(set) var damaged = 0
    /// Directories that could not be read.
    private(set) var failed = 0

    init(tree: Tree, isRecursive: Bool) {
        self.tree = tree
        self.isRecursive = isRecursive
    }

    /// Lists a directory's entries, or a single entry.
    mutating func run(
        _ target: TreeTarget, vault: String, to format: inout some ListingFormat
    ) throws(CommandError) {
        try format.begin()
        switch target {
        case .directory(let directory):
            let walk = try CommandError.reading(directory.place.path, vault: vault) { () throws(VaultError) in
                try TreeWalk(tree, from: directory)
            }
            try put(walk, vault: vault, to: &format)
        case .entry(let entry, let parent):
            let row = row(entry, in: parent, prefix: [])
            format.measure([row])
            try format.put(row)
        }
        try format.end()
    }

    private mutating func put(
        _ walk: TreeWalk, vault: String, to format: inout some ListingFormat
    ) throws(CommandError) {
        // For each directory on the way, the rows that are still to come, the next one last.
        var pending: [[ListedRow?]] = [rows(of: walk, prefix: [], measuredBy: &format)]
        while true {
            let step = try CommandError.reading(walk.directory.place.path, vault: vault) { () throws(VaultError) in
                try walk.next()
            }
            guard let step else { return }
            guard case .entry = step else {
                pending.removeLast()
                continue
            }
            guard let row = pending[pending.count - 1].popLast() ?? nil else { continue }
            try format.put(row)
            guard isRecursive, row.entry.isDirectory, !row.entry.isPlaceholder else { continue }
            do throws(VaultError) {
                try walk.enter(row.entry)
            } catch {
                problem(row.path, error)
                continue
            }
            pending.append(rows(of: walk, prefix: row.shown, measuredBy: &format))
        }
    }

    /// The rows of the directory that the walk is in; nil for what has gone since it was listed.
    private mutating func rows(
        of walk: TreeWalk, prefix: [UInt8], measuredBy format: inout some ListingFormat
    ) -> [ListedRow?] {
        var rows: [ListedRow?] = []
        for listed in walk.entries.reversed() {
            do throws(VaultError) {
                rows.append(
                    try tree.entry(listed, in: walk.directory).map { row($0, in: walk.directory, prefix: prefix) })
            } catch {
                rows.append(nil)
                problem(walk.directory.place(of: listed).path, error)
            }
        }
        format.measure(rows.compactMap { $0 })
        return rows
    }

    private mutating func row(_ entry: TreeEntry, in directory: TreeDirectory, prefix: [UInt8]) -> ListedRow {
        let shown = prefix.isEmpty ? entry.name : prefix + [UInt8(ascii: "/")] + entry.name
        var row = ListedRow(entry: entry, path: directory.place(of: entry).path, shown: shown)
        if entry.isPlaceholder {
            row.isDamaged = true
            damaged += 1
        } else if entry.isLink {
            do throws(VaultError) {
                row.target = try tree.readLink(entry, in: directory)
            } catch {
                row.isDamaged = true
                problem(row.path, error)
            }
        }
        return row
    }

    private mutating func problem(_ path: [UInt8], _ error: VaultError) {
        if case .damaged(let damage) = error {
            damaged += 1
            Report.problem("\(quoted(path)): \(damage)")
        } else {
            failed += 1
            Report.problem("\(quoted(path)) cannot be read: \(error.errno)")
        }
    }
}
