import CofferCrypto
import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// What a stored object's extended attributes hash to in a seal.
enum StoredAttributes {
    private static let listLimit = 65536
    private static let accessLists = ["system.posix_acl_access", "system.posix_acl_default"].map { Array($0.utf8) }

    /// The hash of what a descriptor's object carries; nil where that is nothing that a seal is about.
    static func hash(disk: Disk, _ descriptor: Int32) throws(VaultError) -> [UInt8]? {
        let list: [UInt8]
        do throws(Errno) {
            list = try disk.attributeListBytes(descriptor, limit: listLimit)
        } catch {
            // A file system without them.
            if error == .notSupported { return nil }
            throw .system(error)
        }
        let names = list.split(separator: 0).map { Array($0) }.filter {
            $0.starts(with: AttributeCodec.userPrefix) || accessLists.contains($0)
        }.sorted { $0.lexicographicallyPrecedes($1) }
        if names.isEmpty { return nil }
        let hash = RunningHash()
        for name in names {
            let value: [UInt8]
            do throws(Errno) {
                value = try disk.attributeBytes(descriptor, StoredName(name).cString, limit: listLimit)
            } catch {
                // Removed this moment: the object's time of change tells.
                if error == .noData { continue }
                throw .system(error)
            }
            add(name, UInt16(truncatingIfNeeded: name.count), to: hash)
            add(value, UInt32(truncatingIfNeeded: value.count), to: hash)
        }
        return hash.finish()
    }

    private static func add(_ bytes: [UInt8], _ count: some FixedWidthInteger, to hash: RunningHash) {
        withUnsafeBytes(of: count.littleEndian) { hash.update($0) }
        hash.update(bytes)
    }
}
