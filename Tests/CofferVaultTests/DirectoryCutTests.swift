import CofferDisk
import Randomness
import Testing

@testable import CofferVault

/// Directories, links and long names through power cuts at any call: nothing becomes unreadable, what is there is what was there after some step since the
/// last sync, and no two directories make their entries under one id.
struct DirectoryCutTests {
    /// `COFFER_TREE_CUTS` says how many workloads, `COFFER_FIRST_SEED` where their seeds begin.
    private static let seeds: Range<UInt64> = {
        let first = UInt64(environmentNumber("COFFER_FIRST_SEED") ?? 0)
        return first..<first + UInt64(environmentNumber("COFFER_TREE_CUTS") ?? 6)
    }()

    @Test(arguments: SimulatedTree.Journal.allCases) func treesStayReadable(journal: SimulatedTree.Journal) throws {
        try run(journal, seeds: Self.seeds, cuts: 30 * Self.seeds.count) { workload, _ in try workload.run(steps: 75) }
    }

    /// As before, but that what a power cut left is gone on with, many times: what lies about of changes that were cut short must not harm later ones.
    @Test(arguments: SimulatedTree.Journal.allCases) func treesAreGoneOnWith(journal: SimulatedTree.Journal) throws {
        var restarts = 0
        try run(journal, seeds: Self.seeds, cuts: 30 * Self.seeds.count) { workload, _ in
            workload.restarts = true
            try workload.run(steps: 75)
            restarts += workload.restarted
        }
        #expect(restarts > 3 * Self.seeds.count)
    }

    /// And calls that are refused, with power cuts before and after.
    @Test(arguments: SimulatedTree.Journal.allCases) func refusedCallsLeaveTrees(journal: SimulatedTree.Journal) throws
    {
        var refused = 0
        try run(journal, seeds: Self.seeds, cuts: 30 * Self.seeds.count) { workload, seed in
            workload.restarts = seed % 2 == 0
            workload.refuses = true
            try workload.run(steps: 75)
            refused += workload.refused
        }
        #expect(refused > 3 * Self.seeds.count)
    }

    /// Runs something for many seeds, until one fails; at least so many power cuts must have been tried.
    private func run(
        _ journal: SimulatedTree.Journal, seeds: Range<UInt64>, cuts least: Int,
        _ body: (TreeCut, UInt64) throws -> Void
    ) throws {
        var cuts = 0
        for seed in seeds {
            let workload = try TreeCut(journal, seed: seed)
            do {
                try body(workload, seed)
            } catch {
                Issue.record("\(journal), seed \(seed), \(workload.doing): \(error)")
                return
            }
            cuts += workload.cuts
            if workload.failure != nil { return }
        }
        print("\(cuts) power cuts of directories")
        #expect(cuts > least)
    }

    /// What is made in an empty directory that has moved may be on the disk, and the move not: it must be readable at the old place too. Found by `treesStayReadable`.
    @Test(arguments: SimulatedTree.Journal.allCases) func anEmptyDirectoryThatMoved(journal: SimulatedTree.Journal)
        throws
    {
        let long = "L" + String(repeating: "l", count: 200)
        try run(journal, seeds: 0..<500, cuts: 1500) { workload, seed in
            for path in ["/a", "/a/b"] { try workload.perform("mkdir \(path)") { try $0.makeDirectory(path) } }
            try workload.perform("symlink /c") { try $0.makeLink("/c", to: "target") }
            try workload.perform("sync") { try $0.syncAll() }
            // In the place of nothing, or in exchange for something else.
            if seed % 2 == 0 { try workload.perform("remove /c") { try $0.remove("/c") } }
            let refusal = seed < 100 ? nil : Int(seed / 4 % 16)
            try workload.perform("rename /a/b /c", refusal: refusal, kills: seed >= 300) { vault in
                switch seed % 4 {
                case 1: try vault.rename("/a/b", to: "/c", .exchange)
                case 3: try vault.rename("/c", to: "/a/b", .exchange)
                default: try vault.rename("/a/b", to: "/c", .replace)
                }
            }
            // The pieces of a long name are synced with the directory that they are in, and so is that directory's own name.
            let place = try workload.isDirectory("/c") ? "/c" : "/a/b"
            for path in [place + "/d", place + "/d/" + long] {
                try workload.perform("mkdir \(path.prefix(8))") { try $0.makeDirectory(path) }
            }
        }
    }

    /// A directory that has entries keeps the records of both its places until it is at the new one for good. Found by `treesStayReadable`.
    @Test(arguments: SimulatedTree.Journal.allCases) func aDirectoryWithEntriesThatMoved(
        journal: SimulatedTree.Journal
    ) throws {
        try run(journal, seeds: 0..<40, cuts: 200) { workload, seed in
            for path in ["/a", "/a/b", "/a/f", "/c"] {
                try workload.perform("mkdir \(path)") { try $0.makeDirectory(path) }
            }
            for path in ["/a/b/in", "/a/f/in"] {
                try workload.perform("symlink \(path)") { try $0.makeLink(path, to: "target") }
            }
            // Its entries are bound to the first place for good, so that at the second it cannot do without a record.
            try workload.perform("rename /a/b /c/d") { try $0.rename("/a/b", to: "/c/d") }
            try workload.perform("sync") { try $0.syncAll() }
            try workload.perform("rename /c/d") { vault in
                switch seed % 4 {
                case 0: try vault.rename("/c/d", to: "/a/e")
                case 1: try vault.rename("/c/d", to: "/c/e")
                // At the first place it needs none.
                case 2: try vault.rename("/c/d", to: "/a/b")
                default: try vault.rename("/c/d", to: "/a/f", .exchange)
                }
            }
            if seed % 2 == 0 { try workload.perform("sync /") { try $0.syncDirectory("/") } }
        }
    }

    /// What is left of an empty directory that was about to go, or to be replaced, has no id that another uses. Found by `treesStayReadable`.
    @Test(arguments: SimulatedTree.Journal.allCases) func anEmptyDirectoryThatGoes(
        journal: SimulatedTree.Journal
    ) throws {
        try run(journal, seeds: 0..<40, cuts: 200) { workload, seed in
            workload.goesOn = true
            for path in ["/a", "/a/b"] { try workload.perform("mkdir \(path)") { try $0.makeDirectory(path) } }
            try workload.perform("symlink /a/c") { try $0.makeLink("/a/c", to: "target") }
            try workload.perform("rename /a /d") { try $0.rename("/a", to: "/d") }
            try workload.perform("mkdir /a") { try $0.makeDirectory("/a") }
            try workload.perform("sync") { try $0.syncAll() }
            if seed % 2 == 0 {
                try workload.perform("remove /a") { try $0.remove("/a") }
            } else {
                try workload.perform("rename /d/b /a") { try $0.rename("/d/b", to: "/a") }
            }
        }
    }

    /// What does not fit into a link is in a file beside it, which may have a name in another directory too: syncing it there makes durable that it went here. Found by `treesStayReadable`.
    @Test(arguments: SimulatedTree.Journal.allCases) func aLongLinkThatGoes(journal: SimulatedTree.Journal) throws {
        let target = String(repeating: "t", count: 3000)
        try run(journal, seeds: 0..<200, cuts: 500) { workload, seed in
            for path in ["/a", "/c"] { try workload.perform("mkdir \(path)") { try $0.makeDirectory(path) } }
            try workload.perform("symlink /a/x") { try $0.makeLink("/a/x", to: target) }
            try workload.perform("symlink /c/y") { try $0.makeLink("/c/y", to: "short") }
            if seed % 4 > 0 { try workload.perform("link /a/x /c/x") { try $0.makeHardLink("/a/x", to: "/c/x") } }
            if seed % 4 == 2 { try workload.perform("symlink /a/z") { try $0.makeLink("/a/z", to: "other") } }
            try workload.perform("sync") { try $0.syncAll() }
            switch seed % 4 {
            case 0:
                // Of two renames the later may be on the disk, and the earlier not: the link is still at the first place then.
                if seed % 8 == 0 { try workload.perform("rename /a/x /a/w") { try $0.rename("/a/x", to: "/a/w") } }
                let source = seed % 8 == 0 ? "/a/w" : "/a/x"
                try workload.perform("rename /c/x") { try $0.rename(source, to: "/c/x") }
            case 2: try workload.perform("rename /a/z /a/x") { try $0.rename("/a/z", to: "/a/x") }
            default: try workload.perform("remove /a/x") { try $0.remove("/a/x") }
            }
            try workload.perform("exchange /c/x /c/y") { try $0.rename("/c/x", to: "/c/y", .exchange) }
            try workload.perform("sync /") { try $0.syncDirectory("/") }
        }
    }

    /// A directory that lost its last entry, but not for good yet, counts as empty: what it answered to must not be forgotten before. Found by `treesStayReadable`.
    @Test(arguments: SimulatedTree.Journal.allCases) func aDirectoryThatLostItsEntries(
        journal: SimulatedTree.Journal
    ) throws {
        try run(journal, seeds: 0..<80, cuts: 200) { workload, seed in
            for path in ["/b", "/b/d", "/b/d/y", "/b/a", "/b/a/x"] {
                try workload.perform("mkdir \(path)") { try $0.makeDirectory(path) }
            }
            // In a marked directory one without a record has an id of its own, if it is empty.
            if seed % 2 == 0 { try workload.perform("rename /b/d /b/e") { try $0.rename("/b/d", to: "/b/e") } }
            try workload.perform("sync") { try $0.syncAll() }
            try workload.perform("remove /b/a/x") { try $0.remove("/b/a/x") }
            switch seed % 8 {
            case 0, 1: try workload.perform("mkdir /b/a/y") { try $0.makeDirectory("/b/a/y") }
            case 2, 3: try workload.perform("rename /b/a /a") { try $0.rename("/b/a", to: "/a") }
            case 4, 5: try workload.perform("rename /b/a /b/f") { try $0.rename("/b/a", to: "/b/f") }
            default:
                let other = seed % 2 == 0 ? "/b/e" : "/b/d"
                try workload.perform("exchange /b/a") { try $0.rename("/b/a", to: other, .exchange) }
            }
        }
    }

    /// What a rename puts down before it is refused is not for a later one, and what it could write and not sync is not relied on. By reading.
    @Test(arguments: SimulatedTree.Journal.allCases) func aRenameThatWasRefused(journal: SimulatedTree.Journal) throws {
        try run(journal, seeds: 0..<160, cuts: 500) { workload, seed in
            for path in ["/a", "/a/d", "/b", "/a/d/x"] {
                try workload.perform("mkdir \(path)") { try $0.makeDirectory(path) }
            }
            let (old, new) = ("/a/d", "/b/d")
            try workload.perform("rename, refused", refusal: Int(seed / 2 % 20)) { try $0.rename(old, to: new) }
            let isMoved = !(try workload.exists(old))
            workload.restarts = true
            let (from, to) = isMoved ? (new, old) : (old, new)
            if seed % 2 == 0 {
                try workload.perform("remove x", on: [from + "/x"]) { try $0.remove(from + "/x") }
            }
            try workload.perform("rename", on: [from, to]) { try $0.rename(from, to: to) }
            for path in [from, from + "/y", to + "/z"] {
                try workload.perform("mkdir \(path)", on: [path]) { try $0.makeDirectory(path) }
            }
        }
    }

    /// A directory that has moved twice, the second time in a way that the disk may not know of yet, is left by another. By reading.
    @Test(arguments: SimulatedTree.Journal.allCases) func aDirectoryThatIsMarked(journal: SimulatedTree.Journal) throws
    {
        try run(journal, seeds: 0..<160, cuts: 300) { workload, seed in
            for path in ["/a", "/b", "/c", "/a/d", "/a/d/e", "/a/d/e/x"] {
                try workload.perform("mkdir \(path)") { try $0.makeDirectory(path) }
            }
            try workload.perform("rename /a/d /b/d") { try $0.rename("/a/d", to: "/b/d") }
            try workload.perform("sync") { try $0.syncAll() }
            try workload.perform("rename, refused", refusal: Int(seed % 20)) { try $0.rename("/b/d", to: "/c/d") }
            let place = try workload.exists("/c/d") ? "/c/d" : "/b/d"
            try workload.perform("rename e") { try $0.rename(place + "/e", to: "/a/e") }
        }
    }

    /// A directory that is made in a marked one is there before anything that is made in it. By reading.
    @Test(arguments: SimulatedTree.Journal.allCases) func aDirectoryMadeInAMarkedOne(
        journal: SimulatedTree.Journal
    ) throws {
        try run(journal, seeds: 0..<160, cuts: 300) { workload, seed in
            for path in ["/a", "/a/d", "/a/d/x"] {
                try workload.perform("mkdir \(path)") { try $0.makeDirectory(path) }
            }
            try workload.perform("rename /a/d /d") { try $0.rename("/a/d", to: "/d") }
            try workload.perform("sync") { try $0.syncAll() }
            workload.restarts = true
            for path in ["/a/n", "/a/n/x"] {
                let refusal = path == "/a/n" && seed % 2 == 0 ? Int(seed / 2 % 12) : nil
                try workload.perform("mkdir \(path)", on: [path], refusal: refusal) { try $0.makeDirectory(path) }
            }
            for path in ["/a/n/x", "/a/n", "/a"] {
                try workload.perform("remove \(path)", on: [path]) { try $0.remove(path) }
            }
        }
    }

    /// What came by an exchange does not get the id of its place when it loses its record. By reading.
    @Test(arguments: SimulatedTree.Journal.allCases) func anExchangedDirectoryThatGoes(
        journal: SimulatedTree.Journal
    ) throws {
        try run(journal, seeds: 0..<160, cuts: 300) { workload, seed in
            for path in ["/a", "/b", "/c", "/a/d", "/a/d/x", "/c/e", "/c/e/y"] {
                try workload.perform("mkdir \(path)") { try $0.makeDirectory(path) }
            }
            try workload.perform("rename /c/e /b/e") { try $0.rename("/c/e", to: "/b/e") }
            try workload.perform("exchange") { try $0.rename("/a/d", to: "/b/e", .exchange) }
            let place = seed % 2 == 0 ? "/b/e" : "/a/d"
            let name = seed % 2 == 0 ? "/x" : "/y"
            try workload.perform("remove \(name)") { try $0.remove(place + name) }
            try workload.perform("sync") { try $0.syncAll() }
            try workload.perform("remove, refused", refusal: Int(seed / 2 % 8)) { try $0.remove(place) }
            let made = place + "/z"
            try workload.perform("mkdir z", on: [place]) { try $0.makeDirectory(made) }
            try workload.perform("sync z", on: [made]) { try $0.syncDirectory(made) }
            for path in ["/f", "/g", "/h", "/i"] {
                try workload.perform("mkdir \(path)") { try $0.makeDirectory(path) }
            }
        }
    }
}
