import CofferFormat
import CofferKeys
import CofferSeal
import FoundationEssentials
import Glibc

/// How far the verification of a copy is, kept so that one which is broken off can go on. It is kept now and then, and is of use for the same seal at the
/// same place only.
final class VerifyResuming {
    private struct Contents: Codable {
        var root: String
        var done: SealVerification.Progress
    }

    private static let interval = 5
    private let path: String?
    private let root: String
    private var last = time(nil)
    /// What an earlier verification of the same has done; nil for none.
    let earlier: SealVerification.Progress?

    init(_ copy: String, _ head: SealHead) {
        root = Hex.encode(head.root)
        var place: String?
        if let state = KnownVaults.forThisUser.stateDirectory, let resolved = realpath(copy, nil) {
            place = SealDefaults.path(in: state, "verifying", Hex.encode(head.vaultID), String(cString: resolved))
            free(resolved)
        }
        path = place
        earlier = Self.read(place).flatMap { [root] in $0.root == root ? $0.done : nil }
    }

    private static func read(_ path: String?) -> Contents? {
        guard let path, let file = fopen(path, "re") else { return nil }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&part, 1, part.count, file), count > 0 { bytes.append(contentsOf: part[..<count]) }
        do {
            return try JSONDecoder().decode(Contents.self, from: Data(bytes))
        } catch {
            // None, or of another version: everything is verified.
            return nil
        }
    }

    /// Keeps how far it is, every few seconds.
    func note(_ done: SealVerification.Progress) {
        guard let path else { return }
        let now = time(nil)
        guard now >= last + Self.interval else { return }
        last = now
        do {
            let bytes = Array(try JSONEncoder().encode(Contents(root: root, done: done)))
            guard let file = fopen(path + ".new", "we") else { return }
            let isWritten = fwrite(bytes, 1, bytes.count, file) == bytes.count
            if fclose(file) == 0, isWritten { rename(path + ".new", path) }
        } catch {
            // Then it cannot be resumed.
        }
    }

    /// It is through.
    func end() {
        if let path { unlink(path) }
    }
}
