import Foundation
import Glibc
import Testing

/// What the machine that runs the tests has.
///
/// A test that needs more is skipped with the reason.
enum Machine {
    static let isRoot = geteuid() == 0
    static let canMount =
        access("/dev/fuse", R_OK | W_OK) == 0 && (isRoot || has("fusermount3")) && CofferProgram.path != nil
    /// Whether the full sizes are asked for.
    static let isSoaking = ProcessInfo.processInfo.environment["COFFER_SOAK"] == "1"
    /// The cipher that vaults are made with, where another than the usual one is asked for.
    static let cipher = ProcessInfo.processInfo.environment["COFFER_TEST_CIPHER"].map { ["--cipher", $0] } ?? []
    static let hasLoopDevices = isRoot && access("/dev/loop-control", R_OK | W_OK) == 0 && has("mkfs.ext4")

    /// Whether a program is in PATH, or where only root has it.
    static func has(_ program: String) -> Bool {
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        return (path.split(separator: ":").map(String.init) + ["/sbin", "/usr/sbin"]).contains {
            access("\($0)/\(program)", X_OK) == 0
        }
    }
}

extension Trait where Self == ConditionTrait {
    /// The test mounts vaults.
    static var mounts: Self {
        .enabled(
            if: Machine.canMount,
            "needs the coffer program (COFFER_BINARY), /dev/fuse readable and writable, and fusermount3")
    }

    /// The test does what only root may.
    static var root: Self { .enabled(if: Machine.isRoot, "needs root") }

    /// The test makes file systems of its own.
    static var loopDevices: Self { .enabled(if: Machine.hasLoopDevices, "needs root, loop devices and mkfs.ext4") }

    /// The test runs programs that a machine may lack.
    static func programs(_ names: String...) -> Self {
        let missing = names.filter { !Machine.has($0) }
        return .enabled(if: missing.isEmpty, "needs \(missing.joined(separator: ", "))")
    }
}
