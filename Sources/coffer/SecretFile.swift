import CofferCrypto
import CofferKeys
import Glibc

/// Files that hold secrets, or what goes with them.
enum SecretFile {
    /// The most that is read of any.
    private static let limit = 64 << 20

    /// Everything in a file, or in standard input where `path` is '-'. The caller wipes it.
    static func contents(_ path: String, what: String) throws(CommandError) -> [UInt8] {
        let descriptor = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw CommandError(
                .noPassphrase, "\(what) \(quoted(path)) cannot be opened: \(String(cString: strerror(errno)))")
        }
        defer { if path != "-" { close(descriptor) } }
        var status = stat()
        let size = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG ? Int(status.st_size) : 0
        var bytes: [UInt8] = []
        // Room for all of it at once, for growing leaves copies.
        bytes.reserveCapacity(min(limit, max(size, 64 << 10)) + 1)
        var part = [UInt8](repeating: 0, count: 64 << 10)
        defer { wipe(&part) }
        while true {
            let count = read(descriptor, &part, part.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw CommandError(
                    .noPassphrase, "\(what) \(quoted(path)) cannot be read: \(String(cString: strerror(errno)))")
            }
            if count == 0 { return bytes }
            bytes.append(contentsOf: part[..<count])
            guard bytes.count <= limit else {
                throw CommandError(.noPassphrase, "\(what) \(quoted(path)) is larger than \(limit >> 20) MiB")
            }
        }
    }

    /// A key file.
    static func keyFile(_ path: String) throws(CommandError) -> KeyFile {
        var bytes = try contents(path, what: "key file")
        do {
            return try KeyFile(consuming: &bytes)
        } catch {
            throw CommandError(.noPassphrase, "\(quoted(path)): \(error)")
        }
    }

    /// An identity; its passphrase is asked for where it has one.
    static func identity(_ path: String) throws(CommandError) -> Identity {
        var text = try contents(path, what: "identity")
        defer { wipe(&text) }
        let passphrase =
            Identity.isLocked(text) ? try Terminal.askSecret("passphrase for the identity \(quoted(path)): ") : nil
        do {
            return try Identity(parsing: text, passphrase: passphrase)
        } catch {
            let isWrong = error == .wrongSecret(type: "passphrase")
            throw CommandError(isWrong ? .wrongPassphrase : .noPassphrase, "identity \(quoted(path)): \(error)")
        }
    }

    /// A recipient: the text itself, or a file with it.
    static func recipient(_ word: String) throws(CommandError) -> RecipientKey {
        do {
            if word.hasPrefix("coffer-recipient-") { return try RecipientKey(parsing: word) }
            return try RecipientKey(
                parsing: String(decoding: try contents(word, what: "recipient"), as: UTF8.self))
        } catch let error as CommandError {
            throw error
        } catch {
            throw CommandError(.usage, "recipient \(quoted(String(word.prefix(60)))): \(error)")
        }
    }

    /// A recovery code from a file, or typed.
    static func recoveryCode(_ path: String?) throws(CommandError) -> RecoveryCode {
        var text: [UInt8]
        if let path {
            text = try contents(path, what: "recovery code")
        } else {
            // Shown as it is typed: nobody can type it unseen.
            text = try Terminal.ask("recovery code: ")
        }
        defer { wipe(&text) }
        do {
            return try RecoveryCode.parse(text)
        } catch {
            throw CommandError(.wrongPassphrase, "\(error)")
        }
    }

    /// Pieces of a recovery secret from files, or typed until there are enough.
    static func shares(_ paths: [String]) throws(CommandError) -> SharesSlot {
        var found: [RecoveryShare] = []
        for path in paths {
            var text = try contents(path, what: "piece")
            found.append(try share(&text, path))
        }
        while paths.isEmpty {
            let needed = found.first.map { " of the \($0.threshold) that are needed" } ?? ""
            var text = try Terminal.ask("piece \(found.count + 1)\(needed): ")
            let new = try share(&text, nil)
            if found.contains(where: { $0.number == new.number && $0.set == new.set }) {
                Report.note("piece \(new.number) was given already")
                continue
            }
            found.append(new)
            if let first = found.first, found.count >= Int(first.threshold) || new.set != first.set { break }
        }
        do {
            return try SharesSlot(found)
        } catch {
            throw CommandError(.wrongPassphrase, "\(error)")
        }
    }

    /// The piece in a text, which is wiped.
    private static func share(_ content: inout [UInt8], _ path: String?) throws(CommandError) -> RecoveryShare {
        defer { wipe(&content) }
        do {
            return try RecoveryShare.parse(content)
        } catch {
            throw CommandError(.wrongPassphrase, "\(path.map { quoted($0) + ": " } ?? "")\(error)")
        }
    }
}
