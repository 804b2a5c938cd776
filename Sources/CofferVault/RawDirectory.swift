import CofferDisk
import SystemPackage

/// The raw entries of a ciphertext directory, read in one go.
package struct RawDirectory {
    let disk: Disk
    /// Opened for reading; its position is used.
    let descriptor: Int32

    package init(disk: Disk, descriptor: Int32) {
        self.disk = disk
        self.descriptor = descriptor
    }

    /// Calls `body` with each entry's stored name and type from the first on, until it returns false.
    package func forEach(_ body: ([UInt8], UInt8) throws(VaultError) -> Bool) throws(VaultError) {
        try system { () throws(Errno) in try disk.seekDirectory(descriptor, to: 0) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 32768, alignment: 16)
        defer { buffer.deallocate() }
        while true {
            let count = try system { () throws(Errno) in try disk.readDirectory(descriptor, into: buffer) }
            if count == 0 { return }
            var position = 0
            while position < count {
                let record = RawEntry(buffer, at: position)
                position += record.recordCount
                if try !body(record.name, record.type) { return }
            }
        }
    }
}

/// One `linux_dirent64`.
///
///     0       8       16         18     19
///     │ d_ino │ d_off │ d_reclen │ type │ name … NUL
struct RawEntry {
    let inode: UInt64
    let nextPosition: Int
    let recordCount: Int
    let type: UInt8
    let name: [UInt8]

    init(_ buffer: UnsafeMutableRawBufferPointer, at position: Int) {
        let record = UnsafeRawBufferPointer(rebasing: buffer[position...])
        inode = record.loadUnaligned(as: UInt64.self)
        nextPosition = Int(record.loadUnaligned(fromByteOffset: 8, as: Int64.self))
        recordCount = Int(record.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
        type = record[18]
        let room = UnsafeRawBufferPointer(rebasing: record[19..<recordCount])
        name = Array(UnsafeRawBufferPointer(rebasing: room[..<(room.firstIndex(of: 0) ?? room.count)]))
    }
}
