import CofferFormat

/// What a stored name that a seal is about stands for.
enum ReservedKind: Equatable {
    /// A plaintext entry.
    case content
    /// A piece of a long name, with that name's tag.
    case companion(tag: [UInt8])
    /// A directory's records.
    case directory
    /// A part of a link's target.
    case overflow
    /// `coffer.json` or the version before it.
    case configuration

    init(_ name: [UInt8]) {
        switch NameCodec.kind(of: name) {
        case .short, .long, .dots, .foreign: self = .content
        case .companion(let tag, _, _): self = .companion(tag: tag)
        case .reserved:
            self =
                name == ReservedName.directory.bytes
                ? .directory : ReservedName.overflowCompanion(name) == nil ? .configuration : .overflow
        }
    }
}
