import CofferVault
import Glibc
import Testing

@testable import CofferSeal

/// Small files are compared by the threads that read them: what is not exactly as sealed is told all the same, each kind of it.
struct SmallFilesTests {
    private let sealed: SealedVault
    private let names: [String]

    init() throws {
        sealed = try SealedVault()
        for number in 0..<150 { try sealed.make("file \(number)", [UInt8](repeating: UInt8(number), count: 300)) }
        try sealed.seal()
        names = try sealed.names()
    }

    private func stored(_ index: Int) -> String { sealed.path + "/vault/" + names[index] }

    /// What is said of which entries, and how many files were read for it.
    private func verify(owners: Bool = false) throws -> (found: [String: String], read: Int) {
        var read = 0
        let findings = try sealed.verify(owners: owners, readFiles: &read) { _ in }
        var found: [String: String] = [:]
        for finding in findings {
            let name = String(decoding: finding.place.name, as: UTF8.self)
            found[name, default: ""] += String(describing: finding.kind).prefix { $0 != "(" } + " "
        }
        return (found, read)
    }

    private func setTime(_ path: String, addingNanoseconds: Int) throws {
        var status = stat()
        try #require(stat(path, &status) == 0)
        var times = [status.st_atim, status.st_mtim]
        times[1].tv_nsec = (times[1].tv_nsec + addingNanoseconds) % 1_000_000_000
        try #require(utimensat(AT_FDCWD, path, times, 0) == 0)
    }

    @Test func eachKindOfDifferenceIsTold() throws {
        try sealed.damage(stored(3))
        try #require(chmod(stored(20), 0o640) == 0)
        try sealed.setAttribute(stored(40), "user.coffer.x")
        try setTime(stored(60), addingNanoseconds: 17)
        // Of the same time, and larger than all that was sealed together: that need not be read.
        var status = stat()
        try #require(stat(stored(80), &status) == 0)
        try #require(truncate(stored(80), 1 << 40) == 0)
        try #require(utimensat(AT_FDCWD, stored(80), [status.st_atim, status.st_mtim], 0) == 0)
        // Smaller than that.
        try #require(stat(stored(90), &status) == 0)
        try #require(truncate(stored(90), 5000) == 0)
        try #require(utimensat(AT_FDCWD, stored(90), [status.st_atim, status.st_mtim], 0) == 0)
        try #require(unlink(stored(100)) == 0 && symlink("x", stored(100)) == 0)
        try #require(unlink(stored(120)) == 0 && mkdir(stored(120), 0o700) == 0)
        try #require(unlink(stored(140)) == 0)
        let (found, read) = try verify()
        #expect(
            found == [
                names[3]: "contents ", names[20]: "mode ", names[40]: "attributes ", names[60]: "time ",
                names[80]: "size ", names[90]: "size ", names[100]: "type ", names[120]: "type ",
                names[140]: "missing ",
            ])
        // All but that which is too large, a link, a directory and gone; the vault's own are none.
        #expect(read == names.count - 4)
    }

    @Test func ownersAreComparedWhereThatIsWanted() throws {
        try #require(geteuid() != 0 || chown(stored(7), 12345, 54321) == 0)
        let found = try verify(owners: true).found
        #expect(found == (geteuid() == 0 ? [names[7]: "owner "] : [:]))
        #expect(try verify().found.isEmpty)
    }

    @Test func nothingIsSaidOfAWholeVault() throws {
        let (found, read) = try verify(owners: true)
        #expect(found.isEmpty && read == names.count)
    }
}
