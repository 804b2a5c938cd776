import CofferDisk
import SystemPackage

extension ConfigStore {
    /// The names in the directory but `.` and `..`, as far as one reading goes: enough to tell whether it is empty.
    func entries() throws(KeysError) -> [String] {
        var buffer = [UInt8](repeating: 0, count: 32 << 10)
        do throws(Errno) {
            try disk.seekDirectory(directory, to: 0)
            let disk = disk
            let directory = directory
            return try buffer.withUnsafeMutableBufferPointer { target throws(Errno) in
                let count = try disk.readDirectory(directory, into: UnsafeMutableRawBufferPointer(target))
                return Self.names(in: UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: target[..<count])))
            }
        } catch {
            throw .system("list the directory", error)
        }
    }

    /// The names in raw directory records.
    ///
    ///     inode 8 │ position 8 │ record length 2 │ type 1 │ name … NUL
    private static func names(in records: UnsafeRawBufferPointer) -> [String] {
        let lengthOffset = 16
        let nameOffset = 19
        var names: [String] = []
        var start = 0
        while start + nameOffset < records.count {
            let length = Int(records.loadUnaligned(fromByteOffset: start + lengthOffset, as: UInt16.self))
            guard length > nameOffset, start + length <= records.count else { break }
            let name = String(
                decoding: records[(start + nameOffset)..<(start + length)].prefix { $0 != 0 }, as: UTF8.self)
            if name != "." && name != ".." { names.append(name) }
            start += length
        }
        return names
    }
}
