import Foundation
import Glibc
import Synchronization
import SystemPackage

/// A program that a test started, in a process group of its own; killed with its children when the test lets go of it.
final class RunningProgram: Sendable {
    let id: pid_t
    private let words: [String]
    private let output: Int32
    private let errors: Int32
    /// The exit code, or 128 + the signal, once the program was reaped.
    private let ended = Mutex<Int32?>(nil)

    /// Starts `words`, found in PATH, with `environment` added to the test's own.
    ///
    /// Standard input is `input` or nothing.
    init(_ words: [String], environment: [String: String] = [:], input: [UInt8] = []) throws {
        self.words = words
        output = try unnamedFile()
        errors = try unnamedFile()
        let inputFile = try unnamedFile(holding: input)
        defer { close(inputFile) }

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for (from, to) in [(inputFile, STDIN_FILENO), (output, STDOUT_FILENO), (errors, STDERR_FILENO)] {
            posix_spawn_file_actions_adddup2(&actions, from, to)
        }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))

        let variables = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        var argumentList = words.map { strdup($0) } + [nil]
        var variableList = variables.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in argumentList + variableList { free(pointer) } }
        var child = pid_t()
        let failure = posix_spawnp(&child, words[0], &actions, &attributes, &argumentList, &variableList)
        guard failure == 0 else { throw Errno(rawValue: failure) }
        id = child
    }

    deinit {
        if poll() == nil {
            signal(SIGKILL)
            _ = wait(seconds: 10)
        }
        close(output)
        close(errors)
    }

    /// How the program ended, or nil while it runs.
    @discardableResult
    func poll() -> Int32? {
        ended.withLock { ended in
            if ended == nil {
                var status: Int32 = 0
                let got = waitpid(id, &status, WNOHANG)
                if got == id { ended = status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + status & 0x7f }
            }
            return ended
        }
    }

    /// How the program ended, or nil if it still runs after `seconds`.
    func wait(seconds: Double) -> Int32? {
        let end = Date(timeIntervalSinceNow: seconds)
        var pause: UInt32 = 500
        while true {
            if let status = poll() { return status }
            if Date() > end { return nil }
            usleep(pause)
            pause = min(pause * 2, 20_000)
        }
    }

    /// Returns once the program has read so many bytes, of whatever, or has ended; after `seconds` in any case.
    func waitUntilRead(_ count: Int, seconds: Double = 60) {
        let end = Date(timeIntervalSinceNow: seconds)
        while poll() == nil, Date() < end {
            // Of one that has just ended there are none.
            let counters = (try? String(contentsOfFile: "/proc/\(id)/io", encoding: .utf8)) ?? ""
            let line = counters.split(separator: "\n").first { $0.hasPrefix("rchar: ") }
            if let line, let read = Int(line.dropFirst("rchar: ".count)), read >= count { return }
            usleep(500)
        }
    }

    /// Sends a signal to the program and what it started.
    func signal(_ number: Int32) {
        if poll() == nil { kill(-id, number) }
    }

    /// What the program has written so far, and how it ended.
    func outcome(_ status: Int32) -> Outcome {
        Outcome(words: words, status: status, output: contents(of: output), errors: contents(of: errors))
    }
}

/// How a program ended and what it said.
struct Outcome: CustomStringConvertible, Error {
    let words: [String]
    /// The exit code, or 128 + the signal that ended it.
    let status: Int32
    let output: String
    let errors: String

    /// The output without the newline at its end.
    var line: String { output.hasSuffix("\n") ? String(output.dropLast()) : output }

    var description: String {
        "\(words.joined(separator: " ")) ended with \(status)\n\(output.suffix(4000))\(errors.suffix(4000))"
    }
}

/// A program did not end in time.
struct Hang: Error, CustomStringConvertible {
    let description: String
}

/// Runs a program to its end; one that takes longer than `seconds` is killed and fails the test.
func run(
    _ words: [String], environment: [String: String] = [:], input: [UInt8] = [], seconds: Double = 120
) throws -> Outcome {
    let program = try RunningProgram(words, environment: environment, input: input)
    if let status = program.wait(seconds: seconds) { return program.outcome(status) }
    let said = program.outcome(-1)
    program.signal(SIGKILL)
    throw Hang(description: "still running after \(seconds) s: \(said)")
}

/// Runs a script with bash in a directory, and throws its outcome if it fails.
///
/// Returns what it wrote to standard output.
@discardableResult
func shell(
    _ script: String, in directory: String, environment: [String: String] = [:], seconds: Double = 120
) throws -> String {
    let outcome = try tryShell(script, in: directory, environment: environment, seconds: seconds)
    guard outcome.status == 0 else { throw outcome }
    return outcome.line
}

/// As `shell`, for a script that may fail.
func tryShell(
    _ script: String, in directory: String, environment: [String: String] = [:], seconds: Double = 120
) throws -> Outcome {
    try run(
        ["env", "-C", directory, "bash", "-eu", "-o", "pipefail", "-O", "extglob", "-c", script],
        environment: environment,
        seconds: seconds)
}

/// A new file that has no name, at its beginning.
private func unnamedFile(holding bytes: [UInt8] = []) throws -> Int32 {
    let name = FileManager.default.temporaryDirectory.path + "/coffer-output-" + UUID().uuidString
    let descriptor = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    unlink(name)
    guard bytes.isEmpty || pwrite(descriptor, bytes, bytes.count, 0) == bytes.count else {
        throw Errno(rawValue: errno)
    }
    return descriptor
}

private func contents(of descriptor: Int32) -> String {
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_size > 0 else { return "" }
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    let got = pread(descriptor, &bytes, bytes.count, 0)
    return String(decoding: bytes.prefix(max(0, got)), as: UTF8.self)
}
