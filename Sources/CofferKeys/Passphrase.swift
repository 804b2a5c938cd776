import CofferCrypto

/// What a person types, wiped when the last reference goes.
///
/// UTF-8 is brought into normalization form C: keyboards and systems differ in whether they give letters with accents as one character or as two, and the same
/// passphrase must open the vault on all of them. Other bytes stay as they are.
public final class Passphrase: @unchecked Sendable {
    // Written only by init and deinit, so that sharing between threads is safe.
    private(set) var bytes: [UInt8]

    /// Takes the bytes over and wipes the caller's.
    public init(consuming source: inout [UInt8]) throws(KeysError) {
        guard !source.isEmpty else { throw .emptyPassphrase }
        // A copy with a buffer of its own, so that wiping one does not first duplicate the other.
        bytes = UnicodeForm.composed(source)
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

    /// Lends the bytes.
    public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        bytes.withUnsafeBytes(body)
    }

    /// Whether two are the same.
    public func isEqual(to other: Passphrase) -> Bool {
        constantTimeEqual(bytes, other.bytes)
    }
}
