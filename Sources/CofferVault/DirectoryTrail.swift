import CofferDisk
import Glibc
import SystemPackage

/// Directories from a first one down, each in the one before it.
///
/// However deep it goes, only the last few are open. Those above are found again by `..`, and only if what is found is the same directory still.
package struct DirectoryTrail: ~Copyable {
    private static let openLimit = 32

    private struct Step {
        /// -1 where it was closed again.
        var descriptor: Int32
        let device: UInt64
        let number: UInt64
    }

    private let disk: Disk
    private var steps: [Step] = []
    private let first: Int32

    /// A trail from `first`, which stays the caller's.
    package init(disk: Disk, first: Int32) {
        self.disk = disk
        self.first = first
    }

    deinit {
        for step in steps where step.descriptor >= 0 { disk.close(step.descriptor) }
    }

    /// The deepest directory's descriptor.
    package var last: Int32 { steps.last?.descriptor ?? first }

    /// Goes into a directory in the last one, whose descriptor is the trail's from here on, also where this throws.
    package mutating func enter(_ descriptor: Int32) throws(Errno) {
        let status: stat
        do throws(Errno) {
            status = try disk.status(descriptor)
        } catch {
            disk.close(descriptor)
            throw error
        }
        steps.append(
            Step(descriptor: descriptor, device: UInt64(status.st_dev), number: UInt64(status.st_ino)))
        let far = steps.count - 1 - Self.openLimit
        if far >= 0, steps[far].descriptor >= 0 {
            disk.close(steps[far].descriptor)
            steps[far].descriptor = -1
        }
    }

    /// Goes back to the one that holds the last. `ESTALE` where that has moved meanwhile.
    package mutating func leave() throws(Errno) {
        guard let left = steps.popLast() else { return }
        defer { disk.close(left.descriptor) }
        guard let above = steps.last, above.descriptor < 0 else { return }
        let descriptor = try disk.open(at: left.descriptor, "..", flags: Disk.pathOnly | O_DIRECTORY)
        do throws(Errno) {
            let status = try disk.status(descriptor)
            guard UInt64(status.st_dev) == above.device, UInt64(status.st_ino) == above.number else {
                throw .staleNFSFileHandle
            }
        } catch {
            disk.close(descriptor)
            throw error
        }
        steps[steps.count - 1].descriptor = descriptor
    }
}
