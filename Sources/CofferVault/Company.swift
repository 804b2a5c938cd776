import Glibc

/// Who else may change a vault's files while this process has them open.
public enum Company: Sendable {
    /// Nobody: what was read once stays true.
    case alone
    /// Others may; this process only reads.
    case watching
    /// Others do, and so does this process.
    case together
}

/// What tells that a backing file was changed.
package struct FileStamp: Equatable {
    private let size: Int
    private let seconds: [Int]
    private let nanoseconds: [Int]

    package init(_ status: stat) {
        size = status.st_size
        seconds = [status.st_mtim.tv_sec, status.st_ctim.tv_sec]
        nanoseconds = [status.st_mtim.tv_nsec, status.st_ctim.tv_nsec]
    }
}
