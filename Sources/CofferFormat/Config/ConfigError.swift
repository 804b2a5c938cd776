/// Why a coffer.json is not believed.
///
/// Each description is one line that follows the file's name and a colon.
public enum ConfigError: Error, Equatable, Sendable, CustomStringConvertible {
    /// More bytes than a configuration may have.
    case tooLarge
    /// The text is not the subset of JSON that a configuration is; the offset is in bytes.
    case malformed(offset: Int, reason: String)
    /// A member has a value that it may not have: the member's path, such as `slots[0].opslimit`, and what is wrong
    /// with it.
    case field(String, problem: String)
    /// A later version of Coffer made this vault.
    case newerFormat(Int)
    /// The file's MAC does not match its bytes.
    case macMismatch
    /// A slot's own MAC does not match its members.
    case slotMACMismatch(path: String)
    /// A key could not be held or derived.
    case outOfMemory

    /// What is wrong, without the file's name.
    public var description: String {
        switch self {
        case .tooLarge: "larger than \(ConfigFile.byteLimit) bytes"
        case .malformed(let offset, let reason): "malformed at byte \(offset): \(reason)"
        case .field(let path, let problem): "\(path) \(problem)"
        case .newerFormat(let format): "format \(format) is newer than this version of Coffer, which knows format 1"
        case .macMismatch: "its mac does not match: the file was changed or damaged"
        case .slotMACMismatch(let path): "\(path).mac does not match: the slot was changed or damaged"
        case .outOfMemory: "not enough memory for its keys"
        }
    }
}
