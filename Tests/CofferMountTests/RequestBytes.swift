import CFuse

@testable import CofferMount

/// A request as the kernel would send it, 128 bytes of it.
struct RequestBytes {
    private var bytes = [UInt8](repeating: 0, count: 128)

    init(_ code: fuse_opcode, number: UInt64, node: UInt64) {
        put(UInt32(bytes.count), at: 0)
        put(code.rawValue, at: 4)
        put(number, at: 8)
        put(node, at: 16)
    }

    mutating func put<Value>(_ value: Value, at offset: Int) {
        withUnsafeBytes(of: value) { bytes.replaceSubrange(offset..<(offset + $0.count), with: $0) }
    }

    /// Nil where the first `count` bytes are no request.
    func with<Result>(count: Int = 128, _ body: (RawRequest) -> Result) -> Result? {
        bytes.withUnsafeBytes { RawRequest($0.baseAddress, count: count).map(body) }
    }
}
