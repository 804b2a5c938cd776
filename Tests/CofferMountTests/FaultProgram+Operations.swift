import CLinux
import Glibc
import SystemPackage

/// The operations.
extension FaultProgram {
    private static let fileNames = [
        "a", "b", "c", String(repeating: "long", count: 53), String(repeating: "é", count: 110),
    ]
    private static let directoryNames = ["d", "e", String(repeating: "directory", count: 25)]
    private static let byteLimit = 50_000

    private func pick(_ paths: [String]) -> String? { paths.isEmpty ? nil : paths[random.below(paths.count)] }
    private func pickFile() -> String? { pick(names.paths(\.isFile)) }

    /// A path that nothing has yet.
    private func pickFree(_ kinds: [String]) -> String? {
        for _ in 0..<6 {
            guard let directory = pick(names.directories), let name = pick(kinds) else { return nil }
            let path = directory.isEmpty ? name : "\(directory)/\(name)"
            if names[path] == nil, path.utf8.count < 1500 { return path }
        }
        return nil
    }

    /// One operation, whichever it is.
    func act() throws {
        switch random.below(34) {
        case 0...3: try makeFile()
        case 4...8: try writeSome()
        case 9...10: try syncSome()
        case 11: try cut()
        case 12: try punch()
        case 13: try empty()
        case 14...16: try renameFile()
        case 17: try makeDirectory()
        case 18: try removeDirectory()
        case 19: try makeHardLink()
        case 20...21: try removeFile()
        case 22: try makeLink()
        case 23: try setNote()
        case 24: try setMode()
        case 25: try setTimes()
        case 26...27: try renameDirectory()
        case 28...29: try save()
        case 30: try hold()
        case 31: try letGo()
        case 32: try look(in: pick(names.directories) ?? "")
        default: try readSome()
        }
    }

    func makeFile() throws {
        guard let path = pickFree(Self.fileNames) else { return }
        let data = random.bytes(random.below(Self.byteLimit))
        try makeFile(path, data, syncing: random.oneIn(2))
    }

    private func makeFile(_ path: String, _ data: [UInt8], syncing: Bool) throws {
        let node = FaultNode(.file, mode: 0o644)
        var descriptor: Int32 = -1
        node.isStub = true
        try changeNames(
            "create \(path)", touching: [path],
            { descriptor = try ProgramCalls.open(place(path), O_RDWR | O_CREAT | O_EXCL) }, effect: { $0[path] = node })
        if descriptor < 0 { return }
        node.isStub = false
        let file = Held(descriptor: descriptor, node: node)
        if !data.isEmpty { try write(file, data, at: 0) }
        if syncing { try sync(file) }
        try closeFile(file)
    }

    /// A file by a held descriptor, or opened for the occasion.
    private func withSomeFile(_ body: (Held) throws -> Void) throws {
        if !held.isEmpty, random.oneIn(3) { return try body(held[random.below(held.count)]) }
        guard let path = pickFile() else { return }
        try withFile(path, O_RDWR, body)
    }

    private func writeSome() throws {
        try withSomeFile { file in
            let offset = random.below(file.node.content.current.count + (random.oneIn(3) ? 20_000 : 1))
            try write(file, random.bytes(1 + random.below(random.oneIn(2) ? 300 : 20_000)), at: offset)
        }
    }

    private func syncSome() throws { try withSomeFile { try sync($0) } }
    private func readSome() throws {
        try withSomeFile { file in
            if random.oneIn(2) { ProgramCalls.forget(file.descriptor) }
            try read(file)
        }
    }

    private func cut() throws {
        try withSomeFile { file in
            let size = random.below(Self.byteLimit)
            try change(file, "ftruncate to \(size)", { try ProgramCalls.check(ftruncate(file.descriptor, size)) }) {
                Self.resized($0, to: size)
            }
        }
    }

    private func punch() throws {
        try withSomeFile { file in
            let start = random.below(file.node.content.current.count)
            let count = 1 + random.below(20_000)
            let mode = COFFER_FALLOC_KEEP_SIZE | COFFER_FALLOC_PUNCH_HOLE
            try change(
                file, "punch \(count) at \(start)",
                { try ProgramCalls.check(coffer_fallocate(file.descriptor, mode, start, count)) }
            ) { Self.punched($0, from: start, count: count) }
        }
    }

    /// Opens with O_TRUNC.
    private func empty() throws {
        guard let path = pickFile(), let node = names[path] else { return }
        var descriptor: Int32 = -1
        node.modified = nil
        if try attempt(
            "empty \(path)", { descriptor = try ProgramCalls.open(place(path), O_RDWR | O_TRUNC) })
        {
            node.content.change { _ in [] }
        } else {
            node.content.tryChange { _ in [] }
            return
        }
        let file = Held(descriptor: descriptor, node: node)
        if random.oneIn(2) { try write(file, random.bytes(random.below(9000)), at: 0) }
        try closeFile(file)
    }

    // MARK: Names

    private func renameFile() throws {
        guard let path = pick(names.paths { !$0.isDirectory && !$0.isStub }) else { return }
        if random.oneIn(3), let other = pick(names.paths { !$0.isDirectory && !$0.isStub }),
            names[path] !== names[other]
        {
            if random.oneIn(3) {
                return try changeNames(
                    "exchange \(path) \(other)", touching: [path, other],
                    { try ProgramCalls.rename(place(path), to: place(other), COFFER_RENAME_EXCHANGE) },
                    effect: { $0.exchange(path, other) })
            }
            return try move(path, to: other)
        }
        guard let free = pickFree(Self.fileNames) else { return }
        try move(path, to: free)
    }

    private func move(_ path: String, to new: String) throws {
        try changeNames(
            "rename \(path) \(new)", touching: [path, new], { try ProgramCalls.rename(place(path), to: place(new)) },
            effect: { $0.move(path, to: new) })
    }

    private func renameDirectory() throws {
        guard let path = pick(names.paths(\.isDirectory)) else { return }
        func isInside(_ other: String) -> Bool { (other + "/").hasPrefix(path + "/") || path.hasPrefix(other + "/") }
        if random.oneIn(3), let other = pick(names.paths(\.isDirectory)), !isInside(other) {
            if random.oneIn(2) {
                return try changeNames(
                    "exchange directories \(path) \(other)", touching: [path, other],
                    { try ProgramCalls.rename(place(path), to: place(other), COFFER_RENAME_EXCHANGE) },
                    effect: { $0.exchange(path, other) })
            }
            if names.entries(of: other).isEmpty { return try move(path, to: other) }
            return try expect([.directoryNotEmpty, .fileExists], "rename \(path) over full \(other)") {
                try ProgramCalls.rename(place(path), to: place(other))
            }
        }
        guard let free = pickFree(Self.directoryNames), !isInside(free) else { return }
        try move(path, to: free)
    }

    func makeDirectory() throws {
        guard let path = pickFree(Self.directoryNames) else { return }
        try changeNames(
            "mkdir \(path)", touching: [path], { try ProgramCalls.check(mkdir(place(path), 0o755)) },
            effect: { $0[path] = FaultNode(.directory, mode: 0o755) })
    }

    private func removeDirectory() throws {
        guard let path = pick(names.paths(\.isDirectory)) else { return }
        if !names.entries(of: path).isEmpty {
            return try expect([.directoryNotEmpty], "rmdir full \(path)") {
                try ProgramCalls.check(rmdir(place(path)))
            }
        }
        try changeNames(
            "rmdir \(path)", touching: [path], { try ProgramCalls.check(rmdir(place(path))) },
            effect: { $0[path] = nil })
    }

    private func makeHardLink() throws {
        guard let path = pick(names.paths { !$0.isDirectory && !$0.isStub }), let free = pickFree(Self.fileNames) else {
            return
        }
        try changeNames(
            "link \(path) \(free)", touching: [free], { try ProgramCalls.check(link(place(path), place(free))) },
            effect: { $0[free] = $0[path] })
    }

    private func removeFile() throws {
        guard let path = pick(names.paths { !$0.isDirectory && !$0.isStub }) else { return }
        try changeNames(
            "unlink \(path)", touching: [path], { try ProgramCalls.check(unlink(place(path))) },
            effect: { $0[path] = nil })
    }

    private func makeLink() throws {
        guard let path = pickFree(Self.fileNames) else { return }
        // The longest targets have files of their own in the vault.
        let target = String(repeating: "target/", count: 1 + random.below(random.oneIn(2) ? 3 : 500))
        try changeNames(
            "symlink \(path)", touching: [path], { try ProgramCalls.check(symlink(target, place(path))) },
            effect: { $0[path] = FaultNode(.link(target), mode: 0o777) })
    }

    /// As editors do: a new file, synced, takes the old one's name.
    private func save() throws {
        guard let path = pickFile(), let free = pickFree(Self.fileNames) else { return }
        try makeFile(free, random.bytes(random.below(Self.byteLimit)), syncing: true)
        guard let made = names[free], !made.isStub else { return }
        try move(free, to: path)
        try attempt("fsync of a directory", { try ProgramCalls.sync(place(FaultNames.parent(path))) })
    }

    // MARK: Attributes

    private func setNote() throws {
        guard let path = pick(names.paths { $0.isFile || $0.isDirectory }), let node = names[path] else { return }
        let value = node.note != nil && random.oneIn(3) ? nil : random.bytes(1 + random.below(200))
        if try attempt("setxattr \(path)", { try ProgramCalls.setAttribute(place(path), "user.note", value) }) {
            node.note = value
            return
        }
        try disk.pausing {
            let present = try call(
                "\(doing), then getxattr", { try ProgramCalls.attribute(place(path), "user.note") })
            guard present == value || present == node.note else { throw Wrong("\(doing): another value") }
            node.note = present
        }
    }

    private func setMode() throws {
        guard let path = pick(names.paths { $0.isFile || $0.isDirectory }), let node = names[path] else { return }
        let mode: mode_t = random.oneIn(2) ? 0o755 : 0o700
        if try attempt("chmod \(path)", { try ProgramCalls.check(chmod(place(path), mode)) }) {
            node.modes = [mode]
        } else {
            node.modes.insert(mode)
            if node.isFile { node.content.fail() }
        }
    }

    private func setTimes() throws {
        guard let path = pickFile(), let node = names[path] else { return }
        let seconds = 1_000_000_000 + random.below(1_000_000)
        if try attempt("utimens \(path)", { try ProgramCalls.setTimes(place(path), seconds) }) {
            node.modified = seconds
        } else {
            node.modified = nil
            node.content.fail()
        }
    }

    // MARK: Held files

    private func hold() throws {
        guard held.count < 3, let path = pickFile(), let node = names[path] else { return }
        var descriptor: Int32 = -1
        guard try attempt("hold \(path)", { descriptor = try ProgramCalls.open(place(path), O_RDWR) }) else { return }
        held.append(Held(descriptor: descriptor, node: node))
    }

    private func letGo() throws {
        guard !held.isEmpty else { return }
        try closeFile(held.remove(at: random.below(held.count)))
    }
}
