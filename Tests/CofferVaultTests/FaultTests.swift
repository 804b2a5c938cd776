import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import Randomness
import SystemPackage
import Testing

@testable import CofferVault

/// With the intent log, any single call to the system fails: each result that a program sees is true, nothing that was there before is damaged, and all is
/// well when the fault is gone.
struct FaultTests {
    /// `COFFER_FAULTS` says how many sessions, `COFFER_FIRST_SEED` where their seeds begin.
    private static let seeds: Range<Int> = {
        let first = environmentNumber("COFFER_FIRST_SEED") ?? 0
        return first..<(first + (environmentNumber("COFFER_FAULTS") ?? 2))
    }()

    @Test(arguments: [EIO, ENOSPC, EDQUOT], [false, true])
    func anyCallFailsOnce(code: Int32, isPartial: Bool) throws {
        for seed in Self.seeds {
            try run(seed: UInt64(seed), Errno(rawValue: code), isPartial: isPartial, isLasting: false)
        }
    }

    /// From some call on nothing can be stored or synced, until that is over.
    @Test(arguments: [EIO, ENOSPC]) func allCallsFailForAWhile(code: Int32) throws {
        for seed in Self.seeds {
            try run(seed: UInt64(seed), Errno(rawValue: code), isPartial: false, isLasting: true)
        }
    }

    private func run(seed: UInt64, _ error: Errno, isPartial: Bool, isLasting: Bool) throws {
        let whole = try FaultSession(seed: seed)
        try whole.run(failing: nil, error, isPartial: isPartial, isLasting: isLasting)
        #expect(whole.calls > 30)
        for call in 0..<whole.calls {
            let session = try FaultSession(seed: seed)
            do {
                try session.run(failing: call, error, isPartial: isPartial, isLasting: isLasting)
            } catch {
                Issue.record("seed \(seed), call \(call) (\(session.failed)), \(session.doing): \(error)")
                return
            }
        }
    }
}

/// A scripted session on two files, in which one call fails.
private final class FaultSession {
    private struct Wrong: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }

    private final class Tracked {
        var contents: FileContents
        var model = ByteModel()
        /// What it may hold besides, since an operation failed.
        var others: [ByteModel] = []
        var synced: [UInt8]?

        init(_ contents: FileContents) { self.contents = contents }
    }

    private let seed: UInt64
    private let disk = SimulatedDisk()
    private let ring: KeyRing
    private let scratch: Scratch
    private let log: IntentLog
    private var files: [Tracked] = []
    private var random: SeededRandom
    private(set) var doing = "beginning"
    private(set) var failed = "none"
    private(set) var calls = 0

    init(seed: UInt64) throws {
        self.seed = seed
        random = SeededRandom(seed: seed)
        ring = try fixedRing()
        scratch = try Scratch()
        log = try disk.makeLog(ring, capacity: 200_000)
        for name in ["a", "b"] {
            files.append(Tracked(try disk.makeContents(try SimulatedDisk.stored(name, ring), ring, log, scratch)))
        }
    }

    func run(failing call: Int?, _ error: Errno, isPartial: Bool, isLasting: Bool) throws {
        disk.onCall = { [unowned self] name, part throws(Errno) in
            defer { calls += 1 }
            guard let call, isLasting ? calls >= call && calls < call + 40 : calls == call else { return }
            // What is merely read does not fail for want of room.
            let reads = ["read", "lseek", "statx", "open"]
            if error != .ioError || isLasting, reads.contains(name) { return }
            if failed == "none" { failed = name }
            if isPartial { part = 700 }
            throw error
        }
        for step in 0..<22 { try act(step) }
        disk.onCall = nil
        doing = "after the fault"
        for file in files { try look(file) }
        // What could not be stored while nobody waited for it is told once, to whoever syncs next.
        for file in files {
            do {
                try file.contents.sync(dataOnly: true, scratch)
            } catch {
                try file.contents.sync(dataOnly: true, scratch)
            }
        }
        // Everything works again.
        for file in files {
            let data = random.bytes(6000)
            try file.contents.writeBytes(data[...], at: 100, scratch)
            file.model.write(data, at: 100)
            for index in file.others.indices { file.others[index].write(data, at: 100) }
            try file.contents.sync(dataOnly: true, scratch)
            try look(file)
        }
        doing = "checkpoint after the fault"
        try log.checkpoint()
        for file in files { try look(file) }
        doing = "power cut after the fault"
        let left = disk.crashed(.all, &random)
        try recover(left)
        for (number, file) in files.enumerated() { try look(file, reopened(number, left)) }
    }

    private func act(_ step: Int) throws {
        let file = files[random.below(files.count)]
        let kind = random.below(8)
        let operation = FileOperation.random(size: file.model.size, limit: 12 * 4096, using: &random)
        do {
            switch kind {
            case 0...1:
                doing = "step \(step), sync"
                try file.contents.sync(dataOnly: kind == 0, scratch)
                if file.others.isEmpty { file.synced = file.model.bytes }
            case 2:
                doing = "step \(step), checkpoint"
                try log.checkpoint()
            default:
                doing = "step \(step), \(operation)"
                var after = file.model
                operation.apply(to: &after)
                file.synced = nil
                do {
                    try file.contents.perform(operation, scratch)
                    for index in file.others.indices { operation.apply(to: &file.others[index]) }
                    file.model = after
                } catch {
                    file.others.append(after)
                    throw error
                }
            }
        } catch is VaultError {
            // The program was told. What it had is there, or what it wanted.
            disk.pausingCalls { [self] in
                if step % 2 == 0 { checkPromises() }
            }
        }
        var trouble: Error?
        disk.pausingCalls { [self] in
            do {
                try look(file)
            } catch {
                trouble = error
            }
        }
        if let trouble { throw trouble }
    }

    /// Of a file that was synced and not changed since, a power cut now leaves everything.
    private func checkPromises() {
        let left = disk.crashed(.all, &random)
        do {
            try recover(left)
            for (number, file) in files.enumerated() {
                guard let synced = file.synced else { continue }
                let contents = try reopened(number, left)
                #expect(same(try contents.readBytes(contents.size, at: 0, scratch), synced), "seed \(seed), \(doing)")
            }
        } catch {
            Issue.record("seed \(seed), \(doing), \(failed) failed, power cut: \(error)")
        }
    }

    private func recover(_ disk: SimulatedDisk) throws {
        let report = try disk.recover(ring, scratch)
        if !report.failed.isEmpty { throw Wrong("\(report)") }
    }

    private func reopened(_ number: Int, _ disk: SimulatedDisk) throws -> FileContents {
        let name = try NameCodec(ring: ring, limit: 255).encoding(
            of: Array(["a", "b"][number].utf8), in: .root(vaultID: [])
        ).entry
        return try FileContents(
            disk: disk, ring: ring, cipher: .aes256GCM,
            descriptor: try disk.open(at: SimulatedDisk.root, name.cString, flags: O_RDWR), isWritable: true,
            scratch: scratch)
    }

    /// Everything can be read, and is of the one or the other.
    private func look(_ file: Tracked, _ reopened: FileContents? = nil) throws {
        let contents = reopened ?? file.contents
        let bytes = try contents.readBytes(contents.size, at: 0, scratch)
        let possible = [file.model] + file.others
        guard possible.contains(where: { $0.size == bytes.count }) || !file.others.isEmpty else {
            throw Wrong("\(bytes.count) bytes, not \(possible.map(\.size))")
        }
        for start in stride(from: 0, to: bytes.count, by: 4096) {
            let block = Array(bytes[start..<min(start + 4096, bytes.count)])
            let isKnown = possible.contains { model in
                let there = model.read(block.count, at: start)
                return same(block, there + [UInt8](repeating: 0, count: block.count - there.count))
                    || isMixture(block, at: start, of: file.model, model)
            }
            guard isKnown || block.allSatisfy({ $0 == 0 }) && !file.others.isEmpty else {
                throw Wrong("a block at \(start) that it never had, \(failed) failed")
            }
        }
    }
}
