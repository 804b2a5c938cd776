import CofferCrypto

/// What a person types: bytes, as they come, wiped when the last reference goes.
public final class Passphrase: @unchecked Sendable {
    // Written only by init and deinit, so that sharing between threads is safe.
    private(set) var bytes: [UInt8]

    /// Takes the bytes over and wipes the caller's.
    public init(consuming source: inout [UInt8]) throws(KeysError) {
        guard !source.isEmpty else { throw .emptyPassphrase }
        // A copy with a buffer of its own, so that wiping one does not first duplicate the other.
        bytes = source.withUnsafeBufferPointer { Array($0) }
        wipe(&source)
    }

    /// The UTF-8 of a text.
    public convenience init(_ text: String) throws(KeysError) {
        var bytes = Array(text.utf8)
        try self.init(consuming: &bytes)
    }

    deinit {
        wipe(&bytes)
    }

    /// Whether two are the same.
    public func isEqual(to other: Passphrase) -> Bool {
        constantTimeEqual(bytes, other.bytes)
    }
}
