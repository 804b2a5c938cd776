import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// What lets only one of several processes change a vault's names at a time: flock(2) on its `coffer.json`.
///
/// Making a name reads what its directory answers to, and a rename changes that. To be used by one thread at a time.
final class NameLock: @unchecked Sendable {
    private let disk: Disk
    private let root: Int32
    private var descriptor: Int32 = -1

    init(disk: Disk, root: Int32) {
        self.disk = disk
        self.root = root
    }

    deinit {
        if descriptor >= 0 { disk.close(descriptor) }
    }

    /// Runs `body` while no other process is in its own. Where the file system has no locks, it runs all the same.
    func with<Result>(_ body: () throws(VaultError) -> Result) throws(VaultError) -> Result {
        let isLocked: Bool
        do throws(Errno) {
            isLocked = try lock()
        } catch {
            throw .system(error)
        }
        defer { if isLocked { disk.releaseLock(descriptor) } }
        return try body()
    }

    private func lock() throws(Errno) -> Bool {
        while true {
            if descriptor < 0 {
                descriptor = try disk.open(
                    at: root, ReservedName.configuration.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            }
            guard try disk.waitForLock(descriptor, exclusive: true) else { return false }
            // A changed key puts another file in its place; a lock on the old one excludes nobody.
            let held = try disk.status(descriptor)
            let named = try disk.status(at: root, ReservedName.configuration.cString)
            if held.st_ino == named.st_ino && held.st_dev == named.st_dev { return true }
            disk.close(descriptor)
            descriptor = -1
        }
    }
}
