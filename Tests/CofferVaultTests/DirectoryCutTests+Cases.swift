import CofferDisk
import Randomness
import Testing

@testable import CofferVault

/// Sequences that once lost something, or that were thought to.
extension DirectoryCutTests {
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

    /// Btrfs forgets that a directory has moved when it loses its name, but not what was made and removed in it since: it is at the first place again. By trying it.
    @Test(arguments: SimulatedTree.Journal.allCases) func aDirectoryThatMovedAndWent(
        journal: SimulatedTree.Journal
    ) throws {
        try run(journal, seeds: 0..<200, cuts: 700) { workload, seed in
            let kind = seed % 5
            for path in ["/o", "/b", "/b/s", "/b/e", "/p", "/p/s", "/q"] {
                try workload.perform("mkdir \(path)") { try $0.makeDirectory(path) }
            }
            let place = kind == 4 ? "/b" : "/a"
            if kind == 4 {
                // A mark is all it has.
                try workload.perform("rename /b/s /s") { try $0.rename("/b/s", to: "/s") }
            } else {
                try workload.perform("rename /b /a") { try $0.rename("/b", to: "/a") }
            }
            try workload.perform("sync") { try $0.syncAll() }
            workload.restarts = true
            let next = kind == 2 ? "/o/a" : kind == 1 ? "/b" : "/n"
            switch kind {
            case 3: try workload.perform("exchange", on: [place, "/p"]) { try $0.rename(place, to: "/p", .exchange) }
            default: try workload.perform("rename", on: [place, next]) { try $0.rename(place, to: next) }
            }
            let last = kind == 3 ? "/p" : next
            for path in ["/s", "/e"] {
                try workload.perform("remove \(path)", on: [last + path]) { try $0.remove(last + path) }
            }
            if seed / 5 % 2 == 0 {
                try workload.perform("remove", on: [last]) { try $0.remove(last) }
            } else {
                try workload.perform("replace", on: ["/q", last]) { try $0.rename("/q", to: last) }
            }
            for path in ["/o/x", place, place + "/s"] {
                try workload.perform("mkdir \(path)", on: ["/o", path, place]) { try $0.makeDirectory(path) }
            }
            try workload.perform("sync /o", on: ["/o"]) { try $0.syncDirectory("/o") }
        }
    }
}
