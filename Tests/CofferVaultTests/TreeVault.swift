import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

@testable import CofferVault

/// A vault of a test's own, worked on by plaintext paths. Every path is found from the root anew, so that nothing is known but what is on disk.
final class TreeVault {
    let home: TemporaryDirectory
    let vault: Vault
    let tree: Tree
    let scratch: Scratch
    private let nameMax: Int
    private let ownsHome: Bool
    private static let id = [UInt8](0..<16)

    init(nameMax: Int = 255, epochs: [UInt8] = [0], disk: Disk = Disk(), rootDescriptor: Int32? = nil) throws {
        home = try TemporaryDirectory()
        guard mkdir(home.file("vault"), 0o700) == 0 else { throw Errno(rawValue: errno) }
        var keys: [UInt8: SecretKey] = [:]
        for epoch in epochs { keys[epoch] = try SecretKey(copying: [UInt8](repeating: epoch &+ 3, count: 32)) }
        vault = Vault(
            disk: disk,
            rootDescriptor: try rootDescriptor ?? openFile(home.file("vault"), flags: O_RDONLY | O_DIRECTORY),
            ring: try KeyRing(keys: keys), vaultID: Self.id, cipher: .aes256GCM, nameMax: nameMax)
        tree = Tree(vault)
        scratch = try Scratch()
        self.nameMax = nameMax
        ownsHome = true
    }

    /// The same vault on another disk, with what is slow to get: thousands are made of power cuts.
    init(_ other: TreeVault, disk: Disk, rootDescriptor: Int32) {
        home = other.home
        vault = Vault(
            disk: disk, rootDescriptor: rootDescriptor, ring: other.vault.ring, vaultID: Self.id,
            cipher: other.vault.cipher, nameMax: other.nameMax)
        tree = Tree(vault)
        scratch = other.scratch
        nameMax = other.nameMax
        ownsHome = false
    }

    deinit {
        guard ownsHome else { return }
        // By descriptors: what a test makes may have longer paths than the system takes.
        do {
            let descriptor = try openFile(home.path, flags: O_RDONLY | O_DIRECTORY)
            defer { close(descriptor) }
            try Self.empty(descriptor)
        } catch {
            print("could not empty \(home.path): \(error)")
        }
    }

    private static func empty(_ directory: Int32) throws {
        let disk = Disk()
        var entries: [(StoredName, UInt8)] = []
        try RawDirectory(disk: disk, descriptor: directory).forEach { name, type in
            if name != [0x2E] && name != [0x2E, 0x2E] { entries.append((StoredName(name), type)) }
            return true
        }
        for (name, type) in entries {
            let isDirectory = type == UInt8(DT_DIR)
            if isDirectory {
                let below = try disk.open(at: directory, name.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
                defer { close(below) }
                try disk.setMode(below, 0o700)
                try empty(below)
            }
            try disk.remove(at: directory, name.cString, directory: isDirectory)
        }
    }

    // MARK: Finding

    /// The names of a path; slashes only separate.
    static func names(_ path: String) -> [[UInt8]] { path.split(separator: "/").map { Array($0.utf8) } }

    func directory(_ names: [[UInt8]]) throws -> TreeDirectory {
        var directory = try tree.root()
        for name in names { directory = try tree.open(try tree.entry(name, in: directory), in: directory) }
        return directory
    }

    func directory(_ path: String) throws -> TreeDirectory { try directory(Self.names(path)) }

    /// The directory that a path's last name is in, and that name.
    func parent(_ path: String) throws -> (TreeDirectory, [UInt8]) {
        let names = Self.names(path)
        return (try directory(Array(names.dropLast())), names.last ?? [])
    }

    func entry(_ path: String) throws -> VaultEntry {
        let (parent, name) = try parent(path)
        return try vault.find(name, in: parent.directory)
    }

    /// The path of the ciphertext.
    func stored(_ path: String) throws -> String {
        let (parent, name) = try parent(path)
        let entry = try vault.find(name, in: parent.directory)
        let place = TreePlace(in: parent.place, name: name, stored: entry.name.entry.bytes)
        return home.file("vault/" + String(decoding: place.storedPath, as: UTF8.self))
    }

    /// The path of the ciphertext directory, the root included.
    func storedDirectory(_ path: String) throws -> String {
        path.isEmpty ? home.file("vault") : try stored(path)
    }

    /// The names in a directory, placeholders as `?`, sorted.
    func list(_ path: String = "") throws -> [String] {
        try tree.list(try directory(path)).map { $0.isPlaceholder ? "?" : String(decoding: $0.name, as: UTF8.self) }
    }

    /// The names of what is really in a ciphertext directory.
    func raw(_ path: String = "") throws -> [String] {
        let descriptor = try openFile(try storedDirectory(path), flags: O_RDONLY | O_DIRECTORY)
        defer { close(descriptor) }
        var names: [String] = []
        try RawDirectory(disk: vault.disk, descriptor: descriptor).forEach { name, _ in
            let text = String(decoding: name, as: UTF8.self)
            if text != "." && text != ".." { names.append(text) }
            return true
        }
        return names.sorted()
    }

    // MARK: Changing

    @discardableResult
    func makeDirectory(_ path: String, mode: mode_t = 0o755) throws -> DirectoryIdentity {
        let (parent, name) = try parent(path)
        return try vault.makeDirectory(name, in: parent.directory, mode: mode).identity
    }

    func makeFile(_ path: String, _ bytes: [UInt8] = Array("contents".utf8), mode: mode_t = 0o644) throws {
        let (parent, name) = try parent(path)
        try makeFile(name, in: parent.directory, bytes, mode: mode)
    }

    func makeFile(_ name: [UInt8], in directory: VaultDirectory, _ bytes: [UInt8], mode: mode_t = 0o644) throws {
        try withNewFile(name, in: directory, mode: mode) { contents in
            try bytes.withUnsafeBytes { buffer in
                guard let base = buffer.baseAddress else { return }
                try contents.write(base, count: buffer.count, at: 0, scratch)
            }
        }
    }

    func withNewFile(
        _ name: [UInt8], in directory: VaultDirectory, mode: mode_t = 0o644, _ body: (FileContents) throws -> Void
    ) throws {
        let made = try vault.makeFile(name, in: directory, mode: mode)
        let contents = try FileContents(
            creating: made.descriptor, disk: vault.disk, ring: vault.ring, cipher: vault.cipher, scratch: scratch)
        try body(contents)
        try contents.settle(scratch)
    }

    func makeLink(_ path: String, to target: String) throws {
        let (parent, name) = try parent(path)
        _ = try vault.makeLink(name, in: parent.directory, target: Array(target.utf8))
    }

    func makeHardLink(_ path: String, to new: String) throws {
        let (source, name) = try parent(path)
        let (target, newName) = try parent(new)
        _ = try vault.makeHardLink(
            from: source.directory, try vault.find(name, in: source.directory), to: target.directory, newName)
    }

    @discardableResult
    func rename(_ path: String, to new: String, _ mode: Disk.RenameMode = .replace) throws -> Vault.RenameOutcome {
        let (source, name) = try parent(path)
        let (target, newName) = try parent(new)
        return try vault.rename(name, in: source.directory, to: newName, in: target.directory, mode: mode)
    }

    func remove(_ path: String) throws {
        let (parent, name) = try parent(path)
        let entry = try vault.find(name, in: parent.directory)
        if entry.isDirectory {
            try vault.removeDirectory(entry, in: parent.directory)
        } else {
            try vault.removeFile(entry, in: parent.directory)
        }
    }

    /// Makes a directory's entries durable.
    func syncDirectory(_ path: String) throws {
        let open = try directory(path)
        try withExtendedLifetime(open) { try vault.syncEntries(open.directory.descriptor) }
    }

    /// Makes everything durable.
    func syncAll() throws { try vault.disk.syncFileSystem(vault.rootDescriptor) }

    // MARK: Reading

    func read(_ path: String) throws -> [UInt8] {
        let (parent, name) = try parent(path)
        let file = try tree.read(try tree.entry(name, in: parent), in: parent, scratch)
        var bytes = [UInt8](repeating: 0xEE, count: file.size)
        let got = try bytes.withUnsafeMutableBytes { buffer in
            guard let base = buffer.baseAddress else { return 0 }
            return try file.read(into: base, count: buffer.count, at: 0)
        }
        guard got == bytes.count else { throw Errno.ioError }
        return bytes
    }

    func text(_ path: String) throws -> String { String(decoding: try read(path), as: UTF8.self) }

    func target(_ path: String) throws -> String {
        let (parent, name) = try parent(path)
        return String(decoding: try tree.readLink(try tree.entry(name, in: parent), in: parent), as: UTF8.self)
    }

    // MARK: Taking out

    /// Takes everything, or what a path leads to, out into a new directory and gives its path.
    func extract(
        _ path: String = "", to name: String = "out", salvages: Bool = false, disk: Disk? = nil
    ) throws -> (path: String, totals: TreeTotals, problems: [TreeProblem]) {
        guard mkdir(home.file(name), 0o700) == 0 else { throw Errno(rawValue: errno) }
        let descriptor = try openFile(home.file(name), flags: O_RDONLY | O_DIRECTORY)
        defer { close(descriptor) }
        var options = TreeExtraction.Options()
        options.salvages = salvages
        options.isPrivileged = geteuid() == 0
        options.trustsModes = true
        var problems: [TreeProblem] = []
        let extraction = try TreeExtraction(tree, options: options) {
            problems.append($0)
        } onProgress: { _ in
        }
        try extraction.extract(try tree.find(try TreePath(path.utf8)), into: descriptor)
        return (home.file(name), extraction.totals, problems)
    }
}

/// What is said of a problem: its path and, of damage, its kind.
extension TreeProblem {
    var summary: String {
        let path = String(decoding: place.path, as: UTF8.self)
        switch reason {
        case .damaged(let damage): return "\(path): damaged, \(damage.kind) \(damage.block ?? -1)"
        case .salvaged(let damage, let name, let lost):
            return
                "\(path): salvaged as \(String(decoding: name, as: UTF8.self)) but \(lost), \(damage.kind) \(damage.block ?? -1)"
        case .unreadable(let code): return "\(path): unreadable, \(code.rawValue)"
        case .unwritable(let code): return "\(path): unwritable, \(code.rawValue)"
        case .skippedDevice: return "\(path): device"
        case .vanished: return "\(path): vanished"
        case .incomplete(let property, let code): return "\(path): without \(property), \(code.rawValue)"
        case .damagedAttribute(let damage): return "\(path): \(damage.kind)"
        }
    }
}
