import CofferCrypto
import CofferFormat
import Foundation
import Randomness
import Testing

@testable import CofferVault

/// Random operations on a file, each followed by a look at it, against the same operations on plain bytes.
struct FileContentsModelTests {
    private static let limit = 2 << 20

    /// How many operations each seed does: 250, or `COFFER_MODEL_OPS`.
    static var operationCount: Int {
        ProcessInfo.processInfo.environment["COFFER_MODEL_OPS"].flatMap { Int($0) } ?? 250
    }

    @Test(arguments: CipherSuite.allCases, [1, 2, 3] as [UInt64])
    func contentsAreWhatTheModelSays(cipher: CipherSuite, seed: UInt64) throws {
        var random = SeededRandom(seed: seed &* 1000 &+ UInt64(cipher.rawValue))
        let directory = try TemporaryDirectory()
        defer { withExtendedLifetime(directory) {} }
        let ring = try fixedRing()
        let file = try OpenContents(directory.file("model"), ring: ring, cipher: cipher)
        var model = ByteModel()
        // The last operations, for whoever has to find out why.
        var history: [String] = []
        func trace() -> Comment { "seed \(seed) \(cipher):\n\(history.suffix(12).joined(separator: "\n"))" }

        for step in 0..<Self.operationCount {
            let operation = FileOperation.random(size: model.size, limit: Self.limit, using: &random)
            history.append("\(step): \(operation)")
            try file.perform(operation)
            operation.apply(to: &model)
            try #require(file.size == model.size, trace())

            let offset = random.below(model.size + 1)
            let count = 1 + random.below(random.oneIn(10) ? Self.limit : 20_000)
            try #require(same(try file.read(count, at: offset), model.read(count, at: offset)), trace())
            switch random.below(12) {
            case 0:
                try file.settle()
                history.append("settle")
                try expectSound(file, isSettled: true, trace())
            case 1:
                try file.sync()
                history.append("sync")
                #expect(!file.contents.needsSettling)
            case 2:
                try file.settle()
                try file.reopen()
                history.append("settle, reopen")
                try expectSound(file, isSettled: true, trace())
                try #require(same(try file.readAll(), model.bytes), trace())
            case 3:
                try expectHolesAgree(file, model, trace())
            case 4:
                try expectSound(file, isSettled: false, trace())
            default: break
            }
        }
        try file.settle()
        try expectSound(file, isSettled: true, trace())
        try file.reopen()
        try #require(same(try file.readAll(), model.bytes), trace())
        try expectHolesAgree(file, model, trace())
    }

    @Test(arguments: CipherSuite.allCases)
    func whatWasNotSettledReadsTheSame(cipher: CipherSuite) throws {
        var random = SeededRandom(seed: 77)
        let directory = try TemporaryDirectory()
        defer { withExtendedLifetime(directory) {} }
        let file = try OpenContents(directory.file("model"), ring: try fixedRing(), cipher: cipher)
        var model = ByteModel()
        for step in 0..<Self.operationCount {
            let operation = FileOperation.random(size: model.size, limit: 300_000, using: &random)
            try file.perform(operation)
            operation.apply(to: &model)
            if random.oneIn(3) { try file.reopen() }
            try #require(same(try file.readAll(), model.bytes), "step \(step): \(operation)")
            try expectSound(file, isSettled: false, "step \(step): \(operation)")
        }
    }

    private func expectSound(_ file: OpenContents, isSettled: Bool, _ comment: Comment) throws {
        let stored = try StoredFile(file.path, ring: file.ring)
        try #require(stored.plainSize == file.size, comment)
        try #require(stored.faults(isSettled: isSettled) == [], comment)
    }

    /// All that is said to be a hole is zeros: what is not zero is data.
    private func expectHolesAgree(_ file: OpenContents, _ model: ByteModel, _ comment: Comment) throws {
        var position = 0
        while let data = try file.nextData(position) {
            try #require(data >= position && data < model.size && model.isZero(position..<data), comment)
            let hole = try #require(try file.nextHole(data), comment)
            try #require(hole > data && hole <= model.size, comment)
            position = hole
        }
        // A file may end in a hole.
        try #require(model.isZero(position..<model.size), comment)
        try #require(try file.nextHole(model.size) == nil, comment)
    }
}
