import CofferFormat
import SystemPackage

/// Something in a copy that is not as it was sealed.
public struct VerifyFinding: Sendable {
    /// How grave it is.
    public enum Severity: String, Sendable, CaseIterable {
        /// No sync and no program leaves it so.
        case damaged
        /// Not as sealed: missing, older, or something that a seal cannot vouch for.
        case incomplete
        /// Changed since the seal, as far as can be told: only the next seal proves it.
        case newer
        /// Good to know.
        case note
    }

    /// What it is.
    public enum Kind: Sendable {
        /// It was sealed, and is not there; with so many entries in it, where it is a directory.
        case missing(inside: Int)
        /// An older version: that of an older seal, where one tells.
        case older(counter: UInt64?)
        /// Changed since the seal.
        case newer
        /// It is being written to.
        case busy
        /// It is not in the seal; it holds what was sealed at another place, where that is so.
        case added(of: StoredPlace?)
        /// Other bytes, with the size and time that were sealed.
        case contents
        /// Another size, with the time that was sealed.
        case size(sealed: UInt64, found: UInt64)
        /// A link's text.
        case link
        /// Another device.
        case device
        /// Something of another type.
        case type
        /// Its name does not verify where it is.
        case name
        /// It was not sealed, and what it takes to read its name is not there, as when a sync is not through.
        case unnamed
        /// It holds what was sealed at another place.
        case swapped(with: StoredPlace)
        /// Blocks of it do not verify.
        case blocks
        /// It cannot be read.
        case unreadable(Errno)
        /// Other permissions.
        case mode(sealed: UInt32, found: UInt32)
        /// Other extended attributes or ACLs.
        case attributes
        /// Another owner or group.
        case owner
        /// Another time of modification, nothing else.
        case time
        /// It was being written to when it was sealed: nothing is proven.
        case unsure
        /// It did not verify when it was sealed.
        case sealedDamaged
        /// A name that is none of Coffer's.
        case foreign
    }

    /// Where it is.
    public let place: StoredPlace
    /// What it is.
    public let kind: Kind
    /// Whether that is a directory.
    public let isDirectory: Bool

    init(_ place: StoredPlace, _ kind: Kind, isDirectory: Bool = false) {
        self.place = place
        self.kind = kind
        self.isDirectory = isDirectory
    }

    /// `EUCLEAN`: what a file system says of its own damage.
    private static let needsCleaning = Errno(rawValue: 117)

    var isMissing: Bool { if case .missing = kind { true } else { false } }

    /// How grave it is.
    public var severity: Severity {
        switch kind {
        case .contents, .size, .link, .device, .name, .blocks, .sealedDamaged: .damaged
        // What the disk does not give out is lost; whatever else keeps it from being read need not be.
        case .unreadable(let code): [.ioError, Self.needsCleaning, .badMessage].contains(code) ? .damaged : .incomplete
        case .missing, .older, .type, .swapped, .mode, .attributes, .owner, .unnamed: .incomplete
        case .newer, .busy, .added: .newer
        case .time, .unsure, .foreign: .note
        }
    }
}
