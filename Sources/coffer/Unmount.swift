import ArgumentParser
import CofferDisk
import CofferMount
import Glibc
import SystemPackage

/// `coffer unmount`.
struct Unmount: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "End a mount, with everything written to the vault.",
        discussion: """
            Returns when the vault is closed and may be copied or mounted elsewhere.

            Examples:
              coffer unmount ~/Photos
            """)

    @Argument(help: "Where the vault is mounted.")
    var mountpoint: String

    @Flag(help: "Take the mount away now though programs use it; it ends with the last of them.")
    var lazy = false

    func run() throws {
        guard let resolved = realpath(mountpoint, nil) else {
            throw CommandError(.mountpoint, "\(quoted(mountpoint)): \(String(cString: strerror(errno)))")
        }
        let path = String(cString: resolved)
        free(resolved)
        guard let mount = Mountpoint.mounts().last(where: { $0.path == path }) else {
            throw CommandError(.mountpoint, "no vault is mounted on \(quoted(mountpoint))")
        }
        // Before the mount is gone everything must have reached the driver; an error here is seen below as a mount
        // that stays busy.
        Unmounting.flush(path)
        guard Unmounting.detach(path, lazily: lazy) else {
            throw CommandError(
                .busy,
                """
                \(quoted(mountpoint)) is in use; close the programs that use it \
                ('fuser -vm \(printable(mountpoint))' lists them), or use --lazy
                """)
        }
        if !lazy { try Self.waitUntilClosed(mount.source) }
    }

    /// The driver holds a lock on the vault until it has ended. Other readers may hold theirs on.
    private static func waitUntilClosed(_ vault: String) throws(CommandError) {
        let disk = Disk()
        for attempt in 0..<600 {
            do throws(Errno) {
                let descriptor = try disk.open(at: AT_FDCWD, vault, flags: O_RDONLY | O_DIRECTORY)
                defer { disk.close(descriptor) }
                if try disk.tryLock(descriptor, exclusive: true) { return }
                // Readers that stay longer than this mount's driver takes to end: nobody writes.
                if attempt >= 20, try disk.tryLock(descriptor, exclusive: false) { return }
            } catch {
                // The vault cannot be looked at from here (another mount namespace, say): the kernel has unmounted it.
                return
            }
            usleep(50_000)
        }
        throw CommandError(
            .busy, "unmounted, but the vault \(quoted(vault)) is still being written; wait before copying it")
    }
}
