import Glibc

/// What the program says: results to standard output, everything else to standard error after its name.
enum Report {
    /// Lines of result.
    static func line(_ text: String) throws(CommandError) {
        guard put(text + "\n", on: STDOUT_FILENO) else {
            throw CommandError(.inputOutput, "standard output cannot be written: \(String(cString: strerror(errno)))")
        }
    }

    /// Something that does not stop the command.
    static func warning(_ text: String) {
        complain("warning: \(text)")
    }

    /// Something good to know.
    static func note(_ text: String) {
        complain("note: \(text)")
    }

    /// Something that went wrong with one thing among many.
    static func problem(_ text: String) {
        complain(text)
    }

    /// Why the command stops.
    static func failure(_ error: CommandError) {
        complain(error.description)
    }

    /// How the program is used, because that was asked for, or because it was used wrongly.
    static func usage(_ text: String, asked: Bool) {
        _ = put(text + "\n", on: asked ? STDOUT_FILENO : STDERR_FILENO)
    }

    // Where standard error cannot be written there is nowhere to say so.
    private static func complain(_ text: String) {
        _ = put("coffer: \(text)\n", on: STDERR_FILENO)
    }

    private static func put(_ text: String, on descriptor: Int32) -> Bool {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                return false
            }
            rest = rest.dropFirst(count)
        }
        return true
    }
}
