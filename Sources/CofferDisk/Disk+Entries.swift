import Glibc
import SystemPackage

/// Btrfs, and fsync(2) of a directory.
///
/// A sync of a file that has lost or got a name since the last commit writes the directory into Btrfs' log, too, without keeping others from making entries there.
/// An entry made before that log is on the disk, and after the directory was looked at, counts as part of it: the next fsync(2) of the directory returns with
/// nothing done, and the entry is not there after a power cut, while what was made after it may be. `Tools/btrfs-entries` shows it: on Linux 6.18 32 of 8,000
/// attempts at it, and none with the following.
extension Disk {
    /// Sees to it that fsync(2) of a directory writes the entries that it has now.
    ///
    /// What a sync that begins from now on writes of the directory has them all. This disk's that are under way are waited for; then the directory is changed,
    /// without anything in it being another, so that it counts as not written. What is left is that a sync of somebody else's, or one that was waited for in vain,
    /// ends just between that change and the fsync(2) after it.
    func prepareSync(of directory: Int32) throws(Errno) {
        do throws(Errno) {
            // What was changed so long ago is committed. The time of change stays as it is.
            if Self.isOld(try status(directory).st_ctim) { return }
            syncsUnderWay.waitForAll(atMost: syncPatience)
            let status = try status(directory)
            // The time of modification would be an old one if something is made there meanwhile.
            try setTimes(directory, access: status.st_atim, modification: Self.unchangedTime)
        } catch {
            // On a read-only file system nothing was made. Else it is somebody else's directory, which only its owner may touch, or the disk fails, and may tell.
            if error != .readOnlyFileSystem { try syncFileSystem(directory) }
        }
    }

    /// Btrfs commits every 30 seconds where it is not told otherwise.
    private static func isOld(_ time: timespec) -> Bool {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return now.tv_sec - time.tv_sec > 3600
    }
}
