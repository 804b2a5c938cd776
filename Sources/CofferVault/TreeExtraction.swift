import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Brings a part of the tree out into a directory of ordinary files.
///
/// Writes below that directory only, each entry by the descriptor of the directory it goes into, and follows no symbolic link there. Nothing that exists is
/// replaced. A file has its name only when all of it is there; a directory gets its attributes after its contents. What cannot be brought out is told, one entry
/// at a time, and the rest goes on. Not for several threads at once.
public final class TreeExtraction {
    /// What to do where there is a choice.
    public struct Options: Sendable {
        /// Write what verifies of a damaged file, as `NAME.damaged`, with zeros for the rest; else nothing of it.
        public var salvages = false
        /// Give everything the owner and group that it has in the vault, and make device nodes: only root can.
        public var isPrivileged = false

        /// The defaults.
        public init() {}
    }

    /// What an entry ended with, short of something that stops everything.
    enum Failure: Error {
        case source(VaultError)
        case destination(Errno)
    }

    /// Something with several names that was brought out by one of them.
    struct Made {
        let directory: TreePlace
        let name: [UInt8]
        let problem: TreeProblem.Reason?
        var namesLeft: Int
    }

    struct Identity: Hashable {
        let device: UInt64
        let number: UInt64
    }

    let tree: Tree
    let disk: Disk
    let options: Options
    let scratch: Scratch
    let buffer: UnsafeMutableRawPointer
    static let bufferCount = 1 << 20
    /// By the backing object: what has more names than were met so far.
    var made: [Identity: Made] = [:]
    /// The place that corresponds to the destination.
    var start = TreePlace()
    /// The destination's descriptor.
    var destination: Int32 = -1
    /// What was done so far.
    public private(set) var totals = TreeTotals()
    private let onProblem: (TreeProblem) -> Void
    private let onProgress: (TreeTotals) -> Void

    /// An extraction from `tree`. `onProblem` is told each thing that goes wrong, `onProgress` called after each entry and each piece of a file.
    public init(
        _ tree: Tree, options: Options, onProblem: @escaping (TreeProblem) -> Void,
        onProgress: @escaping (TreeTotals) -> Void
    ) throws(CryptoError) {
        scratch = try Scratch()
        buffer = .allocate(byteCount: Self.bufferCount, alignment: 4096)
        self.tree = tree
        disk = tree.vault.disk
        self.options = options
        self.onProblem = onProblem
        self.onProgress = onProgress
    }

    deinit {
        wipe(buffer, count: Self.bufferCount)
        buffer.deallocate()
    }

    /// Brings `target` out: a directory's contents into `destination` (an empty directory, opened for reading), which gets the directory's attributes too; anything
    /// else under its own name there. Throws only what makes going on useless, such as a full disk.
    public func extract(_ target: TreeTarget, into destination: Int32) throws(Errno) {
        self.destination = destination
        switch target {
        case .directory(let source):
            start = source.place
            try guarding(source.place) { () throws(Failure) in
                // Else what is made here would inherit it instead of having its own.
                try removeDefaultACL(of: destination)
                let status = try fromVault { () throws(VaultError) in try tree.status(of: source) }
                let entries = try fromVault { () throws(VaultError) in try tree.list(source) }
                try extract(entries, of: source, into: destination)
                try finishDirectory(source, status, destination)
            }
        case .entry(let entry, let parent):
            start = parent.place
            try extract(entry, names: [], in: parent, into: destination)
        }
    }

    // MARK: Walking

    private func extract(
        _ entries: [ListedEntry], of source: TreeDirectory, into target: Int32
    ) throws(Failure) {
        for listed in entries {
            do throws(Errno) {
                try extract(listed, among: entries, of: source, into: target)
            } catch {
                throw .destination(error)
            }
        }
    }

    private func extract(
        _ listed: ListedEntry, among entries: [ListedEntry], of source: TreeDirectory, into target: Int32
    ) throws(Errno) {
        let place = source.place(of: listed)
        if listed.isPlaceholder { return report(place, .damaged(Damage(.name))) }
        var found: TreeEntry?
        try guarding(place) { () throws(Failure) in
            found = try fromVault { () throws(VaultError) in try tree.entry(listed, in: source) }
            if found == nil { report(place, .vanished) }
        }
        if let found { try extract(found, names: entries, in: source, into: target) }
    }

    private func extract(
        _ entry: TreeEntry, names: [ListedEntry], in source: TreeDirectory, into target: Int32
    ) throws(Errno) {
        let place = source.place(of: entry)
        try guarding(place) { () throws(Failure) in
            if entry.isDirectory {
                try extractDirectory(entry, in: source, into: target)
            } else if try !linkToMade(entry, names: names, place, into: target) {
                switch entry.type {
                case S_IFREG: try extractFile(entry, names: names, in: source, place, into: target)
                case S_IFLNK: try extractLink(entry, in: source, place, into: target)
                default: try extractNode(entry, in: source, place, into: target)
                }
            }
        }
        onProgress(totals)
    }

    private func extractDirectory(
        _ entry: TreeEntry, in parent: TreeDirectory, into target: Int32
    ) throws(Failure) {
        let source = try fromVault { () throws(VaultError) in try tree.open(entry, in: parent) }
        let entries = try fromVault { () throws(VaultError) in try tree.list(source) }
        let name = StoredName(entry.name)
        let descriptor = try toDestination { () throws(Errno) in
            try disk.makeDirectory(at: target, name.cString, mode: 0o700)
            return try disk.open(at: target, name.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        }
        defer { disk.close(descriptor) }
        change { $0.directories += 1 }
        try extract(entries, of: source, into: descriptor)
        try finishDirectory(source, entry.backing, descriptor)
    }

    // MARK: Totals and problems

    func change(_ body: (inout TreeTotals) -> Void) {
        body(&totals)
    }

    /// Counts bytes as they are written.
    func wrote(_ count: Int) {
        totals.bytes += count
        onProgress(totals)
    }

    func report(_ place: TreePlace, _ reason: TreeProblem.Reason) {
        totals.count(reason)
        onProblem(TreeProblem(place: place, reason: reason))
    }

    /// Runs `body` for an entry and tells what goes wrong with it; what would go wrong with every other one too is thrown on.
    private func guarding(_ place: TreePlace, _ body: () throws(Failure) -> Void) throws(Errno) {
        do throws(Failure) {
            try body()
        } catch {
            switch error {
            case .source(.damaged(let damage)): report(place, .damaged(damage))
            case .source(let other): report(place, .unreadable(other.errno))
            case .destination(let code):
                switch code {
                case .noSpace, .diskQuotaExceeded, .readOnlyFileSystem, .ioError, .tooManyOpenFiles,
                    .tooManyOpenFilesInSystem:
                    throw code
                default: report(place, .unwritable(code))
                }
            }
        }
    }

    func fromVault<Result>(_ body: () throws(VaultError) -> Result) throws(Failure) -> Result {
        do throws(VaultError) {
            return try body()
        } catch {
            throw .source(error)
        }
    }

    func toDestination<Result>(_ body: () throws(Errno) -> Result) throws(Failure) -> Result {
        do throws(Errno) {
            return try body()
        } catch {
            throw .destination(error)
        }
    }
}
