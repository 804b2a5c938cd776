import CofferVault

/// How a vault is to be mounted.
public struct MountOptions: Sendable {
    /// The vault's path, shown as the source of the mount.
    public var source: String
    /// An existing directory.
    public var mountpoint: String
    /// Nothing can be changed.
    public var isReadOnly = false
    /// Who else may change the vault meanwhile.
    public var company = Company.alone
    /// Other users may use the mount, as far as modes and ACLs let them.
    public var allowsOthers = false
    /// Device nodes and set-user-id programs in the mount have effect.
    public var allowsDevices = false
    /// As above, for set-user-id.
    public var allowsSetUserID = false
    /// Reading a file leaves its time of access as it is, where the driver may ask for that.
    public var leavesFileAccessTimes = false
    /// As above, for listing directories.
    public var leavesDirectoryAccessTimes = false
    /// Seconds without any request after which the mount ends by itself.
    public var idleSeconds: Int?
    /// Requests are waited for asleep, and never looked for.
    public var sparesProcessors = false
    /// Further options for the kernel, as after `-o`.
    public var kernelOptions: [String] = []
    /// Threads that serve requests.
    public var threadCount = 12

    /// Options with their defaults.
    public init(source: String, mountpoint: String) {
        self.source = source
        self.mountpoint = mountpoint
    }

    /// The text for libfuse's `-o`.
    var fuseText: String {
        // Commas and backslashes separate and escape there.
        let name = source.reduce(into: "") { text, character in
            if character == "," || character == "\\" { text.append("\\") }
            text.append(character)
        }
        var parts = ["fsname=\(name)", "subtype=coffer", "default_permissions"]
        if isReadOnly { parts.append("ro") }
        if allowsOthers { parts.append("allow_other") }
        parts.append(allowsDevices ? "dev" : "nodev")
        parts.append(allowsSetUserID ? "suid" : "nosuid")
        return (parts + kernelOptions).joined(separator: ",")
    }
}

/// Why a mount could not be had.
public enum MountError: Error, Sendable {
    /// libfuse refused the options.
    case options
    /// The kernel or fusermount3 refused the mount; libfuse has said why on standard error.
    case refused
    /// The vault's root cannot be used.
    case vault(String)
    /// No memory or threads.
    case resources
}
