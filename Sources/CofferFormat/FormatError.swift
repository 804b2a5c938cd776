/// Why stored bytes do not mean anything that Coffer can use.
public enum FormatError: Error, Equatable, Sendable {
    /// The bytes are not what was sealed: changed, moved, cut, or under another key.
    case notAuthentic
    /// The structure is not one of this format's: wrong magic, impossible length, unknown flag.
    case malformed
    /// The structure is of a newer format or an unknown cipher.
    case unsupported
    /// A name or target is longer than the format can carry.
    case tooLong
}
