import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// The names in one ciphertext directory that a seal is about, in the order of their bytes. All in one buffer: a directory may have a million.
struct NameList {
    private struct Entry {
        let start: Int
        let count: UInt16
        let type: UInt8
    }

    private var bytes: [UInt8] = []
    private var entries: [Entry] = []
    /// Names that are none of Coffer's.
    private(set) var foreign: [[UInt8]] = []
    /// So many of those are remembered.
    private static let foreignLimit = 100

    /// Reads a directory. `descriptor` may be an `O_PATH` one.
    init(disk: Disk, descriptor: Int32, isRoot: Bool) throws(VaultError) {
        let stream = try system { () throws(Errno) in
            do throws(Errno) {
                return try disk.reopen(descriptor, flags: O_RDONLY | O_DIRECTORY, withoutAccessTime: true)
            } catch {
                guard error == .permissionDenied else { throw error }
            }
            // A mode may keep even the owner out.
            return try disk.withMode(0o400, of: descriptor) { () throws(Errno) in
                try disk.reopen(descriptor, flags: O_RDONLY | O_DIRECTORY, withoutAccessTime: true)
            }
        }
        defer { disk.close(stream) }
        try RawDirectory(disk: disk, descriptor: stream).forEach { name, type in
            if Self.isSealed(name, isRoot: isRoot) {
                entries.append(
                    Entry(start: bytes.count, count: UInt16(truncatingIfNeeded: name.count), type: type))
                bytes.append(contentsOf: name)
            } else if NameCodec.kind(of: name) == .foreign, foreign.count < Self.foreignLimit {
                foreign.append(name)
            }
            return true
        }
        bytes.withUnsafeBytes { all in
            entries.sort { first, second in
                let common = Int(min(first.count, second.count))
                guard let base = all.baseAddress else { return false }
                let order = memcmp(base + first.start, base + second.start, common)
                return order == 0 ? first.count < second.count : order < 0
            }
        }
    }

    /// How many there are.
    var count: Int { entries.count }

    /// One of them.
    subscript(index: Int) -> [UInt8] {
        let entry = entries[index]
        return Array(bytes[entry.start..<(entry.start + Int(entry.count))])
    }

    /// Below 0 where one of them comes before `name`, 0 where it is that, above 0 where it comes after.
    func order(_ index: Int, _ name: [UInt8]) -> Int {
        let entry = entries[index]
        let common = min(Int(entry.count), name.count)
        let order = bytes.withUnsafeBytes { all in
            name.withUnsafeBytes { name -> Int in
                guard common > 0, let base = all.baseAddress, let other = name.baseAddress else { return 0 }
                return Int(memcmp(base + entry.start, other, common))
            }
        }
        return order == 0 ? Int(entry.count) - name.count : order
    }

    /// Whether one of them was listed as a regular file. Where a file system lists no types, none is.
    func isFile(_ index: Int) -> Bool { entries[index].type == UInt8(DT_REG) }

    /// Whether a seal says something of entries with this stored name.
    static func isSealed(_ name: [UInt8], isRoot: Bool) -> Bool {
        switch NameCodec.kind(of: name) {
        case .dots, .foreign: return false
        case .short, .long, .companion: return true
        case .reserved:
            if ReservedName.overflowCompanion(name) != nil { return true }
            let always = [ReservedName.directory]
            let inRoot = [ReservedName.configuration, ReservedName.previousConfiguration]
            return (isRoot ? always + inRoot : always).contains { $0.bytes == name }
        }
    }
}
