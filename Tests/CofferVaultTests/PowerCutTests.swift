import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import Randomness
import SystemPackage
import Testing

@testable import CofferVault

/// With the intent log, whatever a power cut leaves of unsynced changes, at any call: after recovery all that was synced is there, and every block reads as
/// one of its versions.
struct PowerCutTests {
    /// Workloads of each group; `COFFER_POWER_CUTS` says how many where it is set, and `COFFER_POWER_CUT_SEED` runs a single one.
    private static let count = environmentNumber("COFFER_POWER_CUTS") ?? 12

    /// Where seeds begin.
    private static let first = environmentNumber("COFFER_FIRST_SEED") ?? 0

    /// Besides, the log of an earlier moment changes nothing, and no cut that the log does not name is mended.
    @Test(arguments: 0..<4) func whatWasSyncedIsThereAndNothingIsTorn(group: Int) throws {
        if let seed = environmentNumber("COFFER_POWER_CUT_SEED") {
            return try PowerCut(seed: UInt64(seed)).run(operations: 60)
        }
        var cuts = 0
        for seed in 0..<Self.count {
            let workload = try PowerCut(seed: UInt64(Self.first + group * 1_000_000 + seed))
            try workload.run(operations: 60)
            cuts += workload.cuts
            if workload.isWrong { return }
        }
        print("\(cuts) power cuts")
        #expect(cuts > 60 * Self.count)
    }
}

/// A workload on two files, cut short again and again.
private final class PowerCut {
    private final class Tracked {
        let name: String
        var contents: FileContents?
        /// What the file has held since it was synced last, that first.
        var states: [[UInt8]] = [[]]
        var model = ByteModel()
        var wasSynced = false

        init(_ name: String) {
            self.name = name
        }
    }

    /// In some workloads so large that requests grow files without telling the log of each block.
    private var sizeLimit: Int { (seed % 3 == 0 ? 45 : 14) * 4096 }
    private let seed: UInt64
    private let cipher: CipherSuite
    private let ring: KeyRing
    private let disk = SimulatedDisk()
    private let scratch: Scratch
    private let otherScratch: Scratch
    private let log: IntentLog
    private var files: [Tracked] = []
    private var random: SeededRandom
    private var doing = "beginning"
    private var oldLogs: [SimulatedDisk] = []
    private var failure: String?
    private var made = 0
    var isWrong: Bool { failure != nil }
    private(set) var cuts = 0

    init(seed: UInt64) throws {
        self.seed = seed
        cipher = seed % 2 == 0 ? .aes256GCM : .chacha20Poly1305
        random = SeededRandom(seed: seed)
        ring = try fixedRing()
        scratch = try Scratch()
        otherScratch = try Scratch()
        log = try disk.makeLog(ring, capacity: 400_000)
    }

    func run(operations: Int) throws {
        disk.onChange = { [unowned self] in cut() }
        for name in ["a", "b"] { try create(name) }
        for step in 0..<operations {
            let file = files[random.below(files.count)]
            do {
                try act(file, step)
            } catch {
                Issue.record("seed \(seed), \(doing): \(error)")
                throw error
            }
            disk.onChange = nil
            try tryOldLog()
            try tryAttack(file)
            disk.onChange = { [unowned self] in cut() }
            if let failure {
                Issue.record("seed \(seed), \(doing): \(failure)")
                return
            }
        }
        disk.onChange = nil
        // What is pending keeps files, and with them the log and its keys, for ever.
        try log.checkpoint()
    }

    private func create(_ name: String) throws {
        let name = try NameCodec(ring: ring, limit: 255).encoding(of: Array(name.utf8), in: .root(vaultID: []))
            .entry.description
        let file = Tracked(name)
        files.append(file)
        doing = "creating \(name)"
        let making = try log.making(in: [IntentLog.Directory(known: 0) { [] }])
        defer { log.end(making.ticket) }
        let descriptor = try disk.open(at: SimulatedDisk.root, StoredName(name).cString, flags: O_RDWR | O_CREAT)
        file.contents = try FileContents(
            creating: descriptor, disk: disk, ring: ring, cipher: cipher, log: log, making: making,
            place: { [StoredName(name)] }, scratch: scratch)
    }

    private func act(_ file: Tracked, _ step: Int) throws {
        guard let contents = file.contents else { return }
        switch random.below(13) {
        case 12:
            // Files are new only for so long; here comes another.
            guard let index = files.firstIndex(where: { $0 === file }) else { return }
            file.contents = nil
            files.remove(at: index)
            made += 1
            try create("file \(made)")
            files.swapAt(index, files.count - 1)
        case 0...1:
            doing = "step \(step), sync \(file.name)"
            try contents.sync(dataOnly: random.oneIn(2), scratch)
            file.states = [file.model.bytes]
            file.wasSynced = true
        case 2:
            doing = "step \(step), checkpoint"
            try log.checkpoint()
            for file in files {
                file.states = [file.model.bytes]
                file.wasSynced = true
            }
        case 3:
            doing = "step \(step), settle \(file.name)"
            try contents.settle(scratch)
        case 4:
            doing = "step \(step), open \(file.name) again"
            try contents.settle(scratch)
            let descriptor = try disk.open(at: SimulatedDisk.root, StoredName(file.name).cString, flags: O_RDWR)
            let name = file.name
            file.contents = try FileContents(
                disk: disk, ring: ring, cipher: cipher, descriptor: descriptor, isWritable: true, log: log,
                place: { [StoredName(name)] }, scratch: scratch)
        default:
            let operation = FileOperation.random(size: file.model.size, limit: sizeLimit, using: &random)
            doing = "step \(step), \(file.name): \(operation)"
            var after = file.model
            operation.apply(to: &after)
            file.states.append(after.bytes)
            try contents.perform(operation, scratch)
            #expect(same(try contents.readBytes(after.size, at: 0, scratch), after.bytes), "seed \(seed), \(doing)")
            file.model = after
        }
    }

    // MARK: Cuts

    private func cut() {
        guard failure == nil, random.oneIn(2) else { return }
        cuts += 1
        let loss = SimulatedDisk.Loss.allCases[random.below(SimulatedDisk.Loss.allCases.count)]
        var left = disk.crashed(loss, &random)
        do {
            if random.oneIn(4) {
                // Another one while recovering from it.
                var second: SimulatedDisk?
                var changes = random.below(6)
                left.onChange = { [unowned self, left] in
                    changes -= 1
                    if changes < 0, second == nil { second = left.crashed(.anything, &random) }
                }
                _ = try recover(left)
                left.onChange = nil
                if let second { left = second }
            }
            let report = try recover(left)
            for file in files { try check(file, left) }
            if !report.failed.isEmpty { throw Wrong("could not be recovered: \(report)") }
        } catch {
            failure = "\(loss): \(error)"
        }
    }

    // MARK: Logs and files that do not belong together

    /// The log of an earlier moment beside files of now, as a restored backup or a copy may have it: nothing may change.
    private func tryOldLog() throws {
        if random.oneIn(4) { oldLogs.append(disk.crashed(.nothing, &random)) }
        guard let old = oldLogs.randomElement(using: &random), random.oneIn(3) else { return }
        // What the present log has for the files is not to be had from the old one.
        for file in files { try file.contents?.drain() }
        let mixed = disk.crashed(.nothing, &random)
        for name in LogDirectory.segmentNames { mixed.take(name.description, from: old) }
        _ = try recover(mixed)
        for file in files {
            let contents = try open(file, mixed)
            let bytes = try contents.readBytes(contents.size, at: 0, otherScratch)
            #expect(same(bytes, file.model.bytes), "seed \(seed), after \(doing), with an old log: \(file.name)")
        }
    }

    /// A file that is cut off while no record says that it grows is damaged, and stays so: nor does the log of an earlier moment say it.
    private func tryAttack(_ file: Tracked) throws {
        // One that was closed just now was not settled, as a mount does, so its old ends may still be ends.
        guard file.contents != nil, file.model.size > 2 * 4096, random.oneIn(4) else { return }
        // Ends that were ends until a moment ago may still be so.
        for file in files { try file.contents?.settle(scratch) }
        if random.oneIn(2) {
            // What the log says of it is void from here on.
            try file.contents?.sync(dataOnly: true, scratch)
            file.states = [file.model.bytes]
            file.wasSynced = true
        } else {
            try log.checkpoint()
            for file in files {
                file.states = [file.model.bytes]
                file.wasSynced = true
            }
        }
        if random.oneIn(2) {
            let data = random.bytes(100)
            file.model.write(data, at: 10)
            try file.contents?.writeBytes(data[...], at: 10, scratch)
            file.states.append(file.model.bytes)
        }
        let old = random.oneIn(3) ? oldLogs.randomElement(using: &random) : nil
        if old != nil { try file.contents?.drain() }
        let attacked = disk.crashed(.nothing, &random)
        if let old {
            for name in LogDirectory.segmentNames { attacked.take(name.description, from: old) }
        }
        let blocks = 1 + random.below((file.model.size - 1) / 4096)
        attacked.cut(file.name, to: 32 + 4128 * blocks)
        _ = try recover(attacked)
        do {
            let contents = try open(file, attacked)
            let bytes = try contents.readBytes(contents.size, at: 0, otherScratch)
            // What was synced since the log began it may have, and bring back.
            #expect(
                same(bytes, file.model.bytes), "seed \(seed), after \(doing): \(file.name) cut to \(blocks) blocks")
        } catch is VaultError {
            // As it should be.
        }
    }

    private func open(_ file: Tracked, _ disk: SimulatedDisk) throws -> FileContents {
        try FileContents(
            disk: disk, ring: ring, cipher: cipher,
            descriptor: try disk.open(at: SimulatedDisk.root, StoredName(file.name).cString, flags: O_RDWR),
            isWritable: true,
            scratch: otherScratch)
    }

    private struct Wrong: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }

    private func recover(_ disk: SimulatedDisk) throws -> LogRecovery.Report {
        try disk.recover(ring, otherScratch)
    }

    private func check(_ file: Tracked, _ disk: SimulatedDisk) throws {
        let descriptor: Int32
        do {
            descriptor = try disk.open(at: SimulatedDisk.root, StoredName(file.name).cString, flags: O_RDWR)
        } catch {
            if file.wasSynced { throw Wrong("\(file.name) is gone") }
            return
        }
        let bytes: [UInt8]
        do {
            let contents = try FileContents(
                disk: disk, ring: ring, cipher: cipher, descriptor: descriptor, isWritable: true, scratch: otherScratch)
            bytes = try contents.readBytes(contents.size, at: 0, otherScratch)
        } catch {
            throw Wrong("\(file.name) cannot be read: \(error), states \(file.states.map(\.count))")
        }
        if file.states.count == 1, file.wasSynced {
            guard same(bytes, file.states[0]) else {
                throw Wrong(
                    "\(file.name) has \(bytes.count) bytes that are not the \(file.states[0].count) that were synced")
            }
        }
        let sizes = file.states.map(\.count)
        let most = ((sizes.max() ?? 0) + 4095) / 4096 * 4096
        guard bytes.count <= most, !file.wasSynced || bytes.count >= sizes.min() ?? 0 else {
            throw Wrong("\(file.name) has \(bytes.count) bytes, of \(sizes)")
        }
        for start in stride(from: 0, to: bytes.count, by: 4096) {
            let end = min(start + 4096, bytes.count)
            let block = Array(bytes[start..<end])
            let isKnown = file.states.contains { state in
                guard state.count > start else { return false }
                let there = Array(state[start..<min(end, state.count)])
                return same(block, there + [UInt8](repeating: 0, count: block.count - there.count))
            }
            guard isKnown else {
                throw Wrong("\(file.name) has a block at \(start) that it never had, states \(sizes)")
            }
        }
    }
}
