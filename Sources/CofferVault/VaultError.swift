import CofferFormat
import SystemPackage

/// What is wrong with stored bytes, and where. A program sees `EIO`; a person sees this in the log.
public struct Damage: Error, Equatable, Sendable {
    /// The kinds of damage that reading can meet.
    public enum Kind: String, Sendable {
        /// The file's size is one that no file can have.
        case size = "impossible size"
        /// The header is none, or of an unknown version, cipher or epoch.
        case header = "bad header"
        /// A block does not verify.
        case block = "block does not verify"
        /// A zero block that nothing vouches for.
        case hole = "zeroed block"
        /// The last block is not marked as one that may be last: the file was cut or grown.
        case end = "file was cut or grown"
        /// The backing file ends before its size says.
        case short = "file is shorter than it was"
        /// A symbolic link's target does not verify.
        case link = "link target does not verify"
        /// An extended attribute does not verify.
        case attribute = "attribute does not verify"
        /// A name does not verify in the directory where it stands.
        case name = "name does not verify"
        /// Something sealed without one of Coffer's names.
        case foreign =
            "none of Coffer's names, but encrypted content, like a sync tool's conflict copy; give it its name back, or move it out of the vault"
        /// A directory on another file system.
        case elsewhere = "a directory on another file system"
        /// No room for an object's attributes once more.
        case attributeRoom = "no room to store its attributes anew beside the old ones"
        /// What changed while it was looked at.
        case changed = "it was changed meanwhile"
        /// What a rotation left to be done does not verify.
        case rotation = "what a rotation of the key left to be done does not verify"
        /// A seal's manifest is not what was signed, or changes while it is read.
        case seal = "the seal does not verify"
        /// Nothing was sealed where it is, or not its contents.
        case unsealed = "it was not sealed"
        /// It is not what was sealed: older, exchanged, or damaged.
        case otherThanSealed = "it is not what was sealed"
        /// It was sealed, and is not there.
        case missing = "it was sealed, and is missing"
        /// A directory's records do not verify.
        case directory = "directory records do not verify"
    }

    /// What is wrong.
    public let kind: Kind
    /// The block, or nil where no single one is.
    public let block: Int?

    /// Damage of a kind, at a block where there is one.
    public init(_ kind: Kind, block: Int? = nil) {
        self.kind = kind
        self.block = block
    }
}

/// Why an operation on a vault failed.
public enum VaultError: Error, Equatable, Sendable {
    /// The system said no.
    case system(Errno)
    /// The stored bytes are not what was stored.
    case damaged(Damage)
    /// The cryptographic library could not work (no memory for a cipher context).
    case cryptography

    /// What a program gets to see.
    public var errno: Errno {
        switch self {
        case .system(let code): code
        case .damaged: .ioError
        case .cryptography: .noMemory
        }
    }
}

/// Runs a call of the system-call room and turns its error into this room's.
@inline(__always)
package func system<Result>(_ body: () throws(Errno) -> Result) throws(VaultError) -> Result {
    do throws(Errno) {
        return try body()
    } catch {
        throw .system(error)
    }
}
