import Glibc
import Randomness
import SystemPackage

/// A program that works in a directory of a mount on whose disk calls fail, and knows what must be there, and what may.
final class FaultProgram {
    typealias Wrong = FaultMount.Wrong

    /// An open file, which may have lost its name.
    struct Held {
        let descriptor: Int32
        let node: FaultNode
    }

    let disk: FaultyDisk
    let watch: FaultWatch
    /// The directory that it works in.
    let top: String
    var random: SeededRandom
    var names = FaultNames()
    var held: [Held] = []
    /// The errors that a program may get.
    let errors: Set<Errno>
    /// What it is doing, for a person.
    private(set) var doing = "beginning"
    /// Whether there were files that could be neither made nor taken away again.
    var hadStubs = false
    /// How many operations failed.
    private(set) var failures = 0

    /// `top` is made, and everything in it is this program's.
    init(_ top: String, disk: FaultyDisk, watch: FaultWatch, error: Errno, seed: UInt64) throws {
        self.top = top
        self.disk = disk
        self.watch = watch
        errors = [error, .ioError]
        random = SeededRandom(seed: seed)
        try ProgramCalls.check(mkdir(top, 0o755))
    }

    deinit {
        for file in held { close(file.descriptor) }
    }

    /// Whether everything that programs do is printed, with the number of the next call that could fail.
    private static let isTracing = getenv("COFFER_MOUNT_FAULTS_TRACE") != nil

    func place(_ path: String) -> String { path.isEmpty ? top : "\(top)/\(path)" }

    /// Runs one call of the program's.
    func call<Result>(_ what: String, _ body: () throws -> Result) throws -> Result {
        doing = what.count > 90 ? Self.shortened(what) : what
        if Self.isTracing { print("  \(disk.calls) \(doing)") }
        return try watch.timing(doing, body)
    }

    private static func shortened(_ text: String) -> String {
        text.split(separator: " ").map { $0.split(separator: "/").map { $0.prefix(14) }.joined(separator: "/") }
            .joined(separator: " ")
    }

    /// An error that a program got: it must be one of the disk's.
    func allow(_ error: Errno) throws {
        failures += 1
        if Self.isTracing { print("    errno \(error.rawValue)") }
        if disk.failed.isEmpty || !errors.contains(error) { throw Wrong("\(doing): errno \(error.rawValue)") }
    }

    /// Runs a call that may fail as the disk does; false where it did.
    @discardableResult
    func attempt(_ what: String, _ body: () throws -> Void) throws -> Bool {
        do {
            try call(what, body)
            return true
        } catch let error as Errno {
            try allow(error)
            return false
        }
    }

    /// Runs a call that must fail with an error of its own.
    func expect(_ wanted: Set<Errno>, _ what: String, _ body: () throws -> Void) throws {
        do {
            try call(what, body)
            throw Wrong("\(doing) succeeded")
        } catch let error as Errno {
            if !wanted.contains(error) { try allow(error) }
        }
    }

    // MARK: Names

    /// Runs a call that changes names. Where it fails, what it did is looked up: all or nothing.
    func changeNames(
        _ what: String, touching paths: [String], _ body: () throws -> Void, effect: (inout FaultNames) -> Void
    ) throws {
        var after = names
        effect(&after)
        if try attempt(what, body) {
            names = after
            return
        }
        try disk.pausing {
            var seen: [String: [String: UInt64]] = [:]
            for directory in Set(paths.map(FaultNames.parent)) { seen[directory] = try list(directory) }
            for (directory, entries) in seen {
                forgetStubs(of: directory, but: entries, &names)
                forgetStubs(of: directory, but: entries, &after)
            }
            if Self.matches(names, seen) {
                // It was not done.
            } else if Self.matches(after, seen) {
                names = after
            } else {
                throw Wrong("\(doing) failed, and there is now \(seen.mapValues { $0.keys.map { $0.prefix(12) } })")
            }
            for (directory, entries) in seen { adopt(entries, of: directory) }
            for path in paths { try checkName(path) }
        }
    }

    /// What the kernel says of a name is what the listing says.
    private func checkName(_ path: String) throws {
        let what = doing
        do {
            let status = try call("\(what), looking", { try ProgramCalls.status(place(path)) })
            guard let node = names[path] else { throw Wrong("\(what) failed: a name is there that is not listed") }
            if let number = node.number, number != status.st_ino {
                throw Wrong("\(what) failed: a name is another object than the listed one")
            }
        } catch let error as Errno {
            if error != .noSuchFileOrDirectory { throw Wrong("\(what) failed: looking gives errno \(error.rawValue)") }
            if names[path]?.isStub == true { names[path] = nil }
            if names[path] != nil { throw Wrong("\(what) failed: a name is listed that is not there") }
        }
    }

    /// The driver takes away what could not be made, as soon as the disk lets it.
    private func forgetStubs(of directory: String, but entries: [String: UInt64], _ names: inout FaultNames) {
        for (name, node) in names.entries(of: directory) where node.isStub && entries[name] == nil {
            hadStubs = true
            names[directory.isEmpty ? name : "\(directory)/\(name)"] = nil
        }
    }

    private static func matches(_ names: FaultNames, _ seen: [String: [String: UInt64]]) -> Bool {
        seen.allSatisfy { directory, entries in
            let known = names.entries(of: directory)
            return known.count == entries.count
                && known.allSatisfy { name, node in
                    guard let number = entries[name] else { return false }
                    return node.number == nil || node.number == number
                }
        }
    }

    private func adopt(_ entries: [String: UInt64], of directory: String) {
        for (name, node) in names.entries(of: directory) where node.number == nil { node.number = entries[name] }
    }

    private func list(_ directory: String) throws -> [String: UInt64] {
        try call("\(doing), listing", { try ProgramCalls.list(place(directory)) })
    }

    /// Lists a directory; a listing that succeeds is whole.
    func look(in directory: String) throws {
        var entries: [String: UInt64] = [:]
        guard try attempt("list \(directory)", { entries = try ProgramCalls.list(place(directory)) }) else { return }
        forgetStubs(of: directory, but: entries, &names)
        guard Self.matches(names, [directory: entries]) else {
            let known = names.entries(of: directory)
            throw Wrong(
                "\(doing): \(entries.keys.sorted().map { $0.prefix(12) }), not \(known.keys.sorted().map { $0.prefix(12) })"
            )
        }
        adopt(entries, of: directory)
    }

    // MARK: Files

    /// Opens a file, lends it and closes it.
    func withFile(_ path: String, _ flags: Int32, _ body: (Held) throws -> Void) throws {
        guard let node = names[path] else { return }
        var descriptor: Int32 = -1
        guard try attempt("open \(path)", { descriptor = try ProgramCalls.open(place(path), flags) }) else { return }
        let file = Held(descriptor: descriptor, node: node)
        do {
            try body(file)
        } catch {
            close(descriptor)
            throw error
        }
        try closeFile(file)
    }

    func closeFile(_ file: Held) throws {
        let what = "close after \(doing)"
        if try !attempt(what, { try ProgramCalls.close(file.descriptor) }) { file.node.content.fail() }
    }

    /// Runs a call that changes a file's contents.
    func change(_ file: Held, _ what: String, _ body: () throws -> Void, effect: ([UInt8]) -> [UInt8]) throws {
        file.node.modified = nil
        if try attempt(what, body) { file.node.content.change(effect) } else { file.node.content.tryChange(effect) }
    }

    func write(_ file: Held, _ data: [UInt8], at offset: Int) throws {
        file.node.modified = nil
        let outcome = try call("write \(data.count) at \(offset)") {
            ProgramCalls.write(file.descriptor, data, at: offset)
        }
        if outcome.count > 0 {
            let done = Array(data[..<outcome.count])
            file.node.content.change { Self.written(done, at: offset, over: $0) }
        }
        if let error = outcome.error {
            try allow(error)
            file.node.content.tryChange { Self.written(data, at: offset, over: $0) }
        }
    }

    func sync(_ file: Held) throws {
        if try attempt("fsync", { try ProgramCalls.check(fsync(file.descriptor)) }) {
            file.node.content.sync()
        } else {
            file.node.content.fail()
        }
    }

    /// Reads a file; what a successful read brings is what it may hold.
    func read(_ file: Held) throws {
        var bytes: [UInt8] = []
        guard try attempt("read", { bytes = try ProgramCalls.read(file.descriptor) }) else { return }
        try check(bytes, file.node, "read")
    }

    func check(_ bytes: [UInt8], _ node: FaultNode, _ what: String) throws {
        if node.content.accepts(bytes) { return }
        throw Wrong("\(doing), \(what): \(node.content.difference(bytes))")
    }

    static func written(_ data: [UInt8], at offset: Int, over bytes: [UInt8]) -> [UInt8] {
        var result = resized(bytes, to: max(bytes.count, offset + data.count))
        result.replaceSubrange(offset..<(offset + data.count), with: data)
        return result
    }

    static func resized(_ bytes: [UInt8], to size: Int) -> [UInt8] {
        if size <= bytes.count { return Array(bytes[..<size]) }
        return bytes + [UInt8](repeating: 0, count: size - bytes.count)
    }

    static func punched(_ bytes: [UInt8], from start: Int, count: Int) -> [UInt8] {
        var result = bytes
        for index in min(start, bytes.count)..<min(start + count, bytes.count) { result[index] = 0 }
        return result
    }
}
