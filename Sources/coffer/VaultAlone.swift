import CofferDisk
import CofferFormat
import CofferKeys
import CofferVault
import Logging
import SystemPackage

/// What a command does first that changes a vault without a mount.
extension VaultDirectory {
    /// Locks the vault: nobody else has it open, for reading neither, for what they know of it would no longer be so.
    func lockAlone() throws(CommandError) {
        do throws(Errno) {
            if try disk.tryLock(descriptor, exclusive: true) { return }
        } catch {
            throw CommandError(error, "lock it", vault: path)
        }
        throw CommandError(.busy, "\(quoted(path)) is in use; unmount it first")
    }

    /// Does what an intent log or a rotation that was cut short has left.
    func recover(_ opened: UnlockedVault, tellingOfRotation: Bool) throws(CommandError) {
        try IntentLogOpening(
            disk: disk, root: descriptor, opened: opened, vault: path, logger: Logger(label: "coffer"),
            tellsOfRotation: tellingOfRotation
        ).beforeSharing()
    }

    /// Whether there is an intent log still.
    var hasIntentLog: Bool { LogDirectory.isThere(disk: disk, rootDescriptor: descriptor) }

    /// The vault's contents under some of its keys.
    func content(_ opened: UnlockedVault, ring: KeyRing) throws(VaultError) -> Vault {
        do throws(Errno) {
            return Vault(
                disk: disk, rootDescriptor: try disk.duplicate(descriptor), ring: ring,
                vaultID: opened.config.vaultID, cipher: opened.config.cipher, nameMax: opened.config.nameMax)
        } catch {
            throw .system(error)
        }
    }
}
