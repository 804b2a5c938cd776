import CofferDisk
import CofferFormat
import Foundation
import Glibc
import Randomness
import SystemPackage
import Testing

@testable import CofferVault

/// `VaultRepair`: what the other copy has comes back, and nothing that could be read before is lost.
struct VaultRepairTests {
    private func run(_ program: String, _ words: String...) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = words
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
    }

    /// A vault, and a copy of it.
    private func pair() throws -> (TreeVault, TreeVault) {
        let vault = try TreeVault(nameMax: 143)
        try RotationCutTests.fill(vault, attributes: true)
        try vault.makeFile("/a/several", (0..<50_000).map { UInt8(truncatingIfNeeded: $0 * 13 >> 3) })
        let (parent, name) = try vault.parent("/a/holes")
        try vault.withNewFile(name, in: parent.directory) { contents in
            try [UInt8](repeating: 7, count: 100).withUnsafeBytes { buffer in
                guard let base = buffer.baseAddress else { return }
                try contents.write(base, count: 100, at: 300_000, vault.scratch)
                try contents.write(base, count: 100, at: 100_000, vault.scratch)
            }
        }
        return (vault, try copied(vault))
    }

    private func copied(_ vault: TreeVault) throws -> TreeVault {
        let copy = try TreeVault(nameMax: 143)
        try run("/bin/cp", "-a", vault.home.file("vault/."), copy.home.file("vault"))
        return copy
    }

    /// What is left, and what became of each thing.
    @discardableResult
    private func repair(
        _ vault: TreeVault, from copy: TreeVault, dry: Bool = false, replace: Bool = false
    ) throws -> (left: [CheckFinding], outcomes: [VaultRepair.Outcome]) {
        var outcomes: [VaultRepair.Outcome] = []
        let repair = try VaultRepair(
            vault.vault, from: copy.vault, isDryRun: dry, mayReplace: replace, onOutcome: { outcomes.append($1) },
            onProgress: { _ in })
        return (try repair.run(), outcomes)
    }

    private func files(_ vault: TreeVault) throws -> [(path: String, stored: String)] {
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
                        String(decoding: place.storedPath, as: UTF8.self)
                    ))
            }
            if entry.isDirectory { try walk.enter(entry) }
        }
        return files
    }

    private func damage(_ stored: String, _ random: inout SeededRandom) throws {
        var bytes = try rawBytes(stored)
        guard !bytes.isEmpty else { return }
        let place = random.below(bytes.count)
        switch random.below(5) {
        case 0: bytes[place] ^= 1 << UInt8(random.below(8))
        case 1: for index in place..<min(bytes.count, place + 1 + random.below(9000)) { bytes[index] = 0 }
        case 2:
            for index in place..<min(bytes.count, place + 1 + random.below(600)) {
                bytes[index] = UInt8(random.below(256))
            }
        case 3: bytes.removeLast(1 + random.below(min(bytes.count, 9000)))
        default: bytes += [UInt8](repeating: UInt8(random.below(2)), count: 1 + random.below(9000))
        }
        try setRawBytes(stored, bytes)
    }

    /// Everything that the copy has whole is healed, to the byte. COFFER_SOAK=1: 1,000 damages.
    @Test func randomDamageIsHealed() throws {
        let (vault, copy) = try pair()
        let expected = try RotationCutTests.text(vault, attributes: true)
        let all = try files(vault)
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed of the damage to be healed: \(seed)")
        var random = SeededRandom(seed: seed)
        let rounds = ProcessInfo.processInfo.environment["COFFER_SOAK"] == "1" ? 330 : 25
        for round in 0..<rounds {
            for _ in 0..<(1 + random.below(5)) {
                let (_, stored) = all[random.below(all.count)]
                try damage(vault.home.file("vault/" + stored), &random)
            }
            let (left, outcomes) = try repair(vault, from: copy, replace: true)
            #expect(left.isEmpty, "round \(round): \(left) \(outcomes)")
            let found = try RotationCutTests.text(vault, attributes: true)
            #expect(found == expected, "round \(round)")
            if !left.isEmpty || found != expected { return }
            try run("/bin/rm", "-rf", vault.home.file("vault/coffer.lost+found"))
        }
    }

    /// Both are damaged: what one of them has is there, and what could be read before can be read after.
    @Test func bothAreDamaged() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed of the damage on both sides: \(seed)")
        var random = SeededRandom(seed: seed)
        let rounds = ProcessInfo.processInfo.environment["COFFER_SOAK"] == "1" ? 200 : 15
        for round in 0..<rounds {
            let (vault, copy) = try pair()
            let all = try files(vault)
            let plain = try all.map { try vault.read($0.path) }
            for _ in 0..<4 {
                try damage(vault.home.file("vault/" + all[random.below(all.count)].stored), &random)
                try damage(copy.home.file("vault/" + all[random.below(all.count)].stored), &random)
            }
            let before = all.map { readable(vault, $0.path) }
            let there = all.map { readable(copy, $0.path) }
            try repair(vault, from: copy, replace: true)
            for (index, file) in all.enumerated() {
                let after = readable(vault, file.path)
                for block in before[index].keys {
                    #expect(after[block] != nil, "round \(round): \(file.path), block \(block), could be read before")
                }
                for (block, bytes) in after {
                    let start = block * 4096
                    #expect(bytes == Array(plain[index][start..<min(start + 4096, plain[index].count)]))
                }
                // A file that is whole there is whole here.
                if there[index].count == max(1, (plain[index].count + 4095) / 4096) {
                    #expect(after.count == there[index].count, "round \(round): \(file.path)")
                }
            }
        }
    }

    /// The blocks of a file that can be read, by their numbers; an empty file has one, of nothing.
    private func readable(_ vault: TreeVault, _ path: String) -> [Int: [UInt8]] {
        var blocks: [Int: [UInt8]] = [:]
        do {
            let (parent, name) = try vault.parent(path)
            let file = try vault.tree.read(try vault.tree.entry(name, in: parent), in: parent, vault.scratch)
            if file.size == 0 { blocks[0] = [] }
            for start in stride(from: 0, to: file.size, by: 4096) {
                var bytes = [UInt8](repeating: 0xEE, count: min(4096, file.size - start))
                let got = try? bytes.withUnsafeMutableBytes { buffer in
                    try buffer.baseAddress.map { try file.read(into: $0, count: buffer.count, at: start) } ?? 0
                }
                if got == bytes.count { blocks[start / 4096] = bytes }
            }
        } catch {
            return blocks
        }
        return blocks
    }

    /// What was changed since the copy was made stays, but for the blocks that are damaged.
    @Test func newerBlocksStay() throws {
        let (vault, copy) = try pair()
        let stored = try vault.stored("/a/several")
        let contents = try FileContents(
            disk: vault.vault.disk, ring: vault.vault.ring, cipher: vault.vault.cipher,
            descriptor: try openFile(stored), isWritable: true, scratch: vault.scratch)
        try [UInt8](repeating: 0xAB, count: 4096).withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            for block in [2, 5, 20] { try contents.write(base, count: 4096, at: block * 4096, vault.scratch) }
        }
        try contents.sync(dataOnly: false, vault.scratch)
        let newer = try vault.read("/a/several")
        var bytes = try rawBytes(stored)
        bytes[BlockGeometry.offset(ofBlock: 3) + 100] ^= 1
        try setRawBytes(stored, bytes)
        let (left, outcomes) = try repair(vault, from: copy)
        #expect(left.isEmpty && outcomes == [.healed(1)])
        #expect(try vault.read("/a/several") == newer)
        // What was there before is kept, where it was.
        #expect(try vault.raw("").contains("coffer.lost+found"))
        let kept = try rawBytes(
            vault.home.file("vault/coffer.lost+found/file." + Base64URL.text(Array(bytes[8..<24]))))
        let range = BlockGeometry.offset(ofBlock: 3)..<BlockGeometry.offset(ofBlock: 4)
        #expect(kept.count == bytes.count && kept[range] == bytes[range])
    }

    /// Of a file of which nothing can be read the copy's version is taken only where that is asked for, and never another file's.
    @Test func nothingIsReplacedUnasked() throws {
        let (vault, copy) = try pair()
        for (path, isOther) in [("/a/small", false), ("/a/b/new", true)] {
            let stored = try vault.stored(path)
            if isOther {
                // Saved anew since, as editors do.
                try vault.remove(path)
                try vault.makeFile(path, Array("saved anew".utf8))
            }
            if isOther { try setComment(vault, path) }
            var bytes = try rawBytes(try vault.stored(path))
            bytes[60] ^= 1
            if !isOther { bytes[25] ^= 1 }
            try setRawBytes(try vault.stored(path), bytes)
            let (left, outcomes) = try repair(vault, from: copy)
            #expect(!left.isEmpty && !outcomes.contains { $0.isProgress }, "\(path): \(outcomes)")
            #expect(try rawBytes(try vault.stored(path)) == bytes)
            let (stillLeft, _) = try repair(vault, from: copy, replace: true)
            #expect(stillLeft.isEmpty == !isOther, "\(path): \(stillLeft)")
            #expect(stored == (try vault.stored(path)))
            if isOther { #expect(try rawBytes(try vault.stored(path)) == bytes) }
        }
    }

    private func setComment(_ vault: TreeVault, _ path: String) throws {
        let file = try openFile(try vault.stored(path))
        defer { close(file) }
        try vault.vault.setAttribute(
            Array("user.comment".utf8), of: file, mode: S_IFREG, value: [1, 2, 3], flags: 0,
            owner: { () throws(VaultError) in try vault.vault.fileID(of: file) })
    }

    /// Files of whole blocks that grew, and some that became shorter since.
    @Test func ends() throws {
        for count in [4096, 8192, 5000] {
            for (grown, isLonger) in [(33, false), (40, false), (5000, false), (7, false), (0, true)] {
                let vault = try TreeVault(nameMax: 143)
                let plain = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 11) }
                try vault.makeFile("/f", plain)
                let copy = try copied(vault)
                let stored = try vault.stored("/f")
                let original = try rawBytes(stored)
                try setRawBytes(
                    stored,
                    isLonger ? Array(original.dropLast(20)) : original + [UInt8](repeating: 0x5A, count: grown))
                let (left, outcomes) = try repair(vault, from: copy)
                #expect(left.isEmpty, "\(count) and \(grown): \(outcomes)")
                #expect(try vault.read("/f") == plain)
            }
        }
    }

    /// A file that was written anew since is another, though its name and id are the same.
    @Test func versionsAreNotMixed() throws {
        let (vault, copy) = try pair()
        let stored = try vault.stored("/a/several")
        let contents = try FileContents(
            disk: vault.vault.disk, ring: vault.vault.ring, cipher: vault.vault.cipher,
            descriptor: try openFile(stored), isWritable: true, emptying: true, scratch: vault.scratch)
        try [UInt8](repeating: 0xCD, count: 20_000).withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            try contents.write(base, count: 20_000, at: 0, vault.scratch)
        }
        try contents.sync(dataOnly: false, vault.scratch)
        var bytes = try rawBytes(stored)
        bytes[BlockGeometry.offset(ofBlock: 1) + 50] ^= 1
        try setRawBytes(stored, bytes)
        let (left, outcomes) = try repair(vault, from: copy)
        #expect(left.count == 1 && outcomes == [.notHealed])
        #expect(try rawBytes(stored) == bytes)
        #expect(try !vault.raw("").contains("coffer.lost+found"))
    }

    /// A long name that has lost its pieces, or has one of another.
    @Test func longNamesAreHealed() throws {
        let (vault, copy) = try pair()
        let expected = try RotationCutTests.text(vault, attributes: true)
        let directory = try vault.storedDirectory("/d")
        let pieces = try vault.raw("/d").filter { $0.hasPrefix("coffer.long.") && $0.split(separator: ".").count == 5 }
        try #require(pieces.count > 1)
        for piece in pieces { try removeFile(directory + "/" + piece) }
        try setRawBytes(directory + "/" + pieces[0].dropLast(4) + "AAAA", [])
        let dry = try repair(vault, from: copy, dry: true)
        #expect(dry.left.count == 1 && dry.outcomes == [.healed(1)], "\(dry)")
        #expect(try !vault.raw("").contains("coffer.lost+found"))
        let (left, outcomes) = try repair(vault, from: copy)
        #expect(left.isEmpty, "\(left) \(outcomes)")
        #expect(try RotationCutTests.text(vault, attributes: true) == expected)
    }

    /// Each call in turn fails, from then on: what could be read can be read, and the next run comes to the end.
    @Test func anyCallFails() throws {
        let (template, copy) = try pair()
        let expected = try RotationCutTests.text(template, attributes: true)
        let all = try files(template)
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed of a repair's calls that fail: \(seed)")
        var random = SeededRandom(seed: seed)
        for _ in 0..<6 { try damage(template.home.file("vault/" + all[random.below(all.count)].stored), &random) }
        let before = all.map { readable(template, $0.path) }
        let isThorough = ProcessInfo.processInfo.environment["COFFER_SOAK"] == "1"
        var (call, failed) = (0, 0)
        while true {
            call += isThorough ? 1 : 1 + random.below(60)
            let disk = CallFailingDisk()
            let home = try TemporaryDirectory()
            try run("/bin/cp", "-a", template.home.file("vault"), home.file("vault"))
            let vault = try TreeVault(
                nameMax: 143, disk: disk,
                rootDescriptor: try openFile(home.file("vault"), flags: O_RDONLY | O_DIRECTORY))
            let repair = try VaultRepair(
                vault.vault, from: copy.vault, isDryRun: false, mayReplace: true, onOutcome: { _, _ in },
                onProgress: { _ in })
            disk.fault = .init(call: call, lasts: true, code: .ioError)
            do {
                _ = try repair.run()
            } catch {
                failed += 1
            }
            let isOver = disk.calls < call
            disk.fault = nil
            for (index, file) in all.enumerated() {
                let after = readable(vault, file.path)
                for (block, bytes) in before[index] {
                    #expect(after[block] == bytes, "call \(call): \(file.path), \(block)")
                }
            }
            let (left, outcomes) = try self.repair(vault, from: copy, replace: true)
            #expect(left.isEmpty, "call \(call): \(left) \(outcomes)")
            #expect(try RotationCutTests.text(vault, attributes: true) == expected, "call \(call)")
            if isOver { break }
        }
        print("up to call \(call) of a repair failed, \(failed) of them stopped it")
        #expect(call > 100)
    }
}
