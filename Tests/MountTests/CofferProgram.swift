import Foundation
import Glibc

/// The program that is tested, as a person runs it.
enum CofferProgram {
    /// COFFER_BINARY, or what was built beside the tests; nil where there is neither.
    static let path: String? = {
        if let given = ProcessInfo.processInfo.environment["COFFER_BINARY"] {
            return access(given, X_OK) == 0 ? given : nil
        }
        return builtBesideTests("coffer")
    }()

    /// What was built beside the test bundle, which is .build/debug/cofferPackageTests.xctest; nil where there is no such file.
    static func builtBesideTests(_ name: String) -> String? {
        let bundles = CommandLine.arguments.filter { $0.contains(".xctest") } + [CommandLine.arguments[0]]
        return bundles.map { URL(fileURLWithPath: $0).deletingLastPathComponent().path + "/" + name }
            .first { access($0, R_OK) == 0 }
    }

    /// Runs `coffer` with `words` as a person in `directory` would; the machine's memory of vaults is `directory`/state.
    static func run(
        _ words: [String], in directory: String, input: String = "", seconds: Double = 60
    ) throws -> Outcome {
        try MountTests.run(
            commandLine(words, in: directory), environment: environment(directory), input: Array(input.utf8),
            seconds: seconds)
    }

    /// Starts it and returns.
    static func start(
        _ words: [String], in directory: String, environment more: [String: String] = [:]
    ) throws -> RunningProgram {
        try RunningProgram(
            commandLine(words, in: directory), environment: environment(directory).merging(more) { $1 })
    }

    private static func commandLine(_ words: [String], in directory: String) throws -> [String] {
        guard let path else { throw Missing() }
        return ["env", "-C", directory, path] + words
    }

    private static func environment(_ directory: String) -> [String: String] {
        ["COFFER_STATE_DIR": directory + "/state"]
    }

    struct Missing: Error, CustomStringConvertible {
        let description = "no coffer program: build it, or set COFFER_BINARY"
    }
}
