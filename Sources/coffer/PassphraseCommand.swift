import CofferCrypto
import CofferKeys
import Glibc

/// A passphrase from another program, such as a password manager.
enum PassphraseCommand {
    /// The first line that `sh -c command` prints.
    ///
    /// The command's standard input and error are this program's own, so that it can ask.
    static func run(_ command: String) throws(CommandError) -> Passphrase? {
        try run("/bin/sh", ["sh", "-c", command], named: "the passphrase command")
    }

    /// The first line that a program prints.
    static func run(_ program: String, _ words: [String], named name: String) throws(CommandError) -> Passphrase? {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw failure(name, errno) }
        let (reading, writing) = (ends[0], ends[1])
        // The command gets its end as standard output and neither of these.
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        defer { close(reading) }
        let process: pid_t
        do {
            // Closed here, so that the line ends when the command does.
            defer { close(writing) }
            process = try spawn(program, words, named: name, output: writing)
        }
        let line = Result { () throws(CommandError) in try SecretLine.read(reading) }
        drain(reading)
        // First, because a command that failed is why there is no line.
        guard succeeded(process) else {
            throw CommandError(.noPassphrase, "\(name) failed; run it by itself to see why")
        }
        return try line.get()
    }

    private static func spawn(
        _ program: String, _ words: [String], named name: String, output: Int32
    ) throws(CommandError) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var process: pid_t = 0
        let status = posix_spawnp(&process, program, &actions, nil, &arguments, environ)
        guard status == 0 else { throw failure(name, status) }
        return process
    }

    // What follows the first line is of no use, but a command that could not print it would fail.
    private static func drain(_ descriptor: Int32) {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count == 0 || count < 0 && errno != EINTR { break }
        }
        wipe(&buffer)
    }

    private static func succeeded(_ process: pid_t) -> Bool {
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0 {
            if errno != EINTR { return false }
        }
        return status == 0
    }

    private static func failure(_ name: String, _ code: Int32) -> CommandError {
        CommandError(.noPassphrase, "\(name) cannot start: \(String(cString: strerror(code)))")
    }
}
