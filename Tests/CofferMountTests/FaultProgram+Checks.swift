import Glibc
import SystemPackage

/// What must hold once the fault is gone.
extension FaultProgram {
    /// Syncs everything. What could not be stored while nobody waited for it is told once, to whoever asks next.
    func settle() throws {
        while let file = held.popLast() {
            if file.node.content.isCertain { try read(file) }
            try closeFile(file)
        }
        for path in names.paths(\.isStub) {
            hadStubs = true
            names[path] = nil
            guard try remains(path) else { continue }
            try mustWork("unlink of what was not to be made") { try ProgramCalls.check(unlink(place(path))) }
        }
        for path in names.paths(\.isFile) {
            try withFile(path, O_RDWR) { file in
                try sync(file)
                try mustWork("fsync after a failed one") { try ProgramCalls.check(fsync(file.descriptor)) }
                file.node.content.sync()
                if !file.node.content.isCertain, random.oneIn(2) { try replace(file) }
            }
        }
    }

    /// Whether a file is there that could be neither made nor taken away again: an empty one, for what cannot be read goes by itself within a while.
    private func remains(_ path: String) throws -> Bool {
        for _ in 0..<50 {
            let descriptor = open(place(path), O_RDONLY)
            if descriptor >= 0 {
                close(descriptor)
                return true
            }
            if errno == ENOENT { return false }
            usleep(100_000)
        }
        throw Wrong("\(path), which could not be made, stays unreadable")
    }

    /// Closes what is open. What was not synced may be lost from now on: nobody is told of it.
    func leave() throws {
        while let file = held.popLast() { try closeFile(file) }
        for node in names.paths(\.isFile).compactMap({ names[$0] }) {
            node.content.fail()
            // What is recovered is newer, so that copy tools take it.
            node.modified = nil
        }
    }

    /// Gives a file of which it is not known what it holds new contents.
    private func replace(_ file: Held) throws {
        let data = random.bytes(1 + random.below(20_000))
        file.node.modified = nil
        try mustWork("cut to nothing") { try ProgramCalls.check(ftruncate(file.descriptor, 0)) }
        // What a quota has left cannot be asked, so a file that met its end is refused for some seconds more.
        var outcome = ProgramCalls.write(file.descriptor, data, at: 0)
        for _ in 0..<60 where outcome.error == .diskQuotaExceeded && errors.contains(.diskQuotaExceeded) {
            usleep(100_000)
            outcome = ProgramCalls.write(file.descriptor, data, at: 0)
        }
        try mustWork("write again") { if let error = outcome.error { throw error } }
        try mustWork("fsync of new contents") { try ProgramCalls.check(fsync(file.descriptor)) }
        file.node.content = FaultContent(read: data)
    }

    private func mustWork<Result>(_ what: String, _ body: () throws -> Result) throws -> Result {
        do {
            return try call(what, body)
        } catch let error as Errno {
            throw Wrong("after the fault, \(what): errno \(error.rawValue)")
        }
    }

    /// Compares the whole tree with what must be there. `fresh` says that the mount is a new one.
    func check(fresh: String? = nil) throws {
        let top = fresh ?? top
        let what = fresh == nil ? "in the same mount" : "in a new mount"
        for directory in names.directories {
            let path = directory.isEmpty ? top : "\(top)/\(directory)"
            let entries = try mustWork("\(what), list \(directory)") { try ProgramCalls.list(path) }
            let known = names.entries(of: directory)
            guard Set(known.keys) == Set(entries.keys) else {
                throw Wrong(
                    "\(what), '\(directory)': \(entries.keys.sorted().map { $0.prefix(24) }), not \(known.keys.sorted().map { $0.prefix(12) })"
                )
            }
            for (name, node) in known { try check(node, "\(path)/\(name)", "\(what), \(directory)/\(name.prefix(12))") }
        }
    }

    private func check(_ node: FaultNode, _ path: String, _ what: String) throws {
        let status = try mustWork("\(what), lstat") { try ProgramCalls.status(path) }
        switch node.kind {
        case .link(let target):
            let present = try mustWork("\(what), readlink") { try ProgramCalls.target(path) }
            if present != target { throw Wrong("\(what): another target") }
            return
        case .directory:
            if status.st_mode & S_IFMT != S_IFDIR { throw Wrong("\(what): no directory") }
        case .file:
            if status.st_mode & S_IFMT != S_IFREG { throw Wrong("\(what): no file") }
            let bytes = try mustWork("\(what), read") {
                let descriptor = try ProgramCalls.open(path, O_RDONLY)
                defer { close(descriptor) }
                ProgramCalls.forget(descriptor)
                return try ProgramCalls.read(descriptor)
            }
            try check(bytes, node, what)
        }
        if !node.modes.contains(status.st_mode & 0o7777) {
            throw Wrong("\(what): mode \(status.st_mode), not \(node.modes)")
        }
        if let modified = node.modified, status.st_mtim.tv_sec != modified {
            throw Wrong("\(what): modified \(status.st_mtim.tv_sec), not \(modified)")
        }
        let note = try mustWork("\(what), getxattr") { try ProgramCalls.attribute(path, "user.note") }
        if note != node.note { throw Wrong("\(what): another user.note") }
    }

    /// New work succeeds at once.
    func checkUse() throws {
        let path = place("new")
        let data = random.bytes(10_000)
        let descriptor = try mustWork("create") { try ProgramCalls.open(path, O_RDWR | O_CREAT | O_EXCL) }
        defer { close(descriptor) }
        try mustWork("write") { if let error = ProgramCalls.write(descriptor, data, at: 0).error { throw error } }
        try mustWork("fsync") { try ProgramCalls.check(fsync(descriptor)) }
        ProgramCalls.forget(descriptor)
        let bytes = try mustWork("read") { try ProgramCalls.read(descriptor) }
        if bytes != data { throw Wrong("after the fault, a new file has other bytes") }
        let directory = place("new directory")
        try mustWork("mkdir") { try ProgramCalls.check(mkdir(directory, 0o755)) }
        try mustWork("rename") { try ProgramCalls.rename(path, to: "\(directory)/moved") }
        try mustWork("rename of a directory") { try ProgramCalls.rename(directory, to: "\(directory) 2") }
        try mustWork("unlink") { try ProgramCalls.check(unlink("\(directory) 2/moved")) }
        try mustWork("rmdir") { try ProgramCalls.check(rmdir("\(directory) 2")) }
    }
}
