import CLinux
import Glibc
import Logging

/// Where the log of a mount goes: standard error in the foreground, a file, or the system's log.
enum LogTarget: Sendable {
    case standardError
    case file(Int32)
    case systemLog
}

/// One line for each message, without dates where whoever receives them adds their own.
struct LogLines: LogHandler {
    let target: LogTarget
    var logLevel: Logger.Level = .info
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let text = printable("\(event.message)")
        switch target {
        case .standardError: Self.put("coffer: \(text)\n", STDERR_FILENO)
        case .file(let descriptor): Self.put("\(Self.now()) \(event.level) \(text)\n", descriptor)
        case .systemLog:
            coffer_syslog(event.level >= .error ? LOG_ERR : event.level >= .warning ? LOG_WARNING : LOG_INFO, text)
        }
    }

    // Where the log cannot be written there is nowhere to say so.
    private static func put(_ line: String, _ descriptor: Int32) {
        var line = line
        line.withUTF8 { _ = write(descriptor, $0.baseAddress, $0.count) }
    }

    private static func now() -> String {
        var seconds = time(nil)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        var text = [CChar](repeating: 0, count: 32)
        let count = strftime(&text, text.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
        return String(decoding: text[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
