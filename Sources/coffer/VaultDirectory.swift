import CofferDisk
import CofferKeys
import Glibc
import SystemPackage

/// A vault's root directory, opened for reading as long as this lives.
final class VaultDirectory {
    /// The path as the person wrote it.
    let path: String
    let disk: Disk
    let descriptor: Int32

    private init(path: String, disk: Disk, descriptor: Int32) {
        self.path = path
        self.disk = disk
        self.descriptor = descriptor
    }

    deinit {
        disk.close(descriptor)
    }

    /// coffer.json in it.
    var configStore: ConfigStore { ConfigStore(disk: disk, directory: descriptor) }

    /// Opens a directory that must be there.
    static func open(_ path: String, disk: Disk = Disk()) throws(CommandError) -> VaultDirectory {
        guard let directory = try openIfThere(path, disk: disk) else {
            throw CommandError(.notAVault, "\(quoted(path)) does not exist")
        }
        return directory
    }

    /// Opens a directory; nil where there is nothing of this name.
    static func openIfThere(_ path: String, disk: Disk = Disk()) throws(CommandError) -> VaultDirectory? {
        do throws(Errno) {
            let descriptor = try disk.open(at: AT_FDCWD, path, flags: O_RDONLY | O_DIRECTORY)
            return VaultDirectory(path: path, disk: disk, descriptor: descriptor)
        } catch {
            if error == .noSuchFileOrDirectory { return nil }
            if error == .notDirectory { throw CommandError(.notAVault, "\(quoted(path)) is not a directory") }
            throw CommandError(error, "open it", vault: path)
        }
    }

    /// Makes a directory, for this user only, so that it survives a power cut.
    static func make(_ path: String, disk: Disk = Disk()) throws(CommandError) -> VaultDirectory {
        do throws(Errno) {
            try disk.makeDirectory(at: AT_FDCWD, path, mode: 0o700)
        } catch {
            throw CommandError(error, "make it", vault: path)
        }
        let directory = try open(path, disk: disk)
        do throws(Errno) {
            let parent = try disk.open(at: directory.descriptor, "..", flags: O_RDONLY | O_DIRECTORY)
            defer { disk.close(parent) }
            try disk.syncEntries(parent)
        } catch {
            throw CommandError(error, "sync the directory it is in", vault: path)
        }
        return directory
    }
}
