import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// The way to what a person's modes may keep even themselves from.
extension Disk {
    /// Runs `body` while the owner of an object has these permissions.
    package func withMode<Result>(
        _ needed: mode_t, of object: Int32, _ body: () throws(Errno) -> Result
    ) throws(Errno) -> Result {
        let status = try status(object)
        let mode = status.st_mode & 0o7777
        guard mode & needed != needed, status.st_uid == geteuid(), geteuid() != 0 else { return try body() }
        try setMode(object, mode | needed)
        let result: Swift.Result<Result, Errno> = Swift.Result { () throws(Errno) in try body() }
        try setMode(object, mode)
        return try result.get()
    }

    /// Lends the directory that a path's last name is in, with its owner let in where a mode keeps them out.
    func withParent<Result>(
        of path: [StoredName], below root: Int32, _ body: (Int32, StoredName) throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        guard let name = path.last else { throw .system(.invalidArgument) }
        var parent = try system { () throws(Errno) in try duplicate(root) }
        defer { close(parent) }
        for step in path.dropLast() {
            let next = try system { () throws(Errno) in
                try withMode(0o100, of: parent) { () throws(Errno) in
                    try open(at: parent, step.cString, flags: Disk.pathOnly | O_DIRECTORY | O_NOFOLLOW)
                }
            }
            close(parent)
            parent = next
        }
        let directory = parent
        var failure: VaultError?
        let result = try system { () throws(Errno) in
            try withMode(0o300, of: directory) { () throws(Errno) -> Result? in
                do throws(VaultError) {
                    return try body(directory, name)
                } catch {
                    failure = error
                    return nil
                }
            }
        }
        if let failure { throw failure }
        guard let result else { throw .system(.invalidArgument) }
        return result
    }
}
