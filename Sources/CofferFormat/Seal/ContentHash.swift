import CofferCrypto

/// What a file's contents hash to in a seal.
///
///     BLAKE2b-256("coffer.seal.file" ‖ u64(size) ‖ BLAKE2b-256(part) of each part)
///
/// The parts can be hashed by several threads.
public struct ContentHash {
    /// Bytes of a part; the last one has what is left.
    public static let partCount = 1 << 20
    /// What a part of zeros hashes to: long holes need not be read.
    public static let zeroPart: [UInt8] = {
        let zeros = [UInt8](repeating: 0, count: partCount)
        var output = [UInt8](repeating: 0, count: RunningHash.byteCount)
        zeros.withUnsafeBytes { input in
            output.withUnsafeMutableBytes { output in
                if let base = output.baseAddress { RunningHash.hash(input, into: base) }
            }
        }
        return output
    }()

    private let whole = RunningHash()

    /// The hash of a file of `size` bytes.
    public init(size: Int) {
        whole.update("coffer.seal.file")
        withUnsafeBytes(of: UInt64(size).littleEndian) { whole.update($0) }
    }

    /// Adds the hashes of the next parts, 32 bytes each, in order.
    public func add(_ parts: UnsafeRawBufferPointer) { whole.update(parts) }

    /// The hash. Nothing may be added after.
    public func finish() -> [UInt8] { whole.finish() }

    /// How many parts a file has.
    public static func parts(ofSize size: Int) -> Int { size <= 0 ? 0 : (size - 1) / partCount + 1 }
}
