import CofferDisk
import SystemPackage

/// A ciphertext directory that stays open as long as anybody has it.
package final class SharedDirectory: @unchecked Sendable {
    package let descriptor: Int32
    private let disk: Disk

    /// A duplicate of an open one, an `O_PATH` one perhaps.
    package init(disk: Disk, duplicating descriptor: Int32) throws(VaultError) {
        self.disk = disk
        self.descriptor = try system { () throws(Errno) in try disk.duplicate(descriptor) }
    }

    deinit { disk.close(descriptor) }
}
