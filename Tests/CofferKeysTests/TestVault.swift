import CofferCrypto
import CofferDisk
import CofferFormat
import CofferKeys
import FoundationEssentials
import Glibc

/// A directory that goes when the test does.
final class TemporaryDirectory {
    let path: String
    let descriptor: Int32

    init() throws {
        var template = Array("/tmp/coffer-keys-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw KeysError.system("make a directory", .init(rawValue: errno)) }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    }

    deinit {
        close(descriptor)
        removeTree(path)
    }

    /// The bytes of a file in it, or nil.
    func contents(_ name: String) -> [UInt8]? {
        let file = open(path + "/" + name, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var buffer = [UInt8](repeating: 0, count: 2 << 20)
        let count = read(file, &buffer, buffer.count)
        return count < 0 ? nil : Array(buffer[..<count])
    }

    /// Writes a file in it.
    func put(_ name: String, _ bytes: [UInt8]) {
        let file = open(path + "/" + name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        defer { close(file) }
        precondition(write(file, bytes, bytes.count) == bytes.count)
    }

    /// The names in it, sorted.
    var names: [String] {
        guard let stream = opendir(path) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    private func removeTree(_ path: String) {
        do {
            try FileManager.default.removeItem(atPath: path)
        } catch {
            print("\(path) stays: \(error)")
        }
    }
}

/// A vault that takes no time to open.
struct TestVault {
    let passphrase: Passphrase
    let made: UnlockedVault

    init(_ text: String = "pass", change: (inout VaultCreation) -> Void = { _ in }) throws {
        passphrase = try Passphrase(text)
        var creation = VaultCreation()
        creation.cost = .least
        change(&creation)
        made = try creation.make(passphrase: passphrase)
    }

    /// The same vault with its configuration changed and sealed again.
    func sealed(_ change: (inout VaultConfig) -> Void) throws -> ConfigFile {
        var config = made.config
        change(&config)
        return try ConfigFile(sealing: config, with: made.ring)
    }

    var text: String { String(decoding: made.file.bytes, as: UTF8.self) }
}

/// SplitMix64: a test that fails can be run again with the seed that it printed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
