import CofferDisk
import Glibc
import SystemPackage

/// The directory that an extraction fills: new or empty, and not inside the vault.
final class Destination {
    private let path: String
    private let disk: Disk
    /// The directory itself, where it is there already.
    private var existing: Int32 = -1
    /// Else the one to make it in, and its name.
    private var parent: Int32 = -1
    private var name: [CChar] = []

    /// Checks a destination, before anybody types a passphrase for nothing; makes nothing yet.
    init(_ path: String, outside vault: VaultDirectory) throws(CommandError) {
        self.path = path
        disk = vault.disk
        let bytes = RawArgument.bytes(of: path)
        do throws(Errno) {
            do throws(Errno) {
                existing = try disk.open(at: AT_FDCWD, Self.cString(bytes), flags: O_RDONLY | O_DIRECTORY)
            } catch {
                guard error == .noSuchFileOrDirectory else { throw error }
                try openParent(bytes)
            }
            try requireEmpty()
            try requireOutside(vault)
        } catch {
            throw Self.failure(path, error)
        }
    }

    deinit {
        if existing >= 0 { disk.close(existing) }
        if parent >= 0 { disk.close(parent) }
    }

    /// The directory's descriptor, which this object keeps.
    func make() throws(Errno) -> Int32 {
        if existing >= 0 { return existing }
        try disk.makeDirectory(at: parent, name, mode: 0o700)
        existing = try disk.open(at: parent, name, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        return existing
    }

    private func openParent(_ bytes: [UInt8]) throws(Errno) {
        let trimmed = Array(bytes.reversed().drop { $0 == UInt8(ascii: "/") }.reversed())
        let slash = trimmed.lastIndex(of: UInt8(ascii: "/"))
        name = Self.cString(trimmed[(slash.map { $0 + 1 } ?? 0)...])
        let above = slash.map { Array(trimmed[...$0]) } ?? Array(".".utf8)
        parent = try disk.open(at: AT_FDCWD, Self.cString(above), flags: O_RDONLY | O_DIRECTORY)
        do throws(Errno) {
            _ = try disk.status(at: parent, name)
        } catch {
            if error == .noSuchFileOrDirectory { return }
            throw error
        }
        // A symbolic link to nothing.
        throw .fileExists
    }

    private func requireEmpty() throws(Errno) {
        guard existing >= 0 else { return }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
        defer { buffer.deallocate() }
        let copy = try disk.open(at: existing, ".", flags: O_RDONLY | O_DIRECTORY)
        defer { disk.close(copy) }
        while true {
            let count = try disk.readDirectory(copy, into: buffer)
            if count == 0 { return }
            var position = 0
            while position < count {
                // d_reclen at 16, d_name from 19 on.
                let record = UnsafeRawBufferPointer(rebasing: buffer[position...])
                let name = record[19...].prefix { $0 != 0 }
                if !name.elementsEqual(".".utf8) && !name.elementsEqual("..".utf8) { throw .directoryNotEmpty }
                position += Int(record.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
            }
        }
    }

    /// Plaintext inside a vault would go wherever the vault is copied.
    private func requireOutside(_ vault: VaultDirectory) throws(Errno) {
        let root = try disk.status(vault.descriptor)
        var directory = try disk.duplicate(existing >= 0 ? existing : parent)
        defer { disk.close(directory) }
        while true {
            let status = try disk.status(directory)
            if status.st_ino == root.st_ino && status.st_dev == root.st_dev { throw .notPermitted }
            let above = try disk.open(at: directory, "..", flags: Disk.pathOnly | O_DIRECTORY)
            disk.close(directory)
            directory = above
            let next = try disk.status(directory)
            if next.st_ino == status.st_ino && next.st_dev == status.st_dev { return }
        }
    }

    private static func failure(_ path: String, _ error: Errno) -> CommandError {
        switch error {
        case .directoryNotEmpty:
            CommandError(.notEmpty, "\(quoted(path)) is not empty; choose an empty directory or a new one")
        case .fileExists, .notDirectory:
            CommandError(.notEmpty, "\(quoted(path)) is not a directory; choose an empty directory or a new one")
        case .notPermitted:
            CommandError(.usage, "\(quoted(path)) is inside the vault; choose a directory outside")
        case .noSuchFileOrDirectory:
            CommandError(.inputOutput, "the directory to make \(quoted(path)) in does not exist")
        default: CommandError(.inputOutput, "\(quoted(path)) cannot be used: \(error)")
        }
    }

    private static func cString(_ bytes: some Sequence<UInt8>) -> [CChar] {
        bytes.map { CChar(bitPattern: $0) } + [0]
    }
}
