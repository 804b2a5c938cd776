import Glibc
import SystemPackage
import Testing

/// Damaged file contents are an error to programs, a line in the log, and stay damage whatever is written afterwards.
@Suite(.mounts) struct ContentDamageTests {
    /// What a program does to a damaged file.
    enum Deed: String, CaseIterable {
        case nothing, append, cutShort, grow, overwriteByte, overwriteBlock, punch, empty
    }

    private let vault: TestVault
    private static let plain = pattern(10_000)
    private static let sparse = pattern(4096) + zeros(16_384) + pattern(4096, seed: 3)

    init() throws {
        vault = try TestVault()
    }

    private func original(_ damage: ContentDamage) -> [UInt8] { damage.isSparse ? Self.sparse : Self.plain }

    private func name(_ deed: Deed, _ damage: ContentDamage) -> String { "\(deed)/\(damage.name)" }

    /// Makes one file for each deed and damage, and damages them.
    ///
    /// Gives their stored paths.
    private func makeDamaged() throws -> [String: String] {
        let mount = try vault.mount()
        try put(pattern(10_000, seed: 1), in: mount.file("other"))
        try put(pattern(24_576, seed: 1), in: mount.file("other sparse"))
        for deed in Deed.allCases {
            try check(mkdir(mount.file("\(deed)"), 0o755))
            for damage in ContentDamage.all {
                let file = try OpenFile(mount.file(name(deed, damage)), O_RDWR | O_CREAT)
                if damage.isSparse {
                    try file.write(pattern(4096))
                    try file.sync()
                    try file.write(pattern(4096, seed: 3), at: 20_480)
                } else {
                    try file.write(Self.plain)
                }
            }
        }
        // The vault's files are the mount's, by inode number.
        var stored: [String: String] = [:]
        let byNumber = try vault.shell("find vault -type f -printf '%i %P\\n'").split(separator: "\n")
            .reduce(into: [String: String]()) { table, line in
                let parts = line.split(separator: " ", maxSplits: 1)
                table[String(parts[0])] = String(parts[1])
            }
        for line in try vault.shell("find mnt -type f -printf '%i %P\\n'").split(separator: "\n") {
            let parts = line.split(separator: " ", maxSplits: 1)
            stored[String(parts[1])] = byNumber[String(parts[0])]
        }
        try mount.unmount()
        for damage in ContentDamage.all {
            let other = try contents(
                of: vault.path + "/" + #require(stored[damage.isSparse ? "other sparse" : "other"]))
            for deed in Deed.allCases {
                let path = vault.path + "/" + (try #require(stored[name(deed, damage)]))
                var bytes = try contents(of: path)
                let before = bytes
                damage.apply(&bytes, other)
                try #require(bytes != before, "\(damage.name)")
                try put(bytes, in: path)
            }
        }
        return stored
    }

    /// Does the deed; what the file should hold then, if it had not been damaged.
    ///
    /// A deed that fails changes nothing.
    private func perform(_ deed: Deed, on path: String, _ before: [UInt8]) -> [UInt8] {
        var after = before
        do throws(Errno) {
            let size = Int(try status(of: path).st_size)
            if deed == .empty {
                _ = try OpenFile(path, O_WRONLY | O_TRUNC)
                return []
            }
            let file = try OpenFile(path)
            switch deed {
            case .nothing, .empty: break
            case .append:
                try file.write([1, 2, 3], at: size)
                after = written([1, 2, 3], at: size, over: before)
            case .cutShort:
                try file.truncate(to: 5000)
                after = Array(before.prefix(5000))
            case .grow:
                try file.truncate(to: 100_000)
                after += zeros(100_000 - before.count)
            case .overwriteByte:
                try file.write([99], at: 4500)
                after = written([99], at: 4500, over: before)
            case .overwriteBlock:
                try file.write([UInt8](repeating: 88, count: 4096), at: 4096)
                after = written([UInt8](repeating: 88, count: 4096), at: 4096, over: before)
            case .punch:
                try file.allocate(3, at: 4096, count: 4096)
                after = written(zeros(4096), at: 4096, over: before)
            }
            try file.sync()
            return after
        } catch {
            #expect(error == .ioError)
            return before
        }
    }

    /// Every page is what it should be or an error, and the whole is not without error unless it is right as a whole.
    ///
    /// Gives whether it was.
    private func expectNoWrongBytes(
        _ path: String, _ right: [[UInt8]], _ what: String
    ) throws -> Bool {
        let file: OpenFile
        let size: Int
        do throws(Errno) {
            file = try OpenFile(path, O_RDONLY)
            size = Int(try file.status().st_size)
        } catch {
            #expect(error == .ioError, "\(what)")
            return false
        }
        var whole: [UInt8]? = []
        for start in stride(from: 0, to: max(1, min(size, 200_000)), by: 4096) {
            do throws(Errno) {
                let page = try file.read(4096, at: start)
                #expect(
                    right.contains { Array($0.dropFirst(start).prefix(page.count)) == page },
                    "\(what): wrong bytes in the page at \(start)")
                whole? += page
            } catch {
                #expect(error == .ioError, "\(what)")
                whole = nil
            }
        }
        guard let whole else { return false }
        #expect(right.contains(whole), "\(what): \(whole.count) bytes read without error")
        return true
    }

    @Test func damageIsAnErrorAndStaysOne() throws {
        let stored = try makeDamaged()
        let mount = try vault.mount()
        for damage in ContentDamage.all {
            let name = name(.nothing, damage)
            let isWhole = try expectNoWrongBytes(mount.file(name), [original(damage)], damage.name)
            #expect(!isWhole, "\(damage.name) was not noticed")
        }
        let log = try vault.log()
        for damage in ContentDamage.all {
            let name = name(.nothing, damage)
            let path = try #require(stored[name])
            let lines = log.filter { $0.contains("'\(name)'") && $0.contains("'\(path)'") }
            #expect(!lines.isEmpty, "no line for \(damage.name)")
            #expect(Set(lines.map { $0.dropFirst(20) }).count == lines.count, "told more than once: \(lines)")
        }
        var results: [String: [UInt8]] = [:]
        for deed in Deed.allCases where deed != .nothing {
            for damage in ContentDamage.all {
                let path = mount.file(name(deed, damage))
                results[name(deed, damage)] = perform(deed, on: path, original(damage))
            }
        }
        #expect(mount.driver.poll() == nil)
        let second = try mount.remount()
        for deed in Deed.allCases {
            for damage in ContentDamage.all {
                let name = name(deed, damage)
                let after = results[name] ?? original(damage)
                let isWhole = try expectNoWrongBytes(
                    second.file(name), [after, original(damage)], "\(damage.name), then \(deed)")
                #expect(isWhole || deed != .empty, "\(damage.name): could not be emptied")
            }
        }
        #expect(try contents(of: second.file("other")) == pattern(10_000, seed: 1))
        try second.unmount()
    }
}
