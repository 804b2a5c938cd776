import CSodium

/// Random bytes from the kernel. Each call asks the kernel: no pool lives in this process that a resumed snapshot of the
/// machine could repeat.
public enum Random {
    /// Fills `buffer` with random bytes.
    @inline(__always)
    public static func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        Sodium.require()
        if let base = buffer.baseAddress { randombytes_buf(base, buffer.count) }
    }

    /// `count` random bytes.
    public static func bytes(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        bytes.withUnsafeMutableBytes { fill($0) }
        return bytes
    }
}
