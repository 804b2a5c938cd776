import CofferDisk
import CofferFormat
import Randomness
import SystemPackage
import Testing

@testable import CofferVault

/// A vault in a simulated tree, with power cuts at any of its calls: what each leaves is read whole.
final class TreeCut {
    private var disk: SimulatedTree
    private var vault: TreeVault
    private let seed: UInt64
    private var random: SeededRandom
    /// What the tree has been since it was synced, as texts.
    private var states: [String] = []
    private(set) var doing = ""
    private(set) var cuts = 0
    private(set) var failure: String?
    /// After a power cut entries are made in every directory, with another power cut after each.
    var goesOn = false
    /// Some of the power cuts are real: what follows happens to what they left.
    var restarts = false
    private(set) var restarted = 0
    /// Some calls are refused.
    var refuses = false
    private(set) var refused = 0
    private var left: SimulatedTree?

    init(_ journal: SimulatedTree.Journal, seed: UInt64) throws {
        self.seed = seed
        random = SeededRandom(seed: seed)
        disk = SimulatedTree(journal, seed: seed)
        vault = try TreeVault(nameMax: 143, disk: disk, rootDescriptor: disk.root())
    }

    func run(steps: Int) throws {
        for step in 0..<steps where failure == nil {
            let action = try choose()
            try perform("step \(step): \(action.name)", on: action.paths, action.body)
        }
    }

    /// Does one thing, with power cuts while it is done; nothing where it fails, for which what is at `paths` must be the reason. After `refusal` changes one is refused, or the
    /// driver is killed.
    func perform(
        _ name: String, on paths: [String] = [], refusal: Int? = nil, kills: Bool = false,
        _ body: (TreeVault) throws -> Void
    ) throws {
        if states.isEmpty { states = [try Self.text(vault)] }
        doing = name
        // What it will be is known before: the step is done on a copy of the disk first, which nothing befalls.
        var sure = random
        let copy = disk.crashed(everything: true, &sure)
        let other = TreeVault(vault, disk: copy, rootDescriptor: copy.root())
        do {
            try body(other)
        } catch let error as VaultError {
            if !(try isRightlyRefused(error, paths)) {
                failure = "refused with \(error), on \(try Self.text(vault))"
                report()
            }
            return
        }
        states.append(try Self.text(other))
        disk.onChange = { [unowned self] in cut() }
        if let refusal {
            try refuse(body, after: refusal, kills: kills)
        } else if refuses, random.oneIn(2) {
            try refuse(body, after: random.below(copy.changeCount), kills: random.oneIn(3))
        } else {
            try body(vault)
        }
        disk.onChange = nil
        if disk.unsynced == 0 { states = [states[states.count - 1]] }
        report()
        guard failure == nil, let left else { return }
        self.left = nil
        restarted += 1
        disk = left
        vault = TreeVault(vault, disk: left, rootDescriptor: left.root())
        states = []
    }

    /// One call of what is done is refused, or all from there on and the driver is killed: it is as if nothing had been done, or all of it, and all of it where no error is told.
    private func refuse(_ body: (TreeVault) throws -> Void, after changes: Int, kills: Bool) throws {
        var right = states.suffix(2)
        let code = [Errno.ioError, .noSpace][random.below(2)]
        disk.refusal = (changes, kills, code)
        do {
            try body(vault)
            right = states.suffix(1)
        } catch let error as VaultError where error == .system(code) {
            refused += 1
        } catch let error as Errno where error == code {
            refused += 1
        }
        disk.refusal = nil
        disk.onChange = nil
        let found = try Self.text(vault)
        if !right.contains(found) { failure = failure ?? "after \(code): \(found) is none of \(right)" }
        states.append(found)
        // What the next mount begins with.
        if kills { try Vault.settleAll(disk: disk, rootDescriptor: disk.root()) }
    }

    private func report() {
        if let failure { Issue.record("\(disk.journal), seed \(seed), \(doing): \(failure)") }
    }

    /// What was left by a change that was cut short must be no reason.
    private func isRightlyRefused(_ error: VaultError, _ paths: [String]) throws -> Bool {
        guard case .system(let code) = error else { return false }
        switch code {
        case .noSuchFileOrDirectory: return try paths.contains { !(try exists($0)) }
        case .fileExists: return try paths.contains { try exists($0) }
        case .directoryNotEmpty:
            return try paths.contains { path in
                try exists(path) && vault.entry(path).isDirectory && !vault.list(path).isEmpty
            }
        // What `choose` refuses by itself.
        case .isDirectory, .notPermitted, .invalidArgument: return true
        default: return false
        }
    }

    /// Whether there is a directory at a path.
    func isDirectory(_ path: String) throws -> Bool {
        guard try exists(path) else { return false }
        return try vault.entry(path).isDirectory
    }

    /// Whether there is something at a path.
    func exists(_ path: String) throws -> Bool {
        do {
            _ = try vault.entry(path)
            return true
        } catch VaultError.system(.noSuchFileOrDirectory) {
            return false
        }
    }

    private func cut() {
        guard failure == nil, random.oneIn(2) else { return }
        cuts += 1
        let left = disk.crashed(everything: false, &random)
        do {
            let other = TreeVault(vault, disk: left, rootDescriptor: left.root())
            let found = try Self.text(other)
            // Btrfs may have written a later change and not an earlier one.
            if goesOn, random.oneIn(4) { try goOn(left) }
            if restarts, random.oneIn(8) { self.left = left }
            if disk.journal != .btrfs, !states.contains(found) { failure = "\(found) is none of \(states)" }
        } catch {
            failure = "\(error)"
        }
    }

    private func goOn(_ left: SimulatedTree) throws {
        let vault = TreeVault(self.vault, disk: left, rootDescriptor: left.root())
        for path in try Self.directories(vault, "") {
            for name in ["y", "Z" + String(repeating: "z", count: 200)] {
                try vault.makeLink("\(path)/\(name)", to: "made")
                let again = left.crashed(everything: false, &random)
                _ = try Self.text(TreeVault(vault, disk: again, rootDescriptor: again.root()))
            }
        }
        _ = try Self.text(vault)
    }

    private static func directories(_ vault: TreeVault, _ path: String) throws -> [String] {
        var found = [path]
        for name in try vault.list(path) where try vault.entry("\(path)/\(name)").isDirectory {
            found += try directories(vault, "\(path)/\(name)")
        }
        return found
    }

    private struct Unreadable: Error {
        let path: String
    }

    /// An entry of one of them would pass in the other.
    private struct SharedID: Error {
        let path: String
    }

    /// Everything there is, all of it read.
    private static func text(_ vault: TreeVault) throws -> String {
        var ids: Set<DirectoryID> = []
        return try text(vault, "", &ids)
    }

    private static func text(_ vault: TreeVault, _ path: String, _ ids: inout Set<DirectoryID>) throws -> String {
        guard ids.insert(try vault.directory(path).directory.identity.creating).inserted else {
            throw SharedID(path: path)
        }
        var text = ""
        for name in try vault.list(path) {
            if name == "?" { throw Unreadable(path: path) }
            let full = path + "/" + name
            let entry = try vault.entry(full)
            if entry.isDirectory {
                text += "\(name.prefix(3)){\(try Self.text(vault, full, &ids))} "
            } else {
                text += "\(name.prefix(3))>\(try vault.target(full).count) "
            }
        }
        return text
    }

    // MARK: Steps

    private struct Action {
        let name: String
        let paths: [String]
        let body: (TreeVault) throws -> Void
    }

    private func anyName() -> String {
        ["a", "b", "c", "L" + String(repeating: "l", count: 120), "M" + String(repeating: "m", count: 200)][
            random.below(5)]
    }

    private func anyDirectory() throws -> String {
        var path = ""
        for _ in 0..<random.below(4) {
            let below = try vault.list(path).filter { try vault.entry(path + "/" + $0).isDirectory }
            guard !below.isEmpty else { break }
            path += "/" + below[random.below(below.count)]
        }
        return path
    }

    private func choose() throws -> Action {
        let (path, other) = (try anyDirectory() + "/" + anyName(), try anyDirectory() + "/" + anyName())
        switch random.below(12) {
        case 0...2: return Action(name: "mkdir \(path)", paths: [path]) { try $0.makeDirectory(path) }
        case 3:
            let count = random.oneIn(2) ? 20 : 3000
            return Action(name: "symlink \(path)", paths: [path]) {
                try $0.makeLink(path, to: String(repeating: "t", count: count))
            }
        case 4: return Action(name: "remove \(path)", paths: [path]) { try $0.remove(path) }
        case 5:
            return Action(name: "link \(path) \(other)", paths: [path, other]) { vault in
                if try vault.entry(path).isDirectory { throw VaultError.system(.notPermitted) }
                try vault.makeHardLink(path, to: other)
            }
        case 6: return Action(name: "sync all", paths: []) { try $0.syncAll() }
        case 7:
            let directory = try anyDirectory()
            return Action(name: "sync \(directory)", paths: [directory]) { try $0.syncDirectory(directory) }
        case 8:
            return Action(name: "exchange \(path) \(other)", paths: [path, other]) {
                try Self.rename($0, path, other, .exchange)
            }
        default:
            return Action(name: "rename \(path) \(other)", paths: [path, other]) {
                try Self.rename($0, path, other, .replace)
            }
        }
    }

    /// What the system would refuse, the simulation does not know to.
    private static func rename(_ vault: TreeVault, _ path: String, _ other: String, _ mode: Disk.RenameMode) throws {
        if (other + "/").hasPrefix(path + "/") || (path + "/").hasPrefix(other + "/") {
            throw VaultError.system(.invalidArgument)
        }
        let old = try vault.entry(path)
        let (parent, name) = try vault.parent(other)
        if mode == .replace, let existing = try vault.vault.lookUp(name, in: parent.directory),
            existing.isDirectory != old.isDirectory
        {
            throw VaultError.system(.isDirectory)
        }
        try vault.rename(path, to: other, mode)
    }
}
