import CofferDisk
import Glibc
import SystemPackage

/// `mount -o remount`: other flags for a vault that is mounted already. The kernel writes back what programs wrote before it
/// makes a mount read-only.
struct Remount {
    // statvfs(3) and mount(2) number these alike, but for relatime.
    private static let flags: [(on: String, off: String, bit: UInt)] = [
        ("ro", "rw", 1), ("nosuid", "suid", 2), ("nodev", "dev", 4), ("noexec", "exec", 8), ("sync", "async", 16),
        ("dirsync", "", 128), ("noatime", "atime", 1024), ("nodiratime", "diratime", 2048),
    ]
    private static let remount: UInt = 32

    /// Changes the flags that `options` names; the others stay.
    static func apply(_ options: String, vault: String, mountpoint: String) throws(CommandError) {
        guard let resolved = realpath(mountpoint, nil) else {
            throw CommandError(.mountpoint, "\(quoted(mountpoint)): \(String(cString: strerror(errno)))")
        }
        let path = String(cString: resolved)
        free(resolved)
        guard let mount = Mountpoint.mounts().last(where: { $0.path == path }) else {
            throw CommandError(.mountpoint, "no vault is mounted on \(quoted(mountpoint))")
        }
        var status = statvfs()
        guard statvfs(path, &status) == 0 else {
            throw CommandError(.mountpoint, "\(quoted(mountpoint)): \(String(cString: strerror(errno)))")
        }
        var bits: UInt = 0
        for flag in flags where status.f_flag & flag.bit != 0 { bits |= flag.bit }
        let wasReadOnly = bits & 1 != 0
        for word in options.split(separator: ",") {
            for flag in flags {
                if word == flag.on { bits |= flag.bit }
                if word == flag.off { bits &= ~flag.bit }
            }
        }
        if wasReadOnly && bits & 1 == 0 { try checkWriter(mount.source) }
        guard Glibc.mount(nil, path, nil, bits | remount, nil) == 0 else {
            throw CommandError(
                .mountpoint, "\(quoted(mountpoint)) cannot be remounted: \(String(cString: strerror(errno)))")
        }
    }

    /// A driver that was started to read holds the vault's lock as a reader, and must not be asked to write.
    private static func checkWriter(_ vault: String) throws(CommandError) {
        let disk = Disk()
        do throws(Errno) {
            let descriptor = try disk.open(at: AT_FDCWD, vault, flags: O_RDONLY | O_DIRECTORY)
            defer { disk.close(descriptor) }
            guard try disk.tryLock(descriptor, exclusive: false) else { return }
        } catch {
            throw CommandError(error, "open it", vault: vault)
        }
        throw CommandError(
            .busy, "\(quoted(vault)) was mounted read-only or shared; unmount it and mount it again to write")
    }
}
