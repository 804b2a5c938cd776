import CofferCrypto
import CofferFormat
import FoundationEssentials
import Glibc
import Testing

@testable import CofferKeys

/// Configurations that reached different places of the reader, kept, and mutations of them: none opens that should not, none brings the program down.
///
/// Corpus/ was made by this fuzzer. COFFER_CORPUS=1 with COFFER_SOAK=1 adds to it whatever says something that no kept one says.
struct ConfigCorpusTests {
    private static let here = URL(filePath: #filePath).deletingLastPathComponent()
    private static let corpus = here.appending(path: "Corpus").path

    private struct Vector: Decodable {
        let text: String
        let secrets: [String: String]
    }

    private struct Openers {
        let original: [UInt8]
        let all: [any SlotType]

        init() throws {
            let path = here.deletingLastPathComponent().appending(path: "CofferFormatTests/Vectors/slots.json")
            let vector = try JSONDecoder().decode(Vector.self, from: Data(contentsOf: path))
            original = Array(vector.text.utf8)
            func secret(_ name: String) throws -> String { try #require(vector.secrets[name]) }
            func keyFile(_ name: String) throws -> KeyFile {
                var bytes = try #require(Hex.decode(secret(name)))
                return try KeyFile(consuming: &bytes)
            }
            all = [
                PassphraseSlot(try Passphrase(secret("passphrase"))), KeyFileSlot(try keyFile("keyfile_strong")),
                KeyFileSlot(try keyFile("keyfile_renewed")),
                RecoverySlot(try RecoveryCode.parse(Array(secret("recovery").utf8))),
                try SharesSlot(
                    secret("shares").split(separator: "\n").map { try RecoveryShare.parse(Array($0.utf8)) }),
                RecipientSlot(try Identity(seed: SecretKey(copying: #require(Hex.decode(secret("identity")))))),
            ]
        }

        /// What reading and opening say, without what differs from one to the next; nil where it opens.
        func outcome(of bytes: [UInt8], with opener: any SlotType) throws -> String? {
            do {
                let file = try ConfigFile(parsing: bytes)
                // The test waits for what the format allows only where that is little.
                let isCheap = file.unverified.slots.allSatisfy {
                    ($0.number("memlimit") ?? 0) <= 16 << 20 && ($0.number("opslimit") ?? 0) <= 2
                }
                if !isCheap && (opener is PassphraseSlot || opener is KeyFileSlot) { return "dear" }
                _ = try VaultUnlocker.unlock(file, with: opener)
                return nil
            } catch {
                #expect(error is ConfigError || error is KeysError)
                return String("\(error)".filter { !$0.isNumber })
            }
        }
    }

    private static func kept() -> [(name: String, bytes: [UInt8])] {
        guard let stream = opendir(corpus) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasSuffix(".json") { names.append(name) }
        }
        return names.sorted().compactMap { name in
            FileManager.default.contents(atPath: corpus + "/" + name).map { (name, Array($0)) }
        }
    }

    @Test func theKeptOnesOpenNothing() throws {
        let openers = try Openers()
        for opener in openers.all { #expect(try openers.outcome(of: openers.original, with: opener) == nil) }
        let kept = Self.kept()
        try #require(kept.count >= 30)
        var said: Set<String> = []
        for (name, bytes) in kept {
            for opener in openers.all {
                let outcome = try openers.outcome(of: bytes, with: opener)
                #expect(outcome != nil, "\(name) opens")
                said.insert(outcome ?? "")
            }
        }
        // They are kept because they differ.
        #expect(said.count >= kept.count)
    }

    @Test func mutationsOfTheKeptOnesOpenNothing() throws {
        let openers = try Openers()
        let environment = ProcessInfo.processInfo.environment
        var bases = Self.kept().map(\.bytes) + [openers.original]
        var said: Set<String> = ["dear"]
        for base in bases {
            for opener in openers.all { said.insert(try openers.outcome(of: base, with: opener) ?? "") }
        }
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed of the mutations of kept configurations: \(seed)")
        var random = SeededGenerator(seed: seed)
        let isSoaking = environment["COFFER_SOAK"] == "1"
        for _ in 0..<(isSoaking ? 10_000 : 1000) {
            var bytes = Bool.random(using: &random) ? openers.original : bases.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 1...3, using: &random) { mutate(&bytes, using: &random) }
            if bytes == openers.original { continue }
            let opener = openers.all[Int.random(in: 0..<openers.all.count, using: &random)]
            let outcome = try openers.outcome(of: bytes, with: opener)
            #expect(outcome != nil, "opened: \(String(decoding: bytes, as: UTF8.self))")
            guard let outcome, said.insert(outcome).inserted else { continue }
            bases.append(bytes)
            if isSoaking && environment["COFFER_CORPUS"] == "1" {
                try Data(bytes).write(to: Self.here.appending(path: "Corpus/\(said.count).json"))
            }
        }
    }
}
