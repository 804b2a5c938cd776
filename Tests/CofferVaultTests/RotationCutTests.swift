import CofferDisk
import CofferFormat
import Foundation
import Glibc
import Randomness
import SystemPackage
import Testing

@testable import CofferVault

/// Everything is sealed again, with a power cut before any change or a failure of any call: at each moment all of it is there, and whoever goes on comes to the end.
struct RotationCutTests {
    private static let long = "L" + String(repeating: "l", count: 200)

    /// A tree with one of everything that is kept in a way of its own.
    static func fill(_ vault: TreeVault, attributes: Bool) throws {
        for path in ["/a", "/a/b", "/a/b/c", "/d", "/" + long, "/\(long)/in"] { try vault.makeDirectory(path) }
        try vault.makeFile("/empty", [])
        try vault.makeFile("/a/small")
        try vault.makeFile("/a/b/c/blocks", (0..<9000).map { UInt8(truncatingIfNeeded: $0 * 7) })
        try vault.makeFile("/\(long)/\(long)", Array("long".utf8))
        try vault.makeHardLink("/a/small", to: "/d/" + long)
        try vault.makeHardLink("/a/small", to: "/a/b/third")
        try vault.makeLink("/a/link", to: "target")
        try vault.makeHardLink("/a/link", to: "/d/other link")
        try vault.makeLink("/d/far", to: String(repeating: "far/", count: 700))
        // Renamed, exchanged, and what was marked by that.
        try vault.rename("/a/b", to: "/d/moved")
        try vault.makeDirectory("/a/b")
        try vault.makeFile("/a/b/new", Array("another b".utf8))
        try vault.rename("/\(long)/in", to: "/a/in")
        try vault.makeFile("/a/in/x", [1])
        if attributes {
            for (path, name, value) in [("/a", "user.dir", "of a"), ("/a/small", "user.file", "of small")] {
                let (parent, plain) = try vault.parent(path)
                let entry = try vault.vault.find(plain, in: parent.directory)
                let object = try vault.vault.disk.open(
                    at: parent.directory.descriptor, entry.name.entry.cString, flags: O_RDONLY)
                defer { close(object) }
                try vault.vault.setAttribute(
                    Array(name.utf8), of: object, mode: entry.status.st_mode, value: Array(value.utf8), flags: 0,
                    owner: { () throws(VaultError) in
                        entry.isFile ? try vault.vault.fileID(of: object) : AttributeCodec.noOwner
                    })
            }
        }
    }

    /// Everything there is, all of it read, with the names that are one file.
    static func text(_ vault: TreeVault, attributes: Bool = false) throws -> String {
        var lines: [String] = []
        var inodes: [UInt64: [String]] = [:]
        let walk = try TreeWalk(vault.tree, from: try vault.tree.root())
        while let step = try walk.next() {
            guard case .entry(let listed) = step else { continue }
            let place = TreePlace(in: walk.directory.place, name: listed.name, stored: listed.stored.bytes)
            let path = String(decoding: place.path, as: UTF8.self)
            guard !listed.isPlaceholder, let entry = try vault.tree.entry(listed, in: walk.directory) else {
                lines.append("\(path) is unreadable")
                continue
            }
            var line = path
            if entry.isFile {
                line += " \(try vault.read(path).reduce(UInt64(7)) { $0 &* 31 &+ UInt64($1) })"
                inodes[UInt64(entry.backing.st_ino), default: []].append(path)
            } else if entry.isLink {
                line += " -> \(try vault.target(path).hashValue)"
            }
            if attributes, entry.isFile || entry.isDirectory {
                let object = try vault.vault.disk.open(
                    at: walk.directory.directory.descriptor, listed.stored.cString, flags: O_RDONLY)
                defer { close(object) }
                let owner = entry.isFile ? try vault.vault.fileID(of: object) : AttributeCodec.noOwner
                var damaged = 0
                for name in try vault.vault.attributeNames(
                    of: object, owner: { owner }, onDamage: { _ in damaged += 1 })
                {
                    let value = try vault.vault.attribute(name, of: object, mode: entry.backing.st_mode) { owner }
                    line += " \(String(decoding: name, as: UTF8.self))=\(String(decoding: value, as: UTF8.self))"
                }
                if damaged > 0 { line += " and \(damaged) damaged" }
            }
            lines.append(line)
            if entry.isDirectory { try walk.enter(entry) }
        }
        let groups = inodes.values.filter { $0.count > 1 }.map { "one: " + $0.sorted().joined(separator: " ") }
        return (lines.sorted() + groups.sorted()).joined(separator: "\n")
    }

    /// Goes on to the end, on this disk, and looks at the result with the new key alone.
    private static func finish(_ disk: Disk, _ root: () throws -> Int32, _ expected: String, attributes: Bool) throws {
        let both = try TreeVault(nameMax: 143, epochs: [0, 1], disk: disk, rootDescriptor: try root())
        var problems: [String] = []
        let rotation = try Rotation(
            both.vault, onProblem: { problems.append("\(String(decoding: $0.path, as: UTF8.self)): \($1)") },
            onProgress: { _ in })
        try rotation.run()
        #expect(problems == [])
        let new = try TreeVault(nameMax: 143, epochs: [1], disk: disk, rootDescriptor: try root())
        let look = try Rotation(new.vault, onProblem: { problems.append("\($0.path): \($1)") }, onProgress: { _ in })
        try look.look(after: rotation.totals)
        #expect(problems == [])
        #expect(try text(new, attributes: attributes) == expected)
        #expect(try new.list() == both.list())
    }

    @Test(arguments: SimulatedTree.Journal.allCases) func powerCutsAnywhere(journal: SimulatedTree.Journal) throws {
        var cuts = 0
        for seed in 0..<3 as Range<UInt64> {
            let disk = SimulatedTree(journal)
            let before = try TreeVault(nameMax: 143, disk: disk, rootDescriptor: disk.root())
            try Self.fill(before, attributes: false)
            try disk.syncFileSystem(1000)
            let expected = try Self.text(before)
            var random = SeededRandom(seed: seed)
            var failure: String?
            let vault = try TreeVault(nameMax: 143, epochs: [0, 1], disk: disk, rootDescriptor: disk.root())
            let rotation = try Rotation(vault.vault, onProblem: { failure = "\($0.path): \($1)" }, onProgress: { _ in })
            disk.onChange = {
                guard failure == nil else { return }
                cuts += 1
                let left = disk.crashed(everything: false, &random)
                do {
                    let other = try TreeVault(
                        nameMax: 143, epochs: [0, 1], disk: left, rootDescriptor: left.root())
                    // As a mount for writing does.
                    try RotationDirectory(disk: left, root: other.vault.rootDescriptor, ring: other.vault.ring).settle()
                    let found = try Self.text(other)
                    if found != expected { failure = "\(found)\nis not\n\(expected)" }
                    if random.oneIn(4) { try Self.finish(left, left.root, expected, attributes: false) }
                } catch {
                    failure = "\(error)"
                }
            }
            try rotation.run()
            disk.onChange = nil
            if let failure {
                Issue.record("\(journal), seed \(seed): \(failure)")
                return
            }
            try Self.finish(disk, disk.root, expected, attributes: false)
        }
        print("\(cuts) power cuts of rotations")
        #expect(cuts > 200)
    }

    /// Each call in turn fails, once or from then on.
    @Test(arguments: [(false, Errno.ioError), (true, .ioError), (false, .noSpace)])
    func anyCallFails(_ lasts: Bool, _ code: Errno) throws {
        let template = try TreeVault(nameMax: 143)
        try Self.fill(template, attributes: true)
        let expected = try Self.text(template, attributes: true)
        let isThorough = ProcessInfo.processInfo.environment["COFFER_SOAK"] == "1"
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed of the calls that fail: \(seed)")
        var random = SeededRandom(seed: seed)
        var (call, tried, failed) = (0, 0, 0)
        while true {
            call += isThorough ? 1 : 1 + random.below(12)
            tried += 1
            let home = try TemporaryDirectory()
            let copy = Process()
            copy.executableURL = URL(fileURLWithPath: "/bin/cp")
            copy.arguments = ["-a", template.home.file("vault"), home.file("vault")]
            try copy.run()
            copy.waitUntilExit()
            func root() throws -> Int32 { try openFile(home.file("vault"), flags: O_RDONLY | O_DIRECTORY) }
            let disk = CallFailingDisk()
            let vault = try TreeVault(nameMax: 143, epochs: [0, 1], disk: disk, rootDescriptor: try root())
            var problems = 0
            let rotation = try Rotation(vault.vault, onProblem: { _, _ in problems += 1 }, onProgress: { _ in })
            disk.fault = .init(call: call, lasts: lasts, code: code)
            do {
                try rotation.run()
                if disk.calls < call { break }
            } catch {
                failed += 1
            }
            disk.fault = nil
            try RotationDirectory(disk: disk, root: vault.vault.rootDescriptor, ring: vault.vault.ring).settle()
            let found = try Self.text(vault, attributes: true)
            #expect(found == expected, "call \(call), \(code)")
            try Self.finish(Disk(), root, expected, attributes: true)
            if found != expected { return }
        }
        print("\(tried) of \(call) calls of a rotation failed, of which \(failed) stopped it")
        // Of what fails once, most is tried again, or is of no consequence.
        #expect(call > 400 && tried > 50 && failed > 0)
    }

    /// What a mode's record says takes from a directory's owner, and gives nobody anything.
    @Test func aModeIsOnlyTakenBack() throws {
        let vault = try TreeVault(nameMax: 143)
        try vault.makeDirectory("/a", mode: 0o755)
        try vault.makeFile("/f", mode: 0o600)
        let pending = RotationDirectory(
            disk: Disk(), root: vault.vault.rootDescriptor, ring: vault.vault.ring)
        func stored(_ path: String) throws -> StoredName { try vault.entry(path).name.entry }
        func mode(_ path: String) throws -> mode_t { try vault.entry(path).status.st_mode & 0o7777 }
        try pending.write(.mode(0o500, path: [try stored("/a")]))
        #expect(try pending.isPending())
        try pending.settle()
        #expect(try mode("/a") == 0o555 && !pending.isPending())
        for record: RotationRecord in [
            .mode(0o4777, path: [try stored("/a")]), .mode(0o4777, path: [try stored("/f")]),
            .mode(0o7000, path: [StoredName("nothing")]),
        ] {
            try pending.write(record)
            try pending.settle()
            #expect(try mode("/a") == 0o555 && mode("/f") == 0o600)
        }
        try pending.remove()
        #expect(try !vault.raw().contains("coffer.rotation"))
    }

    /// A disk that keeps something else than what it was given: what is read back is not what was written, so nothing is exchanged for it, and all is as it was.
    @Test(arguments: ["/d/moved/c/blocks", "/a/small"]) func whatDoesNotReadBackTakesNoPlace(path: String) throws {
        let vault = try TreeVault(nameMax: 143)
        try Self.fill(vault, attributes: false)
        let expected = try Self.text(vault)
        let inode = try vault.entry(path).status.st_ino
        let disk = ForgetfulDisk()
        func root() throws -> Int32 { try openFile(vault.home.file("vault"), flags: O_RDONLY | O_DIRECTORY) }
        let both = try TreeVault(nameMax: 143, epochs: [0, 1], disk: disk, rootDescriptor: try root())
        disk.size = try vault.entry(path).status.st_size
        var problems = 0
        let rotation = try Rotation(both.vault, onProblem: { _, _ in problems += 1 }, onProgress: { _ in })
        do {
            try rotation.run()
            #expect(problems > 0)
        } catch {
            guard case .damaged = error else { throw error }
        }
        #expect(disk.hasChanged)
        #expect(try Self.text(both) == expected)
        #expect(try both.entry(path).status.st_ino == inode)
        try Self.finish(Disk(), root, expected, attributes: false)
    }
}

/// Changes a byte of what is written at a block's end to a file that is as large as `size` then.
private final class ForgetfulDisk: Disk, @unchecked Sendable {
    var size: Int = -1
    private(set) var hasChanged = false

    override func write(_ descriptor: Int32, _ buffer: UnsafeRawPointer, count: Int, at offset: Int) throws(Errno) {
        try super.write(descriptor, buffer, count: count, at: offset)
        guard offset + count == size, count > BlockGeometry.overhead else { return }
        let last = (buffer + count - 1).load(as: UInt8.self)
        try super.write(descriptor, bytes: [last ^ 1], at: offset + count - 1)
        hasChanged = true
    }
}
