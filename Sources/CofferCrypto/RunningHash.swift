import CSodium

/// BLAKE2b-256 of what comes piece by piece, for input that is too much to hold.
public final class RunningHash {
    /// Bytes of a hash.
    public static let byteCount = 32

    // At an address that stays and is a multiple of 64, as libsodium wants it.
    private let state: UnsafeMutableRawPointer

    /// Nothing hashed yet.
    public init() {
        Sodium.require()
        state = .allocate(byteCount: crypto_generichash_statebytes(), alignment: 64)
        crypto_generichash_init(pointer, nil, 0, Self.byteCount)
    }

    deinit {
        state.deallocate()
    }

    private var pointer: OpaquePointer { OpaquePointer(state) }

    /// Adds bytes.
    public func update(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        crypto_generichash_update(pointer, base.assumingMemoryBound(to: UInt8.self), UInt64(bytes.count))
    }

    /// Adds bytes.
    public func update(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { update($0) }
    }

    /// Adds the UTF-8 of a constant, such as a label that separates uses.
    public func update(_ label: StaticString) {
        label.withUTF8Buffer { update(UnsafeRawBufferPointer($0)) }
    }

    /// The hash of everything added. Nothing may be added after.
    public func finish() -> [UInt8] {
        var output = [UInt8](repeating: 0, count: Self.byteCount)
        crypto_generichash_final(pointer, &output, Self.byteCount)
        return output
    }

    /// The hash of one buffer straight into `output`, which has room for 32 bytes, without allocating.
    public static func hash(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawPointer) {
        Sodium.require()
        crypto_generichash(
            output.assumingMemoryBound(to: UInt8.self), byteCount,
            input.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt64(input.count), nil, 0)
    }
}
