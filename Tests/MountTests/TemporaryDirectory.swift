import Foundation
import Glibc
import SystemPackage

/// A directory of a test's own, removed with everything in it when the test lets go of it.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        var template = Array("\(FileManager.default.temporaryDirectory.path)/coffer-mount-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        // Never into a mount: what is still mounted was told by its own test, and stays.
        do {
            let outcome = try run(["rm", "-rf", "--one-file-system", path], seconds: 300)
            if outcome.status != 0 { print("could not remove \(path): \(outcome)") }
        } catch {
            print("could not remove \(path): \(error)")
        }
    }
}
