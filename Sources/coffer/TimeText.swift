import Glibc

/// Times as ISO 8601 has them.
enum TimeText {
    /// In this machine's time zone, to the second: `2026-01-31T13:00:00+01:00`.
    static func local(_ time: timespec) -> String {
        var seconds = time.tv_sec
        var parts = tm()
        guard localtime_r(&seconds, &parts) != nil else { return String(time.tv_sec) }
        let zone = parts.tm_gmtoff
        let minutes = abs(zone) / 60
        return format(parts) + (zone < 0 ? "-" : "+") + twoDigits(minutes / 60) + ":" + twoDigits(minutes % 60)
    }

    /// In universal time, to the nanosecond: `2026-01-31T12:00:00.123456789Z`.
    static func universal(_ time: timespec) -> String {
        var seconds = time.tv_sec
        var parts = tm()
        guard gmtime_r(&seconds, &parts) != nil else { return String(time.tv_sec) }
        let digits = String(time.tv_nsec)
        return format(parts) + "." + String(repeating: "0", count: max(0, 9 - digits.utf8.count)) + digits + "Z"
    }

    private static func format(_ parts: tm) -> String {
        var parts = parts
        var text = [CChar](repeating: 0, count: 64)
        let count = strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S", &parts)
        return String(decoding: text[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func twoDigits(_ number: Int) -> String {
        (number < 10 ? "0" : "") + String(number)
    }
}
