import CofferFormat
import Glibc
import Testing

@testable import CofferSeal

/// A verification that was broken off goes on, and calls nothing whole that nobody has read.
struct ResumingTests {
    private let sealed: SealedVault
    private let names: [String]

    init() throws {
        sealed = try SealedVault()
        for number in 0..<200 { try sealed.make("file \(number)", [UInt8](repeating: UInt8(number), count: 300)) }
        try sealed.seal()
        names = try sealed.names()
    }

    private func stored(_ index: Int) -> String { sealed.path + "/vault/" + names[index] }

    /// How far a verification is that is broken off when so many records were looked at.
    private func brokenOff(at records: Int) throws -> SealVerification.Progress {
        var kept = SealVerification.Progress()
        var read = 0
        _ = try sealed.verify(readFiles: &read) { progress in
            if progress.records <= records { kept = progress }
        }
        #expect(kept.records == records)
        return kept
    }

    private func resume(_ done: SealVerification.Progress) throws -> (names: [String], read: Int) {
        var read = 0
        let findings = try sealed.verify(done: done, readFiles: &read) { _ in }
        return (findings.map { String(decoding: $0.place.name, as: UTF8.self) }.sorted(), read)
    }

    @Test func whatWasReadIsNotReadAgain() throws {
        let done = try brokenOff(at: 100)
        let (found, read) = try resume(done)
        #expect(found.isEmpty && (100...102).contains(read), "\(read) read")
    }

    /// Entries that came and went, what was missing, and what was changed since, size and time kept.
    @Test func whatChangesBetweenIsFound() throws {
        // Names before all others that were not sealed, and go again.
        let extra = (0..<80).map { sealed.path + "/vault/c-" + String(repeating: "A", count: 39) + String($0 + 100) }
        for path in extra {
            let file = open(path, O_WRONLY | O_CREAT, 0o600)
            close(file)
        }
        try #require(rename(stored(10), sealed.path + "/kept") == 0)
        let done = try brokenOff(at: 100)
        for path in extra { unlink(path) }
        try #require(rename(sealed.path + "/kept", stored(10)) == 0)
        for index in [10, 50, 101, 150] { try sealed.damage(stored(index)) }
        #expect(try resume(done).names == [10, 50, 101, 150].map { names[$0] }.sorted())
    }

    /// A directory that was away, and comes back with a file that was changed before: that file's own times tell nothing.
    @Test func whatWasAwayIsRead() throws {
        let sealed = try SealedVault()
        var all: [(directory: String, file: String)] = []
        for number in 0..<40 { all.append(try sealed.make(directory: "d\(number)", file: "f", [1, 2, 3])) }
        try sealed.seal()
        all.sort { $0.directory < $1.directory }
        for entry in all { try #require(rename(entry.directory, entry.directory + ".away") == 0) }
        for index in [3, 30] {
            try sealed.damage(
                all[index].file.replacing(
                    "/\(name(all[index].directory))/", with: "/\(name(all[index].directory)).away/"), at: 40)
        }
        var read = 0
        var kept = SealVerification.Progress()
        for entry in all.dropFirst(20) { try #require(rename(entry.directory + ".away", entry.directory) == 0) }
        _ = try sealed.verify(readFiles: &read) { kept = $0 }
        for entry in all.prefix(20) { try #require(rename(entry.directory + ".away", entry.directory) == 0) }
        let findings = try sealed.verify(done: kept, readFiles: &read) { _ in }
        #expect(
            Set(findings.map { String(decoding: $0.place.path, as: UTF8.self) })
                == Set([3, 30].map { relative(all[$0].file) }))
    }

    private func name(_ path: String) -> String { String(path.split(separator: "/").last ?? "") }
    private func relative(_ path: String) -> String { path.split(separator: "/").suffix(2).joined(separator: "/") }

    /// What was found the first time is looked at again, and so is everything where other things were compared.
    @Test func whatWasFoundIsFoundAgain() throws {
        try sealed.damage(stored(20))
        var done = try brokenOff(at: 100)
        #expect(try resume(done).names == [names[20]])
        done.comparing = "another"
        #expect(try resume(done).read == 200)
    }
}
