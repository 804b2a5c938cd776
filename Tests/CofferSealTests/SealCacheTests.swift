import Glibc
import Testing

@testable import CofferSeal

/// What is known of files since they were sealed last is believed only where nothing can have changed.
struct SealCacheTests {
    private func make() throws -> (SealedVault, [String]) {
        let sealed = try SealedVault()
        let paths = try (0..<20).map { try sealed.make("file \($0)", [UInt8](repeating: 7, count: 300)) }
        return (sealed, paths)
    }

    /// Changed in the two seconds before they were read: perhaps after, too.
    @Test func whatWasChangedJustNowIsReadAgain() throws {
        let (sealed, paths) = try make()
        #expect(try sealed.seal().totals.filesRead == 20)
        #expect(try sealed.seal().totals.filesRead == 20)
        usleep(2_300_000)
        #expect(try sealed.seal().totals.filesRead == 20)
        #expect(try sealed.seal().totals.filesRead == 0)
        // The time of change is what tells.
        try sealed.damage(paths[3])
        let outcome = try sealed.seal()
        #expect(outcome.totals.filesRead == 1 && outcome.damaged.count == 1)
        #expect(try sealed.seal(sealed.sealing(readsAll: true)).totals.filesRead == 20)
    }

    /// One that is damaged anywhere is none.
    @Test func aDamagedCacheIsNone() throws {
        let (sealed, _) = try make()
        usleep(2_300_000)
        try sealed.seal()
        #expect(try sealed.seal().totals.filesRead == 0)
        var status = stat()
        try #require(stat(sealed.cachePath, &status) == 0)
        for offset in [0, 20, Int(status.st_size) / 2, Int(status.st_size) - 1] {
            try sealed.damage(sealed.cachePath, at: offset)
            #expect(try sealed.seal().totals.filesRead == 20, "byte \(offset)")
        }
        try #require(truncate(sealed.cachePath, Int(status.st_size) - 40) == 0)
        #expect(try sealed.seal().totals.filesRead == 20)
        #expect(access(sealed.cachePath + ".new", F_OK) != 0)
    }
}
