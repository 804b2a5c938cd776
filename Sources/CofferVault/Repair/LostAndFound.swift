import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// `coffer.lost+found` in a vault's root: what a repair has changed, as it was stored before.
struct LostAndFound {
    private static let partCount = 1 << 20

    let disk: Disk
    let root: Int32

    /// Puts ranges of a stored file there, at the same offsets of a file with holes elsewhere, and makes sure that they stay. Its name is `description`, and a number where that is
    /// taken. What cannot be read becomes a hole, too.
    func keep(_ ranges: [Range<Int>], of source: Int32, as description: String) throws(VaultError) {
        try withFile(description) { (file) throws(VaultError) in
            let buffer = UnsafeMutableRawPointer.allocate(byteCount: Self.partCount, alignment: 4096)
            defer { buffer.deallocate() }
            let size = try system { () throws(Errno) in Int(try disk.status(source).st_size) }
            for range in ranges {
                var offset = range.lowerBound
                while offset < min(size, range.upperBound) {
                    let wanted = min(Self.partCount, min(size, range.upperBound) - offset)
                    let count = try read(source, into: buffer, wanted, at: offset)
                    try system { () throws(Errno) in try disk.write(file, buffer, count: count, at: offset) }
                    offset += count
                }
            }
            try system { () throws(Errno) in try disk.truncate(file, to: size) }
        }
    }

    /// At least one byte; zeros for a page of a bad sector.
    private func read(
        _ source: Int32, into buffer: UnsafeMutableRawPointer, _ wanted: Int, at offset: Int
    ) throws(VaultError) -> Int {
        for count in [wanted, min(wanted, 4096 - offset % 4096)] {
            do throws(Errno) {
                let got = try disk.read(source, into: buffer, count: count, at: offset)
                if got > 0 { return got }
                throw .ioError
            } catch {
                if error != .ioError { throw .system(error) }
            }
        }
        let count = min(wanted, 4096 - offset % 4096)
        buffer.initializeMemory(as: UInt8.self, repeating: 0, count: count)
        return count
    }

    /// Likewise, of a few bytes.
    func keep(_ bytes: [UInt8], as description: String) throws(VaultError) {
        try withFile(description) { (file) throws(VaultError) in
            try system { () throws(Errno) in try disk.write(file, bytes: bytes) }
        }
    }

    /// Whether something of this name is there.
    func has(_ description: String) throws(VaultError) -> Bool {
        let name = "\(ReservedName.lostAndFound)/\(description)"
        return try system { () throws(Errno) in try disk.isThere(name, at: root) }
    }

    /// What the names of marks begin with: they are only kept for as long as something is not finished.
    static let markPrefix = "directory."

    /// Takes the marks away.
    func forgetMarks() throws(VaultError) {
        let isThere = try system { () throws(Errno) in try disk.isThere(ReservedName.lostAndFound.cString, at: root) }
        guard isThere else { return }
        let directory = try openDirectory()
        defer { disk.close(directory) }
        var marks: [StoredName] = []
        try RawDirectory(disk: disk, descriptor: directory).forEach { name, _ in
            if name.starts(with: Array(Self.markPrefix.utf8)) { marks.append(StoredName(name)) }
            return true
        }
        for mark in marks { try system { () throws(Errno) in try disk.remove(at: directory, mark.cString) } }
    }

    /// Puts a file there as it is.
    func move(_ name: StoredName, from parent: Int32, as description: String) throws(VaultError) {
        let directory = try openDirectory()
        defer { disk.close(directory) }
        try system { () throws(Errno) in
            try disk.rename(
                from: parent, name.cString, to: directory, StoredName(description).cString, mode: .noReplace)
            try disk.syncEntries(directory)
        }
    }

    /// Opens the directory, which is made where there is none.
    private func openDirectory() throws(VaultError) -> Int32 {
        do throws(Errno) {
            try disk.makeDirectory(at: root, ReservedName.lostAndFound.cString, mode: 0o700)
        } catch {
            if error != .fileExists { throw .system(error) }
        }
        return try system { () throws(Errno) in
            try disk.open(at: root, ReservedName.lostAndFound.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        }
    }

    private func withFile(_ description: String, _ body: (Int32) throws(VaultError) -> Void) throws(VaultError) {
        let directory = try openDirectory()
        defer { disk.close(directory) }
        let (file, name) = try system { () throws(Errno) in try make(description, in: directory) }
        defer { disk.close(file) }
        do throws(VaultError) {
            try body(file)
            try system { () throws(Errno) in
                try disk.sync(file)
                try disk.syncEntries(directory)
                try disk.syncEntries(root)
            }
        } catch {
            // Half of it would be taken for all, and on a full disk nothing is left over.
            _ = Result { () throws(Errno) in try disk.remove(at: directory, name.cString) }
            throw error
        }
    }

    private func make(_ description: String, in directory: Int32) throws(Errno) -> (Int32, StoredName) {
        var number = 0
        while true {
            let name = number == 0 ? description : "\(description).\(number)"
            do throws(Errno) {
                let stored = StoredName(name)
                let file = try disk.open(
                    at: directory, stored.cString, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
                return (file, stored)
            } catch {
                guard error == .fileExists, number < 100_000 else { throw error }
                number += 1
            }
        }
    }
}
