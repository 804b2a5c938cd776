import CofferFormat
import SystemPackage

/// Something in a vault that is not as it should be, or worth knowing.
public struct CheckFinding: Sendable {
    /// What it is.
    public enum Kind: Sendable {
        /// Stored bytes are not what was stored.
        case damage(Damage.Kind)
        /// It could not be looked at.
        case unreadable(Errno)
        /// Pieces of a long name, or of a link's target, that no entry goes with: they mean nothing.
        case orphan
        /// A record in a directory's `coffer.dir` that is of another place, as a crash leaves, or is damaged: what needs it does not verify.
        case strangeRecord
        /// Encrypted content under a name that is none of Coffer's, as sync tools leave conflict copies.
        case conflictCopy
        /// What a crash left while it was being made: it means nothing.
        case leftover
        /// The end of a file that recovery set after a power cut, not a program.
        case reconstructed
        /// It changed while it was looked at, each time.
        case busy
    }

    /// Where in the tree.
    public let place: TreePlace
    /// What it is.
    public let kind: Kind
    /// The plaintext bytes that cannot be read; nil where it is no matter of a file's contents.
    public let bytes: Range<Int>?
    /// The stored bytes that they are in.
    public let storedBytes: Range<Int>?

    init(_ place: TreePlace, _ kind: Kind, bytes: Range<Int>? = nil, storedBytes: Range<Int>? = nil) {
        self.place = place
        self.kind = kind
        self.bytes = bytes
        self.storedBytes = storedBytes
    }

    /// Whether something that a program would read is lost, or might be.
    public var isLoss: Bool {
        switch kind {
        case .damage, .unreadable, .busy: true
        case .orphan, .strangeRecord, .conflictCopy, .leftover, .reconstructed: false
        }
    }
}

/// How far a check is.
public struct CheckTotals: Sendable {
    /// Entries looked at.
    public var entries = 0
    /// Regular files among them.
    public var files = 0
    /// Stored bytes of contents that were verified.
    public var bytes = 0
    /// Findings that are losses.
    public var losses = 0
    /// Other findings.
    public var notes = 0

    /// Nothing yet.
    public init() {}
}
