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
            let rows = try CommandError.reading(directory.place.path, vault: vault) { () throws(VaultError) in
                try self.rows(of: directory, prefix: [])
            }
            try put(rows, of: directory, to: &format)
        case .entry(let entry, let parent):
            let rows = [row(entry, in: parent, prefix: [])]
            format.measure(rows)
            for row in rows { try format.put(row) }
        }
        try format.end()
    }

    private mutating func put(
        _ rows: [ListedRow], of directory: TreeDirectory, to format: inout some ListingFormat
    ) throws(CommandError) {
        format.measure(rows)
        for row in rows {
            try format.put(row)
            guard isRecursive, row.entry.isDirectory, !row.entry.isPlaceholder else { continue }
            let child: TreeDirectory
            let below: [ListedRow]
            do throws(VaultError) {
                child = try tree.open(row.entry, in: directory)
                below = try self.rows(of: child, prefix: row.shown)
            } catch {
                problem(row.path, error)
                continue
            }
            try put(below, of: child, to: &format)
        }
    }

    private mutating func rows(of directory: TreeDirectory, prefix: [UInt8]) throws(VaultError) -> [ListedRow] {
        var rows: [ListedRow] = []
        for listed in try tree.list(directory) {
            // What has gone since is not there.
            guard let entry = try tree.entry(listed, in: directory) else { continue }
            rows.append(row(entry, in: directory, prefix: prefix))
        }
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
