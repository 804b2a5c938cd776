public import CofferFormat
public import SystemPackage

/// Why a vault could not be unlocked, made or changed.
///
/// Each description is what happened, as the end of a line that began with the vault's name; where there is something
/// to do, it says what.
public enum KeysError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The directory holds no coffer.json.
    case notAVault
    /// The directory holds no coffer.json but one that an interrupted change or copy left beside it, of this name.
    case onlyOtherConfig(String)
    /// The directory that a new vault was to be made in is a vault.
    case alreadyAVault
    /// The directory that a new vault was to be made in holds this entry.
    case notEmpty(String)
    /// coffer.json is not what it was when it was read: somebody else changed it.
    case changedMeanwhile
    /// coffer.json cannot be believed.
    case config(ConfigError)
    /// No slot is of this type.
    case noSlot(type: String)
    /// No slot opens with the secret given.
    case wrongSecret(type: String)
    /// A passphrase without a single byte.
    case emptyPassphrase
    /// A key file without a single byte.
    case emptyKeyFile
    /// What was typed is no recovery code as it was printed; why.
    case mistypedCode(String)
    /// A piece of a recovery secret that cannot be used, by itself or with the others; why.
    case unusableShare(String)
    /// A text that is no recipient; why.
    case badRecipient(String)
    /// A text that is no identity, or one that cannot be used so; why.
    case badIdentity(String)
    /// No slot, or more than one, is meant by this.
    case noSuchSlot(String)
    /// Removing this slot would leave none that a person could use.
    case lastSlot
    /// There are as many slots as there may be.
    case tooManySlots
    /// These slots, by their ids, cannot be given another ring key without their secrets.
    case unrenewable([String])
    /// The vault's key was rotated as often as it can be.
    case noEpochLeft
    /// The bytes of memory that a slot asks for could not be had.
    case outOfMemory(Int)
    /// A system call failed; what it was to do.
    case system(String, Errno)
    /// The vault is not the one that this machine remembers.
    case vaultChanged(VaultChange)
    /// This machine's memory of vaults cannot be used: the file's path and why.
    case damagedMemory(path: String, reason: String)

    /// What happened and what to do.
    public var description: String {
        switch self {
        case .notAVault: "not a vault: it has no \(ConfigFile.name)"
        case .onlyOtherConfig(let name):
            "\(ConfigFile.name) is missing but \(name) is there; copy that to \(ConfigFile.name) to go on with it"
        case .alreadyAVault: "already a vault"
        case .notEmpty(let name): "not empty: it holds \(quoted(name)); choose an empty directory or a new one"
        case .changedMeanwhile:
            "\(ConfigFile.name) was changed by somebody else meanwhile; nothing was written, try again"
        case .config(let error): "\(ConfigFile.name): \(error)"
        case .noSlot(let type): "it has no \(type) slot to unlock it with"
        case .wrongSecret(let type): "wrong \(type)"
        case .emptyPassphrase: "the passphrase is empty"
        case .emptyKeyFile: "the key file is empty"
        case .mistypedCode(let reason): "this is no recovery code: \(reason)"
        case .unusableShare(let reason): "the pieces cannot be used: \(reason)"
        case .badRecipient(let reason): "this is no recipient: \(reason)"
        case .badIdentity(let reason): "this is no identity that can be used: \(reason)"
        case .noSuchSlot(let name):
            "no slot, or more than one, is meant by \(quoted(name)); 'coffer key list' shows their ids"
        case .lastSlot: "this is the last slot that anybody could open the vault with; add another one first"
        case .tooManySlots: "it has \(VaultConfig.slotLimit) slots, which is all that there may be"
        case .unrenewable(let ids):
            "slots \(ids.joined(separator: ", ")) are of another version and cannot be taken along without their secrets; remove them ('coffer key remove'), and add them again after"
        case .noEpochLeft:
            "its key was rotated 255 times, which is all that there is room for; copy its contents to a new vault"
        case .outOfMemory(let bytes):
            "unlocking needs \(bytes >> 20) MiB of memory, which this machine does not have free"
        case .system(let deed, let code): "cannot \(deed): \(code)"
        case .vaultChanged(let change): change.description
        case .damagedMemory(let path, let reason):
            "this machine's memory of vaults, \(path), cannot be used: \(reason); repair the file, or remove it to forget all vaults"
        }
    }
}

/// How a vault differs from what this machine remembers.
public enum VaultChange: Error, Equatable, Sendable, CustomStringConvertible {
    /// A vault with a known id has other keys.
    case keys(vaultID: String)
    /// The place holds a vault with another id than before.
    case vault(location: String, knownID: String, foundID: String)
    /// The configuration is older than one that was seen before.
    case older(knownCounter: UInt64, foundCounter: UInt64)

    /// What was found and what it may mean.
    public var description: String {
        switch self {
        case .keys(let vaultID):
            "its keys are not those that this machine knows for vault \(vaultID): somebody may have put another vault in its place, unless its key was rotated elsewhere ('coffer key rotate')"
        case .vault(_, let knownID, let foundID):
            "this place held vault \(knownID) before and now holds \(foundID): it was replaced by another vault"
        case .older(let knownCounter, let foundCounter):
            "\(ConfigFile.name) has counter \(foundCounter) but this machine has seen \(knownCounter): an older copy was put back"
        }
    }
}

/// A name between quotes, with whatever could steer a terminal made visible.
func quoted(_ name: String) -> String {
    var text = "'"
    for scalar in name.unicodeScalars {
        if scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value) {
            text += "\\u{\(String(scalar.value, radix: 16))}"
        } else {
            text.unicodeScalars.append(scalar)
        }
    }
    return text + "'"
}
