import CofferCrypto

/// What a person types, wiped when the last reference goes.
///
/// UTF-8 is brought into normalization form C: keyboards and systems differ in whether they give letters with accents as one character or as two, and the same
/// passphrase must open the vault on all of them. Other bytes stay as they are.
public final class Passphrase: @unchecked Sendable {
    // Written only by init and deinit, so that sharing between threads is safe.
    private(set) var bytes: [UInt8]
    // What was typed, where that is something else.
    private var typed: [UInt8] = []

    /// Takes the bytes over and wipes the caller's.
    public init(consuming source: inout [UInt8]) throws(KeysError) {
        guard !source.isEmpty else { throw .emptyPassphrase }
        // A copy with a buffer of its own, so that wiping one does not first duplicate the other.
        bytes = UnicodeForm.composed(source)
        if bytes != source { typed = source.withUnsafeBufferPointer { Array($0) } }
        wipe(&source)
    }

    /// The UTF-8 of a text.
    public convenience init(_ text: String) throws(KeysError) {
        var bytes = Array(text.utf8)
        try self.init(consuming: &bytes)
    }

    deinit {
        wipe(&bytes)
        wipe(&typed)
    }

    /// The same as it was typed, for slots that were made from that; nil where it is no other.
    public var asTyped: Passphrase? { typed.isEmpty ? nil : Passphrase(asTyped: typed) }

    private init(asTyped typed: [UInt8]) {
        bytes = typed.withUnsafeBufferPointer { Array($0) }
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
