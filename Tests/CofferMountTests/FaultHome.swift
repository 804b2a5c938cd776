import Foundation
import Glibc
import SystemPackage

/// Where the vault and its mountpoint are: in memory where that has what a vault needs, for a sync of a disk takes long and fails no other calls.
final class FaultHome {
    static let canMount =
        access("/dev/fuse", R_OK | W_OK) == 0
        && (geteuid() == 0
            || ["/bin", "/usr/bin", "/usr/local/bin"].contains { access("\($0)/fusermount3", X_OK) == 0 })

    let path: String

    init() throws {
        let base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : FileManager.default.temporaryDirectory.path
        var template = Array("\(base)/coffer-faults-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        for name in ["vault", "mount"] { try ProgramCalls.check(mkdir("\(path)/\(name)", 0o755)) }
    }

    /// Whether an intent log was left.
    var hasLog: Bool { access("\(path)/vault/coffer.log", F_OK) == 0 }

    /// What this process has open in the vault besides the log: its descriptors, and the paths in the vault.
    private func descriptors() -> [(number: Int32, path: String)] {
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")
        } catch {
            return []
        }
        return names.compactMap { name in
            var target = [CChar](repeating: 0, count: 4096)
            let count = readlink("/proc/self/fd/\(name)", &target, target.count)
            let path = String(decoding: target.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
            guard let number = Int32(name), path.hasPrefix("\(self.path)/vault"), !path.contains("/coffer.log") else {
                return nil
            }
            return (number, String(path.dropFirst(self.path.count)))
        }
    }

    /// The files, but not the directories, that this process has open in the vault.
    var openFiles: [String] {
        descriptors().compactMap { number, path in
            var status = stat()
            return fstat(number, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR ? nil : path
        }
    }

    /// Begins anew.
    func empty() throws {
        try FileManager.default.removeItem(atPath: "\(path)/vault")
        try ProgramCalls.check(mkdir("\(path)/vault", 0o755))
    }

    deinit {
        // Never into a mount.
        if rmdir("\(path)/mount") != 0 { return print("\(path) is left: something is mounted in it") }
        do {
            try FileManager.default.removeItem(atPath: path)
        } catch {
            print("could not remove \(path): \(error)")
        }
    }
}
