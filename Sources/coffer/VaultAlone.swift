import CofferDisk
import CofferFormat
import CofferKeys
import CofferVault
import Glibc
import Logging
import SystemPackage

/// What a command does first that changes a vault without a mount.
extension VaultDirectory {
    /// Locks the vault: nobody else has it open, for reading neither, for what they know of it would no longer be so.
    func lockAlone() throws(CommandError) {
        let source = try CommandError.naming(path) { () throws(KeysError) in try VaultOpening.location(of: path) }
        do throws(Errno) {
            if try lockUnlessMounted(source: source, exclusive: true) { return }
        } catch {
            throw CommandError(error, "lock it", vault: path)
        }
        throw CommandError(.busy, "\(quoted(path)) is in use; unmount it first")
    }

    /// Takes the vault's lock. A driver whose mount is already gone may still be writing what programs left it: umount(8) does not
    /// wait for that, so this does, for ten seconds at most. While the vault is mounted, nobody waits.
    func lockUnlessMounted(source: String, exclusive: Bool) throws(Errno) -> Bool {
        for _ in 0..<200 {
            if try disk.tryLock(descriptor, exclusive: exclusive) { return true }
            if Mountpoint.mounts().contains(where: { $0.source == source }) { return false }
            usleep(50_000)
        }
        return false
    }

    /// What others have left is on the disk after this.
    func settle() throws(CommandError) {
        do throws(Errno) {
            try Vault.settleAll(disk: disk, rootDescriptor: descriptor)
        } catch {
            throw CommandError(error, "sync it", vault: path)
        }
    }

    /// Does what an intent log or a rotation that was cut short has left.
    func recover(_ opened: UnlockedVault, tellingOfRotation: Bool) throws(CommandError) {
        try settle()
        try IntentLogOpening(
            disk: disk, root: descriptor, opened: opened, vault: path,
            logger: Logger(label: "coffer") { _ in SwiftLogNoOpLogHandler() },
            tellsOfRotation: tellingOfRotation
        ).beforeSharing()
    }

    /// Whether there is an intent log still.
    var hasIntentLog: Bool { LogDirectory.isThere(disk: disk, rootDescriptor: descriptor) }

    /// Whether repairs have put something away.
    var holdsLostAndFound: Bool {
        do throws(Errno) {
            _ = try disk.status(at: descriptor, ReservedName.lostAndFound.cString)
            return true
        } catch {
            return false
        }
    }

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
