import CofferMount
import Glibc

/// A directory that a vault is to be mounted on, or that one is mounted on.
struct Mountpoint {
    /// Absolute, without symbolic links.
    let path: String

    /// Checks a mountpoint before anything else is done: it must be an empty directory outside the vault.
    init(_ given: String, vault: String) throws(CommandError) {
        guard let resolved = realpath(given, nil) else {
            let reason = errno == ENOENT ? "does not exist; make it with mkdir" : String(cString: strerror(errno))
            throw CommandError(.mountpoint, "mountpoint \(quoted(given)) \(reason)")
        }
        path = String(cString: resolved)
        free(resolved)
        guard let stream = opendir(path) else {
            let reason = errno == ENOTDIR ? "is not a directory" : "cannot be read: \(String(cString: strerror(errno)))"
            throw CommandError(.mountpoint, "mountpoint \(quoted(given)) \(reason)")
        }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." {
                throw CommandError(
                    .mountpoint, "mountpoint \(quoted(given)) is not empty; mount on an empty directory")
            }
        }
        guard let root = realpath(vault, nil) else { return }
        defer { free(root) }
        let vaultPath = String(cString: root)
        if path == vaultPath || path.hasPrefix(vaultPath == "/" ? "/" : vaultPath + "/") {
            throw CommandError(
                .mountpoint, "mountpoint \(quoted(given)) is inside the vault; choose a directory outside")
        }
    }

    /// One line of /proc/self/mountinfo that is of interest here.
    struct Mount {
        let path: String
        let source: String
    }

    /// Every mounted vault.
    static func mounts() -> [Mount] {
        guard let file = fopen("/proc/self/mountinfo", "re") else { return [] }
        defer { fclose(file) }
        var mounts: [Mount] = []
        var line: UnsafeMutablePointer<CChar>?
        var room = 0
        defer { free(line) }
        while getline(&line, &room, file) > 0 {
            guard let line else { break }
            // 36 35 98:0 /root /mountpoint options - type source super-options
            let words = String(cString: line).split(separator: " ")
            guard words.count > 4, let dash = words.firstIndex(of: "-"), dash + 2 < words.count,
                words[dash + 1] == "fuse.coffer"
            else { continue }
            mounts.append(Mount(path: unescape(words[4]), source: unescape(words[dash + 2])))
        }
        return mounts
    }

    /// Undoes the kernel's octal escapes.
    private static func unescape(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), rest.count >= 3,
                let code = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8)
            {
                bytes.append(code)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
