import CLinux
import Glibc

/// Taking a mount away.
public enum Unmounting {
    /// Unmounts; false where it is busy (or was gone). An ordinary user's mounts go by fusermount3, which may.
    public static func detach(_ mountpoint: String, lazily: Bool) -> Bool {
        if geteuid() == 0 {
            return coffer_umount2(mountpoint, lazily ? COFFER_MNT_DETACH : 0) == 0
        }
        return run(["fusermount3", "-u", "-q"] + (lazily ? ["-z"] : []) + ["--", mountpoint])
    }

    /// Makes the kernel hand over everything that programs wrote.
    public static func flush(_ mountpoint: String) {
        let descriptor = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        _ = coffer_syncfs(descriptor)
        close(descriptor)
    }

    /// As ``flush(_:)``, and makes the driver bring all of it to the vault. False where what is mounted does not know how.
    public static func settle(_ mountpoint: String) -> Bool {
        let descriptor = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        _ = coffer_syncfs(descriptor)
        return coffer_settle(descriptor) == 0
    }

    private static func run(_ arguments: [String]) -> Bool {
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        // The signals that this process waits for are blocked here; the child must not inherit that.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var child = pid_t()
        guard posix_spawnp(&child, arguments[0], nil, &attributes, &pointers, environ) == 0 else { return false }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0 && errno == EINTR {}
        return coffer_wifexited(status) != 0 && coffer_wexitstatus(status) == 0
    }
}
