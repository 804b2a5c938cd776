import Glibc

/// Results that may be long, or no text at all, on standard output.
final class Output {
    private static let limit = 65536
    private var pending: [UInt8] = []
    /// Whether a person looks at it.
    let isTerminal = isatty(STDOUT_FILENO) == 1

    /// Adds bytes; they are written when there are many, or by ``flush()``.
    func put(_ bytes: some Collection<UInt8>) throws(CommandError) {
        pending.append(contentsOf: bytes)
        if pending.count >= Self.limit { try flush() }
    }

    /// Adds text.
    func put(_ text: String) throws(CommandError) {
        try put(text.utf8)
    }

    /// Adds a name: as it is, or for a terminal with whatever could steer it made visible.
    func put(name: [UInt8]) throws(CommandError) {
        if isTerminal { try put(visible(name)) } else { try put(name) }
    }

    /// Writes what was added so far.
    func flush() throws(CommandError) {
        let bytes = pending
        pending.removeAll(keepingCapacity: true)
        try bytes.withUnsafeBytes { buffer in Result { () throws(CommandError) in try write(buffer) } }.get()
    }

    /// Writes a buffer at once, after what was added.
    func write(_ buffer: UnsafeRawBufferPointer) throws(CommandError) {
        if !pending.isEmpty { try flush() }
        var rest = buffer[...]
        while let base = UnsafeRawBufferPointer(rebasing: rest).baseAddress, !rest.isEmpty {
            let count = Glibc.write(STDOUT_FILENO, base, rest.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw CommandError(
                    .inputOutput, "standard output cannot be written: \(String(cString: strerror(errno)))")
            }
            rest = rest.dropFirst(count)
        }
    }
}

/// A name as text, with whatever could steer a terminal, and whatever is not UTF-8, made visible.
func visible(_ name: [UInt8]) -> String {
    if let text = String(validating: name, as: UTF8.self) { return printable(text) }
    var result = ""
    for byte in name {
        if (0x20..<0x7F).contains(byte) {
            result.unicodeScalars.append(Unicode.Scalar(byte))
        } else {
            result += "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
    }
    return result
}

/// A name between quotes, as text.
func quoted(_ name: [UInt8]) -> String {
    "'" + visible(name) + "'"
}
