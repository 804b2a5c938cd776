import CofferCrypto
import CofferKeys
import Glibc

/// Reads a line that is a secret, into one buffer that is never copied by growing.
enum SecretLine {
    /// The longest passphrase, in bytes.
    static let limit = 4096

    /// The first line of what `descriptor` gives, without its newline, and nothing after it.
    ///
    /// Nil where a signal came and `interrupted` says that it ends the reading.
    static func read(
        _ descriptor: Int32, interrupted: () -> Bool = { false }
    ) throws(CommandError) -> Passphrase? {
        var line: [UInt8] = []
        line.reserveCapacity(limit + 1)
        defer { wipe(&line) }
        var byte: UInt8 = 0
        while true {
            let count = Glibc.read(descriptor, &byte, 1)
            if count < 0 {
                let code = errno
                if code == EINTR {
                    if interrupted() { return nil }
                    continue
                }
                throw CommandError(.noPassphrase, "the passphrase cannot be read: \(String(cString: strerror(code)))")
            }
            if count == 0 || byte == 0x0a { break }
            line.append(byte)
            if line.count > limit {
                throw CommandError(.noPassphrase, "the passphrase is longer than \(limit) bytes")
            }
        }
        do {
            return try Passphrase(consuming: &line)
        } catch {
            throw CommandError(.noPassphrase, "\(error); nothing was done")
        }
    }
}
