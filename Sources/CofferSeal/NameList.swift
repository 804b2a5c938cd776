import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// The names in one ciphertext directory that a seal is about, in the order of their bytes. All in one buffer: a directory may have a million.
struct NameList {
    private var bytes: [UInt8] = []
    private var ranges: [Range<Int>] = []
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
        try RawDirectory(disk: disk, descriptor: stream).forEach { name, _ in
            if Self.isSealed(name, isRoot: isRoot) {
                ranges.append(bytes.count..<(bytes.count + name.count))
                bytes.append(contentsOf: name)
            } else if NameCodec.kind(of: name) == .foreign, foreign.count < Self.foreignLimit {
                foreign.append(name)
            }
            return true
        }
        bytes.withUnsafeBytes { all in
            ranges.sort { first, second in
                let common = min(first.count, second.count)
                guard let base = all.baseAddress else { return false }
                let order = memcmp(base + first.lowerBound, base + second.lowerBound, common)
                return order == 0 ? first.count < second.count : order < 0
            }
        }
    }

    /// How many there are.
    var count: Int { ranges.count }

    /// One of them.
    subscript(index: Int) -> [UInt8] { Array(bytes[ranges[index]]) }

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
