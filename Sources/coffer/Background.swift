import CLinux
import Glibc

/// Leaving the terminal: the parent waits until the child's mount answers, and ends as the child did where it does not.
struct Background: Sendable {
    /// Written to once the mount answers.
    private let pipe: Int32

    /// Splits the process. Returns in the child only; the parent exits when the child is ready or has ended.
    static func fork() throws(CommandError) -> Background {
        var ends: [Int32] = [0, 0]
        guard Glibc.pipe(&ends) == 0 else {
            throw CommandError(.other, "no pipe: \(String(cString: strerror(errno)))")
        }
        let child = coffer_fork()
        if child < 0 { throw CommandError(.other, "no process: \(String(cString: strerror(errno)))") }
        if child == 0 {
            close(ends[0])
            _ = coffer_fcntl_int(ends[1], F_SETFD, FD_CLOEXEC)
            return Background(pipe: ends[1])
        }
        close(ends[1])
        var byte: UInt8 = 0
        while true {
            let got = read(ends[0], &byte, 1)
            if got == 1 { exit(ExitStatus.success.rawValue) }
            if got < 0 && errno == EINTR { continue }
            break
        }
        // The child has said why on standard error.
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0 && errno == EINTR {}
        exit(coffer_wifexited(status) != 0 ? coffer_wexitstatus(status) : ExitStatus.other.rawValue)
    }

    /// Lets the parent go, and the terminal and the working directory with it.
    func ready() {
        setsid()
        let null = open("/dev/null", O_RDWR)
        if null >= 0 {
            for descriptor in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] { dup2(null, descriptor) }
            if null > STDERR_FILENO { close(null) }
        }
        var byte: UInt8 = 1
        _ = write(pipe, &byte, 1)
        close(pipe)
    }
}
