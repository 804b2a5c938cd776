import Glibc

/// A record of a seal where it is in memory, checked, and not taken apart. It is good as long as the memory is.
public struct SealRecordView {
    /// The whole record.
    public let bytes: UnsafeRawBufferPointer
    private let nameCount: Int

    private static let nameOffset = 4
    // Mode, owner, group and time.
    private static let commonCount = 20
    private static let hashCount = 32

    /// The record at the beginning of `raw`; nil for an end. `malformed` where there is none, or not all of it.
    public init?(_ raw: UnsafeRawBufferPointer) throws(FormatError) {
        guard let number = raw.first else { throw .malformed }
        if number == SealRecord.end { return nil }
        guard raw.count >= Self.nameOffset, raw[1] & ~7 == 0 else { throw .malformed }
        nameCount = Int(UInt16(littleEndian: raw.loadUnaligned(fromByteOffset: 2, as: UInt16.self)))
        var count = Self.nameOffset + nameCount + Self.commonCount + (raw[1] & 1 != 0 ? Self.hashCount : 0)
        switch number {
        case 1: break
        case 2: count += 8 + Self.hashCount
        case 3:
            guard raw.count >= count + 2 else { throw .malformed }
            count += 2 + Int(UInt16(littleEndian: raw.loadUnaligned(fromByteOffset: count, as: UInt16.self)))
        case 4: count += 8
        default: throw .malformed
        }
        guard raw.count >= count else { throw .malformed }
        bytes = UnsafeRawBufferPointer(rebasing: raw[..<count])
        guard Self.isName(name), hasFittingMode else { throw .malformed }
    }

    private static func isName(_ name: UnsafeRawBufferPointer) -> Bool {
        guard let base = name.baseAddress, name.count > 0 else { return true }
        let isDots = name[0] == 0x2E && (name.count == 1 || name.count == 2 && name[1] == 0x2E)
        return !isDots && memchr(base, 0, name.count) == nil && memchr(base, 0x2F, name.count) == nil
    }

    /// The stored name; empty for the root.
    public var name: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: bytes[Self.nameOffset..<(Self.nameOffset + nameCount)])
    }

    /// Whether it is a directory.
    public var isDirectory: Bool { bytes[0] == 1 }

    /// A file's stored size; nil for anything else.
    public var fileSize: UInt64? { bytes[0] == 2 ? number(at: bytes.count - Self.hashCount - 8) : nil }

    private var commonOffset: Int { Self.nameOffset + nameCount }
    private var moreOffset: Int { commonOffset + Self.commonCount + (bytes[1] & 1 != 0 ? Self.hashCount : 0) }

    private func number<Number: FixedWidthInteger>(at offset: Int) -> Number {
        Number(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Number.self))
    }

    /// Whether the mode's type is the kind's.
    private var hasFittingMode: Bool {
        let mode: UInt32 = number(at: commonOffset)
        let type = mode & S_IFMT
        return switch bytes[0] {
        case 1: type == S_IFDIR
        case 2: type == S_IFREG
        case 3: type == S_IFLNK
        default: type == S_IFIFO || type == S_IFSOCK || type == S_IFCHR || type == S_IFBLK
        }
    }

    /// Its parts.
    public var record: SealRecord {
        let more = moreOffset
        let kind: SealRecord.Kind =
            switch bytes[0] {
            case 1: .directory
            case 2: .file(size: number(at: more), contents: Array(bytes[(more + 8)...]))
            case 3: .link(Array(bytes[(more + 2)...]))
            default: .other(device: number(at: more))
            }
        let time: UInt64 = number(at: commonOffset + 12)
        var record = SealRecord(
            name: Array(name), mode: number(at: commonOffset), owner: number(at: commonOffset + 4),
            group: number(at: commonOffset + 8), time: Int64(bitPattern: time),
            attributes: bytes[1] & 1 != 0 ? Array(bytes[(more - Self.hashCount)..<more]) : nil, kind: kind)
        record.isUnsure = bytes[1] & 2 != 0
        record.isDamaged = bytes[1] & 4 != 0
        return record
    }
}
