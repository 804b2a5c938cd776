import CofferMount

/// What comes after `-o`, and what mount(8) and fstab(5) add to it.
struct MountFlags {
    var isReadOnly = false
    var isShared = false
    var isRemount = false
    var hasNoLog = false
    var isSealed = false
    var hasLowPower = false
    // mount(8) does not keep the order of its own options and others, so what forbids wins.
    private var forbidsDevices = false
    private var forbidsSetUserID = false
    var leavesFileAccessTimes = false
    var leavesDirectoryAccessTimes = false
    var allowsOthers = false
    var allowsDevices = false
    var allowsSetUserID = false
    var idle: String?
    var passphraseFile: String?
    var passphraseCommand: String?
    var keyFile: String?
    var identity: String?
    var logFile: String?
    /// For the kernel as they are.
    var kernelOptions: [String] = []

    private static let kernelNames: Set<String> = [
        "noexec", "noatime", "sync", "dirsync",
    ]
    /// For whoever reads fstab, or the kernel's own defaults.
    private static let ignoredNames: Set<String> = [
        "rw", "exec", "atime", "relatime", "strictatime", "diratime", "async", "defaults", "auto",
        "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "default_permissions",
        "user_id", "group_id", "nosymfollow", "lazytime", "nolazytime",
    ]

    /// Reads comma-separated options; a comma or backslash in a value has a backslash before it.
    init(_ text: String) throws(CommandError) {
        for option in Self.split(text) where !option.isEmpty {
            let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0])
            let value = parts.count > 1 ? String(parts[1]) : nil
            switch (name, value) {
            case ("ro", nil): isReadOnly = true
            // mount(8) takes "shared" for how mounts propagate, and keeps it to itself.
            case ("shared", nil), ("multi_writer", nil): isShared = true
            case ("remount", nil): isRemount = true
            case ("no_log", nil): hasNoLog = true
            case ("sealed", nil): isSealed = true
            case ("low_power", nil): hasLowPower = true
            case ("nodiratime", nil): leavesDirectoryAccessTimes = true
            case ("allow_other", nil): allowsOthers = true
            case ("dev", nil), ("allow_dev", nil): allowsDevices = true
            case ("suid", nil), ("allow_suid", nil): allowsSetUserID = true
            case ("nosuid", nil): forbidsSetUserID = true
            case ("nodev", nil): forbidsDevices = true
            case ("idle", let value?): idle = value
            case ("passphrase_file", let value?): passphraseFile = value
            case ("passphrase_command", let value?): passphraseCommand = value
            case ("key_file", let value?): keyFile = value
            case ("identity", let value?): identity = value
            case ("log_file", let value?): logFile = value
            case (let name, nil) where Self.kernelNames.contains(name):
                kernelOptions.append(name)
                if name == "noatime" {
                    leavesFileAccessTimes = true
                    leavesDirectoryAccessTimes = true
                }
            case (let name, _)
            where Self.ignoredNames.contains(name) || name.hasPrefix("x-") || name == "comment" || name == "X-mount":
                break
            default:
                throw CommandError(
                    .usage, "unknown mount option \(quoted(option)); 'coffer help mount' lists those there are")
            }
        }
        allowsDevices = allowsDevices && !forbidsDevices
        allowsSetUserID = allowsSetUserID && !forbidsSetUserID
    }

    private static func split(_ text: String) -> [String] {
        var options = [""]
        var isEscaped = false
        for character in text {
            if isEscaped {
                options[options.count - 1].append(character)
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else if character == "," {
                options.append("")
            } else {
                options[options.count - 1].append(character)
            }
        }
        return options
    }
}

/// The ways in which mount(8) calls a file system's own program.
enum MountHelper {
    /// Turns `coffer VAULT MOUNTPOINT -o …` (mount.fuse3) and `mount.fuse.coffer VAULT MOUNTPOINT [-sfnv] [-o …] [-t …]` (mount(8)) into the words of
    /// `coffer mount`; anything else stays as it is.
    static func translate(_ arguments: [String], commands: Set<String>) -> [String] {
        guard let program = arguments.first else { return arguments }
        let words = Array(arguments.dropFirst())
        let isHelper = program.split(separator: "/").last?.hasPrefix("mount.") ?? false
        guard let first = words.first, isHelper || (!first.hasPrefix("-") && !commands.contains(first)) else {
            return arguments
        }
        var places: [String] = []
        var options: [String] = []
        var index = 0
        while index < words.count {
            let word = words[index]
            if word == "-o", index + 1 < words.count {
                options.append(words[index + 1])
                index += 1
            } else if word == "-t" || word == "-N" {
                index += 1
            } else if word.hasPrefix("-") {
                // -s, -f, -n and -v change nothing here.
                if !isHelper { return arguments }
            } else {
                places.append(word)
            }
            index += 1
        }
        guard places.count == 2, isHelper || !options.isEmpty else { return arguments }
        var joined = options.joined(separator: ",")
        if !isHelper {
            // mount.fuse3 adds these to every mount; who wants them links the program as mount.fuse.coffer.
            joined = joined.split(separator: ",").filter { $0 != "dev" && $0 != "suid" }.joined(separator: ",")
        }
        return [program, "mount"] + (joined.isEmpty ? [] : ["-o", joined]) + ["--"] + places
    }
}
