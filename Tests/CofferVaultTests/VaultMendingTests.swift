import CofferDisk
import CofferFormat
import Foundation
import Glibc
import SystemPackage
import Testing

@testable import CofferVault

/// `VaultMending`: what can be had back without another copy comes back, and nothing that could be read before is lost.
struct VaultMendingTests {
    private let longName = String(repeating: "n", count: 240)

    /// A vault with a renamed directory, long names, and files of several blocks.
    private func make(disk: Disk = Disk()) throws -> TreeVault {
        let vault = try TreeVault(disk: disk)
        try vault.makeDirectory("/old")
        try vault.makeFile("/old/in", bytes(5000))
        try vault.makeDirectory("/old/sub")
        try vault.makeFile("/old/sub/deep", bytes(100))
        try vault.makeLink("/old/sub/link", to: "deep")
        try vault.rename("/old", to: "/new")
        try vault.makeDirectory("/other")
        try vault.makeFile("/other/one", bytes(10))
        try vault.makeFile("/other/two", bytes(20))
        try vault.makeDirectory("/\(longName)")
        try vault.makeFile("/\(longName)/\(longName)", bytes(30))
        try vault.makeFile("/big", bytes(100_000))
        return vault
    }

    private func bytes(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7 >> 2 | 1) } }

    @discardableResult
    private func mend(
        _ vault: TreeVault, dry: Bool = false
    ) throws -> (left: [CheckFinding], outcomes: [VaultMending.Outcome]) {
        var outcomes: [VaultMending.Outcome] = []
        let mending = try VaultMending(
            vault.vault, isDryRun: dry, onOutcome: { outcomes.append($1) }, onProgress: { _ in })
        return (try mending.run(), outcomes)
    }

    private func contents(_ vault: TreeVault, _ path: String) throws -> [UInt8] {
        let (parent, name) = try vault.parent(path)
        let file = try vault.tree.read(try vault.tree.entry(name, in: parent), in: parent, vault.scratch)
        var bytes = [UInt8](repeating: 0, count: file.size)
        let size = file.size
        let got = try bytes.withUnsafeMutableBytes {
            try file.read(into: try #require($0.baseAddress), count: size, at: 0)
        }
        #expect(got == size)
        return bytes
    }

    @Test func aDirectoryThatLostItsRecordsIsReadAgain() throws {
        let vault = try make()
        try #require(unlink(try vault.stored("/new") + "/coffer.dir") == 0)
        #expect(try vault.list("/new") == ["?", "?"])
        let dry = try mend(vault, dry: true)
        #expect(dry.left.count == 2 && dry.outcomes.count == 2)
        #expect(try vault.list("/new") == ["?", "?"])
        #expect(try mend(vault).left.isEmpty)
        #expect(try vault.list("/new") == ["in", "sub"])
        #expect(try vault.list("/new/sub") == ["deep", "link"])
        #expect(try contents(vault, "/new/in") == bytes(5000))
        #expect(try contents(vault, "/new/sub/deep") == bytes(100))
        // And it goes on living.
        try vault.makeFile("/new/sub/more", bytes(3))
        try vault.rename("/new/sub", to: "/moved")
        #expect(try vault.list("/moved") == ["deep", "link", "more"])
        #expect(try mend(vault).outcomes.isEmpty)
    }

    @Test func recordsThatDoNotVerifyAreNoReason() throws {
        let vault = try make()
        let path = try vault.stored("/new") + "/coffer.dir"
        try setRawBytes(path, [UInt8](repeating: 9, count: 40))
        #expect(try mend(vault).left.isEmpty)
        #expect(try vault.list("/new") == ["in", "sub"])
        try vault.makeDirectory("/new/another")
        try vault.rename("/new", to: "/newer")
        #expect(try vault.list("/newer") == ["another", "in", "sub"])
    }

    /// Where others verify, what does not was moved there behind the vault's back, and says so.
    @Test func whatWasMovedIsMarked() throws {
        let vault = try make()
        let one = try vault.stored("/other/one"), name = try #require(one.split(separator: "/").last)
        try #require(rename(one, try vault.stored("/new") + "/\(name)") == 0)
        let (left, outcomes) = try mend(vault)
        #expect(left.isEmpty && outcomes == [.named(Array("one (recovered)".utf8))])
        #expect(try contents(vault, "/new/one (recovered)") == bytes(10))
        #expect(try vault.list("/other") == ["two"])
    }

    @Test func piecesOfLongNamesComeTogether() throws {
        let vault = try make()
        for name in try vault.raw("/\(longName)") where name.split(separator: ".").count == 5 {
            let from = try vault.stored("/\(longName)") + "/" + name
            try #require(rename(from, try vault.stored("/other") + "/" + name) == 0)
        }
        #expect(try vault.list("/\(longName)") == ["?"])
        let (left, outcomes) = try mend(vault)
        #expect(left.isEmpty && outcomes == [.paired])
        #expect(try contents(vault, "/\(longName)/\(longName)") == bytes(30))
        // Pieces that are nowhere cannot be had back.
        for name in try vault.raw("/\(longName)") + vault.raw("/other") where name.split(separator: ".").count == 5 {
            for place in ["/\(longName)", "/other"] { unlink(try vault.stored(place) + "/" + name) }
        }
        #expect(try mend(vault).outcomes == [.notMended])
    }

    @Test func anEndThatIsNotMarkedIs() throws {
        let vault = try make()
        let path = try vault.stored("/big")
        let before = try rawBytes(path)
        try setRawBytes(path, Array(before[..<(32 + 4128 * 10)]))
        let (left, outcomes) = try mend(vault)
        #expect(left.isEmpty && outcomes == [.ended])
        #expect(try contents(vault, "/big") == Array(bytes(100_000)[..<40_960]))
        #expect(try vault.raw().contains("coffer.lost+found"))
    }

    /// What was cut off is not forgotten: another copy that has it gives it back.
    @Test func aShortenedFileIsHealedByACopy() throws {
        let vault = try make()
        let copy = try TreeVault()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/cp")
        process.arguments = ["-a", vault.home.file("vault/."), copy.home.file("vault")]
        try process.run()
        process.waitUntilExit()
        let path = try vault.stored("/big")
        try setRawBytes(path, Array(try rawBytes(path)[..<(32 + 4128 * 10)]))
        #expect(try mend(vault).outcomes == [.ended])
        var outcomes: [VaultRepair.Outcome] = []
        let repair = try VaultRepair(
            vault.vault, from: copy.vault, isDryRun: false, onOutcome: { outcomes.append($1) }, onProgress: { _ in })
        #expect(try repair.run().isEmpty)
        #expect(outcomes == [.resized(100_000)])
        #expect(try contents(vault, "/big") == bytes(100_000))
    }

    /// Names that somebody has given are not taken, nor believed.
    @Test func whatIsThereStays() throws {
        let vault = try make()
        try vault.makeFile("/big.salvaged", bytes(77))
        try vault.makeFile("/big.salvaged.2.txt", bytes(88))
        let path = try vault.stored("/big")
        var raw = try rawBytes(path)
        raw[32 + 4128 * 3 + 100] ^= 1
        try setRawBytes(path, raw)
        let (_, outcomes) = try mend(vault)
        #expect(
            outcomes == [
                .salvaged(as: Array("big.salvaged.3".utf8), map: Array("big.salvaged.3.txt".utf8), lost: 4096)
            ])
        #expect(try contents(vault, "/big.salvaged") == bytes(77))
        #expect(try contents(vault, "/big.salvaged.2.txt") == bytes(88))
        #expect(try contents(vault, "/big.salvaged.3").count == 100_000)
        let names = try vault.raw()
        try mend(vault)
        #expect(try vault.raw() == names)
    }

    @Test func whatVerifiesIsCopied() throws {
        let vault = try make()
        let path = try vault.stored("/big")
        var raw = try rawBytes(path)
        raw[32 + 4128 * 3 + 100] ^= 1
        raw[32 + 4128 * 4 + 100] ^= 1
        raw[raw.count - 1] ^= 1
        try setRawBytes(path, raw)
        let (left, outcomes) = try mend(vault)
        let name = Array("big.salvaged".utf8), map = Array("big.salvaged.txt".utf8)
        let last = 100_000 % 4096
        #expect(outcomes == [.salvaged(as: name, map: map, lost: 8192 + last)])
        #expect(left.allSatisfy { $0.place.path == Array("big".utf8) } && !left.isEmpty)
        var expected = bytes(100_000)
        for index in Array(12_288..<20_480) + Array((100_000 - last)..<100_000) { expected[index] = 0 }
        #expect(try contents(vault, "/big.salvaged") == expected)
        let text = String(decoding: try contents(vault, "/big.salvaged.txt"), as: UTF8.self)
        #expect(text.hasSuffix("\n12288-20479\n\(100_000 - last)-99999\n"))
        // The damaged one is what it was, and once more changes nothing.
        #expect(try rawBytes(path) == raw)
        let names = try vault.raw()
        try mend(vault)
        #expect(try vault.raw() == names)
    }

    /// Whatever call fails, and all after it: nothing is lost, and the next run finishes.
    @Test func anyCallFails() throws {
        let disk = CallFailingDisk()
        func damaged() throws -> TreeVault {
            let vault = try make(disk: disk)
            unlink(try vault.stored("/new") + "/coffer.dir")
            let path = try vault.stored("/big")
            var raw = try rawBytes(path)
            raw[32 + 4128 * 3 + 100] ^= 1
            try setRawBytes(path, raw)
            let two = try vault.stored("/other/two")
            truncate(two, 32 + 20)
            return vault
        }
        let first = try damaged()
        disk.fault = CallFailingDisk.Fault(call: .max, lasts: false, code: .ioError)
        try mend(first)
        let count = disk.calls
        disk.fault = nil
        var tried = 0
        for call in stride(from: 1, through: count, by: max(1, count / 60)) {
            let vault = try damaged()
            disk.fault = CallFailingDisk.Fault(call: call, lasts: true, code: .ioError)
            do {
                try mend(vault)
            } catch {
                #expect(error is VaultError)
            }
            disk.fault = nil
            try mend(vault)
            #expect(try vault.list("/new") == ["in", "sub"], "call \(call)")
            #expect(try contents(vault, "/new/sub/deep") == bytes(100), "call \(call)")
            #expect(try contents(vault, "/other/one") == bytes(10), "call \(call)")
            #expect(try contents(vault, "/big.salvaged").count == 100_000, "call \(call)")
            tried += 1
        }
        #expect(tried > 50)
    }
}
