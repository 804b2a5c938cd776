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
        /// Give everything the owner and group that it has in the vault: only root can.
        public var isPrivileged = false
        /// Keep set-user-id and set-group-id bits of files, and make device nodes: nothing in the vault vouches for modes and types.
        public var trustsModes = false

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
            var walk: TreeWalk?
            try guarding(source.place) { () throws(Failure) in
                walk = try fromVault { () throws(VaultError) in try TreeWalk(tree, from: source) }
                // Else what is made here would inherit it instead of having its own.
                try removeDefaultACL(of: destination)
            }
            if let walk { try extract(walk, into: destination) }
        case .entry(let entry, let parent):
            start = parent.place
            try extract(entry, names: [], in: parent, into: destination)
        }
    }

    // MARK: Walking

    private func extract(_ walk: TreeWalk, into destination: Int32) throws(Errno) {
        var target = DirectoryTrail(disk: disk, first: destination)
        while let step = try next(walk) {
            switch step {
            case .entry(let listed):
                guard let entry = try find(listed, walk.directory) else { continue }
                if entry.isDirectory {
                    try enter(entry, walk, &target)
                } else {
                    try extract(entry, names: walk.entries, in: walk.directory, into: target.last)
                }
            case .end:
                try guarding(walk.directory.place) { () throws(Failure) in
                    try finishDirectory(walk.directory, walk.status, target.last)
                }
                try target.leave()
            }
        }
    }

    /// A directory that has moved while the walk was below it cannot be gone on with.
    private func next(_ walk: TreeWalk) throws(Errno) -> TreeWalk.Step? {
        do throws(VaultError) {
            return try walk.next()
        } catch {
            throw error.errno
        }
    }

    private func find(_ listed: ListedEntry, _ source: TreeDirectory) throws(Errno) -> TreeEntry? {
        let place = source.place(of: listed)
        if listed.isPlaceholder {
            report(place, .damaged(Damage(.name)))
            return nil
        }
        var found: TreeEntry?
        try guarding(place) { () throws(Failure) in
            found = try fromVault { () throws(VaultError) in try tree.entry(listed, in: source) }
            if found == nil { report(place, .vanished) }
        }
        return found
    }

    private func enter(_ entry: TreeEntry, _ walk: TreeWalk, _ target: inout DirectoryTrail) throws(Errno) {
        try guarding(walk.directory.place(of: entry)) { () throws(Failure) in
            try fromVault { () throws(VaultError) in try walk.enter(entry) }
            do throws(Failure) {
                try toDestination { () throws(Errno) in
                    let name = StoredName(entry.name)
                    try disk.makeDirectory(at: target.last, name.cString, mode: 0o700)
                    try target.enter(
                        try disk.open(
                            at: target.last, name.cString, flags: Disk.pathOnly | O_DIRECTORY | O_NOFOLLOW))
                }
            } catch {
                try fromVault { () throws(VaultError) in try walk.leave() }
                throw error
            }
            change { $0.directories += 1 }
        }
        onProgress(totals)
    }

    private func extract(
        _ entry: TreeEntry, names: [ListedEntry], in source: TreeDirectory, into target: Int32
    ) throws(Errno) {
        let place = source.place(of: entry)
        try guarding(place) { () throws(Failure) in
            if try linkToMade(entry, names: names, place, into: target) { return }
            switch entry.type {
            case S_IFREG: try extractFile(entry, names: names, in: source, place, into: target)
            case S_IFLNK: try extractLink(entry, in: source, place, into: target)
            default: try extractNode(entry, in: source, place, into: target)
            }
        }
        onProgress(totals)
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
