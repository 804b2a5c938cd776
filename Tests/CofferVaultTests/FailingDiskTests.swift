import CofferCrypto
import CofferDisk
import Randomness
import SystemPackage
import Testing

@testable import CofferVault

/// Where the disk fails, the operation says so, what was there is still there, and the same operation succeeds later.
struct FailingDiskTests {
    private static let block = 4096

    /// A session that comes through every way in which a file changes.
    private static let session: [FileOperation] = {
        var random = SeededRandom(seed: 31)
        func write(_ count: Int, at offset: Int) -> FileOperation {
            .write(data: random.bytes(count), offset: offset)
        }
        return [
            // Streams of appends, into the last block, up to its end, and beyond.
            write(100, at: 0), write(200, at: 100), write(block - 300, at: 300), write(2 * block, at: block),
            write(5000, at: 3 * block), write(3 * block, at: 3 * block + 5000), write(10, at: 6 * block + 5000),
            // Holes: made by a write and by growing, then filled from all sides.
            write(2 * block, at: 16 * block), write(block, at: 12 * block), write(3 * block, at: 7 * block),
            write(100, at: 14 * block + 10), .resize(30 * block + 17), write(2 * block, at: 29 * block),
            write(6 * block, at: 19 * block - 50), .reserve(offset: 20 * block, count: 20 * block, keepSize: false),
            // Overwriting what is stored.
            write(block, at: block), write(50, at: 2 * block + 7), write(4 * block, at: block),
            // Punching, across holes and at the end, and cutting, to a stored block and to a hole.
            .punch(offset: 2 * block + 5, count: 4 * block), .punch(offset: 10 * block, count: 12 * block),
            .zero(offset: 35 * block, count: 10 * block, keepSize: false), .resize(40 * block + 5), .resize(25 * block),
            .resize(17 * block + 300), .resize(2 * block + 3000), .resize(4 * block),
            // Nothing, and then again something.
            .resize(0), write(10, at: 5 * block + 5), .resize(0), .resize(3 * block),
            .zero(offset: 0, count: 2 * block, keepSize: true), write(9 * block, at: 2 * block + 1),
        ]
    }()

    @Test(arguments: CipherSuite.allCases, [0, 1, 20, 4000, 4128, 5000])
    func aChangeThatFailsLeavesTheFileAsItWas(cipher: CipherSuite, bytes: Int) throws {
        try runSession(cipher) { .once(call: $0, bytes: bytes) }
    }

    @Test(arguments: CipherSuite.allCases)
    func aFullDiskLeavesTheFileAsItWas(cipher: CipherSuite) throws {
        try runSession(cipher) { .full(call: $0) }
    }

    @Test(arguments: CipherSuite.allCases)
    func aFullCopyOnWriteDiskLeavesTheFileAsItWas(cipher: CipherSuite) throws {
        try runSession(cipher) { .fullCopyOnWrite(call: $0) }
    }

    /// Does the session once for every operation and every change within it that can fail.
    private func runSession(_ cipher: CipherSuite, _ fault: (Int) -> FailingDisk.Fault) throws {
        let directory = try TemporaryDirectory()
        defer { withExtendedLifetime(directory) {} }
        let scratch = try Scratch()
        for step in Self.session.indices {
            var call = 1
            while try failingRun(directory, cipher, scratch, step: step, fault(call)) {
                call += 1
                try #require(call < 40)
            }
        }
    }

    /// False where the operation succeeded before the fault came.
    private func failingRun(
        _ directory: TemporaryDirectory, _ cipher: CipherSuite, _ scratch: Scratch, step: Int,
        _ fault: FailingDisk.Fault
    ) throws -> Bool {
        let disk = FailingDisk()
        let operation = Self.session[step]
        let comment: Comment = "step \(step), \(operation): \(fault)"
        let path = directory.file("session")
        try removeFile(path)
        let file = try OpenContents(path, ring: try fixedRing(), cipher: cipher, disk: disk, scratch: scratch)
        var model = ByteModel()
        for earlier in Self.session[..<step] {
            try file.perform(earlier)
            earlier.apply(to: &model)
        }
        var changed = model
        operation.apply(to: &changed)

        disk.fault = fault
        let isDone: Bool
        do {
            try file.perform(operation)
            isDone = true
        } catch VaultError.system(let code) {
            isDone = false
            try #require(code == .noSpace || code == .ioError, comment)
        }
        disk.fault = nil
        if !isDone {
            if case .fullCopyOnWrite = fault, file.size > model.size {
                // The last block was filled up with zeros before what was to follow it could not be stored, and cannot be cut again.
                try #require(file.size == max(1, (model.size + Self.block - 1) / Self.block) * Self.block, comment)
                model.resize(to: file.size)
            }
            try expectIntact(file, model, changed, comment)
            // Whoever opens the file now finds the same.
            let other = try OpenContents(path, ring: file.ring, cipher: cipher, creating: false, scratch: scratch)
            try expectIntact(other, model, changed, comment)
            try file.perform(operation)
        }
        for later in Self.session[(step + 1)...] {
            try file.perform(later)
            later.apply(to: &changed)
        }
        try file.settle()
        try #require(try StoredFile(path, ring: file.ring).faults(isSettled: true) == [], comment)
        try #require(same(try file.readAll(), changed.bytes), comment)
        try file.reopen()
        try #require(same(try file.readAll(), changed.bytes), comment)
        return !isDone
    }

    /// The new end is stored, the file cannot be cut behind it, and the old end cannot be put back.
    @Test func aCutThatCanNeitherBeDoneNorUndoneStands() throws {
        let directory = try TemporaryDirectory()
        let disk = FailingDisk()
        let file = try OpenContents(directory.file("file"), ring: try fixedRing(), cipher: .aes256GCM, disk: disk)
        var random = SeededRandom(seed: 1)
        let bytes = random.bytes(5 * Self.block + 10)
        try file.write(bytes, at: 0)
        try file.settle()
        disk.fault = .dead(call: 2)
        // Nobody is told that it failed, for that would be wrong, but whoever syncs is.
        try file.resize(to: 2 * Self.block + 3149)
        #expect(throws: VaultError.system(.ioError)) { try file.sync() }
        #expect(same(try file.readAll(), Array(bytes[..<(2 * Self.block + 3149)])))
        disk.fault = nil
        try file.settle()
        #expect(try StoredFile(file.path, ring: file.ring).faults(isSettled: true) == [])
        try file.reopen()
        #expect(same(try file.readAll(), Array(bytes[..<(2 * Self.block + 3149)])))
    }

    /// What could not be cut off after a failure is not there when the file grows past it.
    @Test func whatIsLeftBehindTheEndBecomesNoHole() throws {
        let directory = try TemporaryDirectory()
        let disk = FailingDisk()
        let file = try OpenContents(directory.file("file"), ring: try fixedRing(), cipher: .aes256GCM, disk: disk)
        var random = SeededRandom(seed: 2)
        let bytes = random.bytes(Self.block)
        try file.write(bytes, at: 0)
        try file.settle()
        // The blocks that were to be added are there, the old end could not be sealed again, and nothing can be cut off.
        disk.fault = .dead(call: 2)
        #expect(throws: VaultError.system(.ioError)) { try file.write(random.bytes(3 * Self.block), at: Self.block) }
        disk.fault = nil
        try file.resize(to: 6 * Self.block)
        #expect(same(try file.readAll(), bytes + [UInt8](repeating: 0, count: 5 * Self.block)))
        try file.settle()
        #expect(try StoredFile(file.path, ring: file.ring).faults(isSettled: true) == [])
    }

    /// Some of what was to be the first blocks is there, and the disk takes nothing more.
    @Test func anEmptyFileThatCouldNotBeWrittenIsEmpty() throws {
        let directory = try TemporaryDirectory()
        let disk = FailingDisk()
        let file = try OpenContents(directory.file("file"), ring: try fixedRing(), cipher: .aes256GCM, disk: disk)
        try file.sync()
        var random = SeededRandom(seed: 3)
        disk.fault = .dead(call: 1, bytes: 60 * 4128)
        #expect(throws: VaultError.system(.ioError)) { try file.write(random.bytes(100 * Self.block), at: 0) }
        #expect(file.size == 0)
        disk.fault = nil
        try file.settle()
        let bytes = random.bytes(10)
        try file.write(bytes, at: 0)
        try file.settle()
        #expect(try StoredFile(file.path, ring: file.ring).faults(isSettled: true) == [])
        try file.reopen()
        #expect(same(try file.readAll(), bytes))
    }

    /// Each byte is what it was or what it was to be, and the size is what it was. That holds for blocks that were rewritten in place too: one that
    /// a write left torn is stored once more. Only where that fails as well, on a disk that takes no write at all, is such a block lost.
    private func expectIntact(
        _ file: OpenContents, _ model: ByteModel, _ changed: ByteModel, _ comment: Comment
    ) throws {
        try #require(file.size == model.size, comment)
        for offset in stride(from: 0, to: model.size, by: Self.block) {
            let bytes = try file.read(Self.block, at: offset)
            try #require(isMixture(bytes, at: offset, of: model, changed), comment)
        }
    }
}
