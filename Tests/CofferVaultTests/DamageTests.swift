import CofferCrypto
import CofferDisk
import CofferFormat
import Glibc
import Randomness
import SystemPackage
import Testing

@testable import CofferVault

/// Whatever is done to a settled file's bytes is an error where it is read, and stays one: never other bytes.
struct DamageTests {
    private let directory: TemporaryDirectory
    private let scratch: Scratch
    private let disk = Disk()

    init() throws {
        directory = try TemporaryDirectory()
        scratch = try Scratch()
    }

    @Test(arguments: CipherSuite.allCases, DamageSample.names)
    func everyChangedByteIsFound(cipher: CipherSuite, name: String) throws {
        let sample = try DamageSample(name, cipher: cipher, in: directory)
        let path = directory.file("changed")
        try setRawBytes(path, sample.stored)
        let descriptor = try openFile(path)
        defer { close(descriptor) }
        var random = SeededRandom(seed: 21)
        // Small files byte by byte; of others the header, and a random choice.
        let positions =
            sample.stored.count < 9000
            ? Array(sample.stored.indices) : Array(0..<48) + (0..<2500).map { _ in random.below(sample.stored.count) }
        for position in positions {
            let change = UInt8(1 + random.below(255))
            var byte = sample.stored[position] ^ change
            try #require(pwrite(descriptor, &byte, 1, position) == 1)
            try expectFound(sample, path, "byte \(position) changed by \(change), seed 21")
            byte = sample.stored[position]
            try #require(pwrite(descriptor, &byte, 1, position) == 1)
        }
        #expect(try isWhole(sample, path))
    }

    @Test(arguments: CipherSuite.allCases, DamageSample.names)
    func everyStructuralChangeIsFound(cipher: CipherSuite, name: String) throws {
        let sample = try DamageSample(name, cipher: cipher, in: directory)
        let other = try DamageSample(name, cipher: cipher, in: directory, seed: 2)
        let path = directory.file("changed")
        for tampering in Tampering.structural(of: sample, other: other) {
            try setRawBytes(path, tampering.stored)
            try expectFound(sample, path, "\(tampering.description)")
        }
    }

    @Test(arguments: CipherSuite.allCases, DamageSample.names)
    func noWriteTurnsDamageIntoData(cipher: CipherSuite, name: String) throws {
        let sample = try DamageSample(name, cipher: cipher, in: directory)
        let other = try DamageSample(name, cipher: cipher, in: directory, seed: 2)
        var random = SeededRandom(seed: 22)
        var tamperings = Tampering.structural(of: sample, other: other)
        // Exchanges grow with the square of the blocks: a choice of them, and of single bytes.
        tamperings = tamperings.filter { _ in tamperings.count < 160 || random.oneIn(tamperings.count / 60) }
        for _ in 0..<40 {
            let position = random.below(sample.stored.count)
            var changed = sample.stored
            changed[position] ^= UInt8(1 + random.below(255))
            tamperings.append(Tampering(description: "byte \(position) changed, seed 22", stored: changed))
        }
        let path = directory.file("changed")
        for tampering in tamperings {
            for followUp in FollowUp.allCases {
                try setRawBytes(path, tampering.stored)
                try expectStaysFound(sample, path, followUp, "\(tampering.description), then \(followUp)")
            }
        }
    }

    /// Opens a file; nil where it is damaged.
    private func open(_ sample: DamageSample, _ path: String) throws -> FileContents? {
        let descriptor = try openFile(path)
        do {
            return try FileContents(
                disk: disk, ring: sample.ring, cipher: sample.cipher, descriptor: descriptor, isWritable: true,
                scratch: scratch)
        } catch VaultError.damaged {
            return nil
        }
    }

    /// Bytes from a damaged file; nil where they are not to be had.
    private func read(_ contents: FileContents, _ count: Int, at offset: Int) throws -> [UInt8]? {
        do {
            return try contents.readBytes(count, at: offset, scratch)
        } catch VaultError.damaged {
            return nil
        }
    }

    private func isWhole(_ sample: DamageSample, _ path: String) throws -> Bool {
        guard let contents = try open(sample, path), let bytes = try read(contents, contents.size, at: 0) else {
            return false
        }
        return same(bytes, sample.model.bytes)
    }

    /// The file as a whole does not read, and each block reads as it was or not at all.
    private func expectFound(_ sample: DamageSample, _ path: String, _ comment: Comment) throws {
        guard let contents = try open(sample, path) else { return }
        try #require(try read(contents, contents.size, at: 0) == nil, comment)
        for offset in stride(from: 0, to: max(contents.size, sample.model.size), by: 4096) {
            guard let bytes = try read(contents, 4096, at: offset), !bytes.isEmpty else { continue }
            try #require(same(bytes, sample.model.read(4096, at: offset)), comment)
        }
        try expectHolesTrue(contents, sample.model, comment)
    }

    /// What is passed over as a hole is zeros in truth.
    private func expectHolesTrue(_ contents: FileContents, _ model: ByteModel, _ comment: Comment) throws {
        var position = 0
        do {
            while let data = try contents.nextData(from: position, scratch) {
                try #require(data >= position, comment)
                let end = min(data, model.size)
                if position < end { try #require(model.isZero(position..<end), comment) }
                guard let hole = try contents.nextHole(from: data, scratch), hole > data else { break }
                position = hole
            }
        } catch VaultError.damaged {
            // Said, and so not hidden.
        }
    }

    private func expectStaysFound(
        _ sample: DamageSample, _ path: String, _ followUp: FollowUp, _ comment: Comment
    ) throws {
        guard let contents = try open(sample, path) else { return }
        let operation = followUp.operation(size: contents.size)
        var changed = sample.model
        operation.apply(to: &changed)
        var isDone = true
        do {
            try contents.perform(operation, scratch)
        } catch VaultError.damaged {
            isDone = false
        }
        if isDone && followUp.needsEnd {
            // The end was believed, so it must have been the true one.
            try #require(contents.size == changed.size, comment)
        }
        try contents.settle(scratch)
        guard let again = try open(sample, path) else { return }
        for offset in stride(from: 0, to: again.size, by: 4096) {
            guard let bytes = try read(again, 4096, at: offset) else { continue }
            if same(bytes, changed.read(4096, at: offset)) { continue }
            // Otherwise the operation stopped half-way: each byte is as it was or as it was to be.
            try #require(!isDone && isMixture(bytes, at: offset, of: sample.model, changed), comment)
        }
    }
}

/// What a program may do to a file without knowing that it is damaged.
enum FollowUp: CaseIterable {
    case append, wholeBlock, partOfBlock, wholeRun, shorten, lengthen, punch

    /// Whether the operation changes the end of the file.
    var needsEnd: Bool {
        switch self {
        case .append, .shorten, .lengthen: true
        case .wholeBlock, .partOfBlock, .wholeRun, .punch: false
        }
    }

    /// The operation on a file that says it has `size` bytes.
    func operation(size: Int) -> FileOperation {
        let middle = size / 2 / 4096 * 4096
        return switch self {
        case .append: .write(data: [UInt8](repeating: 0xA1, count: 10), offset: size)
        case .wholeBlock: .write(data: [UInt8](repeating: 0xA2, count: 4096), offset: middle)
        case .partOfBlock: .write(data: [UInt8](repeating: 0xA3, count: 100), offset: middle + 50)
        case .wholeRun: .write(data: [UInt8](repeating: 0xA4, count: 3 * 4096), offset: middle)
        case .shorten: .resize(size * 2 / 3)
        case .lengthen: .resize(size + 6000)
        case .punch: .punch(offset: size / 3, count: size / 2 + 1)
        }
    }
}
