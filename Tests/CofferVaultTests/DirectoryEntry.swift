import Glibc

/// Puts one `linux_dirent64` into what getdents64(2) fills, as `RawEntry` reads it. Returns where the next goes; nil where there is no room.
func putEntry(
    _ name: String, number: UInt = 0, kind: mode_t = 0, into buffer: UnsafeMutableRawBufferPointer, at position: Int
) -> Int? {
    let count = (19 + name.utf8.count + 8) / 8 * 8
    guard position + count <= buffer.count else { return nil }
    let entry = UnsafeMutableRawBufferPointer(rebasing: buffer[position..<(position + count)])
    entry.initializeMemory(as: UInt8.self, repeating: 0)
    entry.storeBytes(of: UInt64(number), as: UInt64.self)
    entry.storeBytes(of: UInt16(count), toByteOffset: 16, as: UInt16.self)
    entry[18] = UInt8(kind >> 12)
    UnsafeMutableRawBufferPointer(rebasing: entry[19...]).copyBytes(from: name.utf8)
    return position + count
}
