import CofferFormat
import Glibc

/// What threads that hash compare right away, so that of most files nobody else has to hear.
struct SealComparison: Sendable {
    /// What is larger is not read: it is not what was sealed.
    var sizeLimit = Int.max
    /// Owners and groups, too.
    var owners = false

    /// Whether a file is exactly what was sealed. Where it is not, there may still be nothing wrong with it.
    func holds(_ sealed: SealRecord, _ found: FileHashing.Result) -> Bool {
        guard case .file(let size, let contents) = sealed.kind, !sealed.isUnsure, !sealed.isDamaged, !found.isUnsure,
            !found.isTooLarge
        else { return false }
        let status = found.status
        return size == UInt64(status.st_size) && contents == found.contents && sealed.mode == UInt32(status.st_mode)
            && sealed.attributes == found.attributes && sealed.time == SealTime.nanoseconds(status.st_mtim)
            && (!owners || sealed.owner == status.st_uid && sealed.group == status.st_gid)
    }
}
