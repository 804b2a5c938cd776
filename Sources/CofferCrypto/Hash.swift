import CSodium

/// BLAKE2b over several parts, keyed or not.
///
/// The parts are joined first and hashed at once: what the format hashes is small, and libsodium's incremental state wants an
/// alignment that a Swift value cannot promise.
public struct Hash {
    private var input: [UInt8] = []
    private let key: SecretKey?
    private let outputCount: Int

    /// Starts a hash of `outputCount` bytes (16 to 64), under `key` where one is given.
    public init(key: SecretKey? = nil, outputCount: Int) {
        Sodium.require()
        self.key = key
        self.outputCount = outputCount
    }

    /// Adds bytes.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        input.append(contentsOf: bytes)
    }

    /// Adds bytes.
    public mutating func update(_ bytes: [UInt8]) {
        input.append(contentsOf: bytes)
    }

    /// Adds the UTF-8 of a constant, such as a label that separates uses.
    public mutating func update(_ label: StaticString) {
        label.withUTF8Buffer { input.append(contentsOf: $0) }
    }

    /// The hash of everything added.
    public func finish() -> [UInt8] {
        var output = [UInt8](repeating: 0, count: outputCount)
        crypto_generichash(
            &output, outputCount, input, UInt64(input.count), key?.pointer, key == nil ? 0 : SecretKey.byteCount)
        return output
    }

    /// A keyed hash of one buffer straight into `output` (16 to 64 bytes), without allocating.
    public static func keyed(
        _ key: SecretKey, _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
    ) {
        guard let target = output.baseAddress else { return }
        crypto_generichash(
            target.assumingMemoryBound(to: UInt8.self), output.count,
            input.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt64(input.count), key.pointer,
            SecretKey.byteCount)
    }
}
