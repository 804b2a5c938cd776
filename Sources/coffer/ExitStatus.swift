/// What the program's exit code says; the numbers are documented and stay.
enum ExitStatus: Int32, CaseIterable {
    case success = 0
    case other = 1
    case usage = 2
    case notAVault = 3
    case wrongPassphrase = 4
    case damagedConfig = 5
    case newerFormat = 6
    case vaultChanged = 7
    case busy = 8
    case mountpoint = 9
    case noFUSE = 10
    case inputOutput = 11
    case noPassphrase = 12
    case notEmpty = 13
    case damagedMemory = 14
    case damaged = 15
    case incomplete = 16
    case noSeal = 17

    /// One line for the help.
    var meaning: String {
        switch self {
        case .success: "done"
        case .other: "failed for another reason"
        case .usage: "the command line is wrong"
        case .notAVault: "the directory is not a vault"
        case .wrongPassphrase: "wrong passphrase or other secret"
        case .damagedConfig: "coffer.json is damaged or was changed"
        case .newerFormat: "the vault is of a newer format"
        case .vaultChanged: "the vault is not the one that this machine remembers"
        case .busy: "the vault is in use"
        case .mountpoint: "the mountpoint cannot be used"
        case .noFUSE: "FUSE cannot be used on this machine"
        case .inputOutput: "a file could not be read or written"
        case .noPassphrase: "no passphrase or other secret could be had"
        case .notEmpty: "a new vault's directory is not empty"
        case .damagedMemory: "this machine's memory of vaults is damaged"
        case .damaged: "stored data is damaged"
        case .incomplete: "a copy is not, or not as new as, what was sealed"
        case .noSeal: "there is no seal, or none that is genuine"
        }
    }

    /// All of them, as a table for the help.
    static var table: String {
        allCases.map { status in
            let number = String(status.rawValue)
            return "  " + String(repeating: " ", count: 2 - number.count) + number + "  " + status.meaning
        }.joined(separator: "\n")
    }
}
