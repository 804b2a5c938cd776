import CofferDisk
import CofferFormat
import Foundation
import Glibc
import Randomness
import Synchronization
import SystemPackage
import Testing

@testable import CofferVault

/// `VaultCheck`: whatever is damaged is found, where it is, and nothing else is.
struct VaultCheckTests {
    /// What a check says: the totals, and the findings as texts.
    static func check(_ vault: TreeVault, contents: Bool = true) throws -> (totals: CheckTotals, found: [CheckFinding])
    {
        let found = Mutex<[CheckFinding]>([])
        var options = VaultCheck.Options()
        options.contents = contents
        options.threadCount = 2
        let check = VaultCheck(
            vault.tree, options: options, onFinding: { finding in found.withLock { $0.append(finding) } },
            onProgress: { _ in })
        let totals = try check.run()
        return (totals, found.withLock { $0 })
    }

    private func filled() throws -> TreeVault {
        let vault = try TreeVault(nameMax: 143)
        try RotationCutTests.fill(vault, attributes: true)
        try vault.makeFile("/a/several", (0..<50_000).map { UInt8(truncatingIfNeeded: $0 * 13 >> 3) })
        let (parent, name) = try vault.parent("/a/holes")
        try vault.withNewFile(name, in: parent.directory) { contents in
            try [UInt8](repeating: 7, count: 100).withUnsafeBytes { buffer in
                guard let base = buffer.baseAddress else { return }
                try contents.write(base, count: 100, at: 3 << 20, vault.scratch)
                try contents.write(base, count: 100, at: 1 << 20, vault.scratch)
            }
        }
        return vault
    }

    @Test func nothingIsWrongWithAWholeVault() throws {
        let vault = try filled()
        for contents in [true, false] {
            let (totals, found) = try Self.check(vault, contents: contents)
            #expect(found.isEmpty, "\(found)")
            #expect(totals.entries == 20 && totals.files == 10, "\(totals)")
            #expect(totals.losses == 0 && totals.notes == 0)
        }
    }

    /// The stored regular files that hold something, by their paths in the vault.
    private func storedFiles(_ vault: TreeVault) throws -> [(path: String, stored: String)] {
        var files: [(String, String)] = []
        let walk = try TreeWalk(vault.tree, from: try vault.tree.root())
        while let step = try walk.next() {
            guard case .entry(let listed) = step, let entry = try vault.tree.entry(listed, in: walk.directory) else {
                continue
            }
            let place = walk.directory.place(of: entry)
            if entry.isFile {
                files.append(
                    (
                        String(decoding: place.path, as: UTF8.self),
                        vault.home.file("vault/" + String(decoding: place.storedPath, as: UTF8.self))
                    ))
            }
            if entry.isDirectory { try walk.enter(entry) }
        }
        return files
    }

    /// Files are taken by threads several at a time; what is large is left to one, and what it took besides to others.
    @Test func noFileIsPassedOver() throws {
        let vault = try TreeVault(nameMax: 143)
        for number in 0..<70 {
            let count = number % 5 == 2 ? 1_300_000 : 100 + number
            try vault.makeFile("/file \(number)", [UInt8](repeating: UInt8(number), count: count))
        }
        let files = try storedFiles(vault)
        for file in files {
            var bytes = try rawBytes(file.stored)
            bytes[bytes.count - 30] ^= 1
            try setRawBytes(file.stored, bytes)
        }
        let (totals, found) = try Self.check(vault)
        #expect(totals.files == 70 && totals.losses == 70)
        #expect(Set(found.map { String(decoding: $0.place.path, as: UTF8.self) }) == Set(files.map(\.path)))
        // A mount may have put something else in the place of a file that was listed.
        try #require(unlink(files[3].stored) == 0 && symlink("x", files[3].stored) == 0)
        #expect(try Self.check(vault).totals.files == 69)
    }

    /// Bits flipped, ranges zeroed or overwritten, files cut or grown: each is found, in that file, and it is told which bytes are lost. COFFER_SOAK=1: 1,000.
    @Test func randomDamageIsFound() throws {
        let vault = try filled()
        let files = try storedFiles(vault)
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed of the damage: \(seed)")
        var random = SeededRandom(seed: seed)
        let count = ProcessInfo.processInfo.environment["COFFER_SOAK"] == "1" ? 1000 : 150
        var (found, harmless) = (0, 0)
        for number in 0..<count {
            let (path, stored) = files[random.below(files.count)]
            let original = try rawBytes(stored)
            var bytes = original
            let place = random.below(bytes.count)
            switch random.below(5) {
            case 0: bytes[place] ^= 1 << UInt8(random.below(8))
            case 1:
                for index in place..<min(bytes.count, place + 1 + random.below(9000)) { bytes[index] = 0 }
            case 2:
                for index in place..<min(bytes.count, place + 1 + random.below(600)) {
                    bytes[index] = UInt8(random.below(256))
                }
            case 3: bytes.removeLast(1 + random.below(min(bytes.count, 9000)))
            default: bytes += [UInt8](repeating: UInt8(random.below(2)), count: 1 + random.below(9000))
            }
            let plain = try vault.read(path)
            try setRawBytes(stored, bytes)
            let (totals, findings) = try Self.check(vault)
            if bytes == original {
                // Zeros in the place of zeros.
                harmless += 1
                #expect(findings.isEmpty)
            } else {
                // A file of several names is found by each of them.
                let here = findings.filter { String(decoding: $0.place.path, as: UTF8.self) == path && $0.isLoss }
                #expect(!here.isEmpty && totals.losses > 0, "damage \(number) of \(path) was not found")
                found += here.isEmpty ? 0 : 1
                try expectTheRestToBeReadable(vault, path, plain, here)
            }
            try setRawBytes(stored, original)
        }
        print("\(found) found, \(harmless) harmless")
        #expect(found + harmless == count && found > count / 2)
    }

    /// What is not said to be lost reads as it was.
    private func expectTheRestToBeReadable(
        _ vault: TreeVault, _ path: String, _ plain: [UInt8], _ findings: [CheckFinding]
    ) throws {
        let (parent, name) = try vault.parent(path)
        guard let file = try? vault.tree.read(try vault.tree.entry(name, in: parent), in: parent, vault.scratch) else {
            return
        }
        for block in stride(from: 0, to: min(plain.count, file.size), by: 4096) {
            let end = min(block + 4096, plain.count, file.size)
            var bytes = [UInt8](repeating: 0xEE, count: end - block)
            let isLost = findings.contains { finding in
                finding.bytes.map { $0.overlaps(block..<end) || $0.isEmpty } ?? true
            }
            let got: Int? = bytes.withUnsafeMutableBytes { buffer in
                guard let base = buffer.baseAddress else { return nil }
                return try? file.read(into: base, count: buffer.count, at: block)
            }
            if let got, got == bytes.count {
                // Whatever is read is what was written, at each time.
                #expect(bytes == Array(plain[block..<end]), "\(path) at \(block)")
            } else {
                #expect(isLost, "\(path) at \(block) is lost, and that is not said")
            }
        }
    }

    @Test func namesLinksRecordsAndAttributes() throws {
        let vault = try filled()
        // A name that does not verify.
        let stored = try vault.stored("/a/small")
        let wrong = String(stored.dropLast(44)) + "c" + String(repeating: "A", count: 43)
        #expect(rename(stored, wrong) == 0)
        // A link's text, a directory's records, an attribute, an empty file.
        let link = try vault.stored("/a/link")
        #expect(unlink(link) == 0 && symlink("AAAA", link) == 0)
        let records = try vault.storedDirectory("/d/moved") + "/coffer.dir"
        var bytes = try rawBytes(records)
        bytes[0] ^= 1
        try setRawBytes(records, bytes)
        try setRawBytes(try vault.stored("/empty"), [])
        let directory = try vault.storedDirectory("/a")
        let (disk, object) = (Disk(), try openFile(directory, flags: O_RDONLY))
        defer { close(object) }
        let names = try disk.attributeListBytes(object, limit: 4096).split(separator: 0)
        let attribute = try #require(names.first { $0.starts(with: Array("user.coffer".utf8)) })
        try disk.setAttribute(object, StoredName(attribute).cString, bytes: [1, 2, 3], flags: 0)
        let (_, found) = try Self.check(vault)
        func kinds(_ path: String) -> [String] {
            found.filter { String(decoding: $0.place.path, as: UTF8.self) == path }.map { "\($0.kind)" }
        }
        #expect(kinds("a").contains { $0.contains("attribute") })
        #expect(kinds("a/link").contains { $0.contains("link") })
        #expect(kinds("d/moved").contains { $0.contains("directory") })
        #expect(kinds("empty").contains { $0.contains("size") })
        #expect(found.contains { "\($0.kind)".contains("name") && $0.isLoss })
    }

    @Test func whatMeansNothingIsANote() throws {
        let vault = try filled()
        let root = vault.home.file("vault")
        try setRawBytes(root + "/coffer.new.AAAAAAAAAAAAAAAAAAAAAA", [1])
        try setRawBytes(root + "/coffer.long.AAAAAAAAAAAAAAAAAAAAAA.00.AAAA", [])
        try setRawBytes(root + "/coffer.link.AAAAAAAAAAAAAAAAAAAAAA", [1, 2, 3])
        let stored = try vault.stored("/a/several")
        try setRawBytes(stored + ".sync-conflict-1", try rawBytes(stored))
        try setRawBytes(root + "/README", Array("not encrypted".utf8))
        let (totals, found) = try Self.check(vault)
        #expect(totals.losses == 0 && totals.notes == 4, "\(found)")
        #expect(Set(found.map { "\($0.kind)" }) == ["leftover", "orphan", "conflictCopy"])
    }

    /// A record that does not verify is told, and so is what needs it.
    @Test func aRecordThatDoesNotVerify() throws {
        let vault = try filled()
        let records = try vault.storedDirectory("/d/moved") + "/coffer.dir"
        var bytes = try rawBytes(records)
        bytes[8 + 20] ^= 1
        try setRawBytes(records, bytes)
        let (totals, found) = try Self.check(vault)
        #expect(totals.losses > 0 && found.contains { "\($0.kind)" == "strangeRecord" }, "\(found)")
    }

    /// Half of a long name.
    @Test func aLongNameWithoutItsPieces() throws {
        let vault = try filled()
        let raw = try vault.raw("/d").filter { $0.hasPrefix("coffer.long.") && $0.split(separator: ".").count == 5 }
        let directory = try vault.storedDirectory("/d")
        try #require(!raw.isEmpty)
        try removeFile(directory + "/" + raw[0])
        let (totals, found) = try Self.check(vault)
        #expect(totals.losses == 1 && found.contains { "\($0.kind)".contains("name") }, "\(found)")
    }
}
