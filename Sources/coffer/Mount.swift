import ArgumentParser
import CLinux
import CofferDisk
import CofferKeys
import CofferMount
import CofferSeal
import CofferVault
import Glibc
import Logging
import SystemPackage

/// `coffer mount`.
struct Mount: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show a vault's contents in a directory.",
        discussion: """
            Returns when the mount answers; the work goes on in the background until 'coffer unmount', or a SIGTERM to the process, ends \
            it. What programs write is in the vault at the latest when the mount has ended; 'sync FILE' and fsync(2) put it there \
            earlier.

            A vault is mounted for writing once at a time, and what else changes it meanwhile may not be seen. With --shared, which is \
            slower, others may write to it: a copy tool, or other shared mounts on this machine. Their changes are seen within a second.

            With --sealed nothing can be changed, and every file that is opened is first compared as a whole with the vault's newest seal (see 'coffer seal'): what was exchanged, put \
            back, damaged or added gives an error and a line in the log. What is missing is named when mounting, and is an error where a program asks for it by name.

            Set-user-id programs and device nodes in the mount have no effect unless \
            asked for with -o suid and -o dev.

            Mount options (-o):
              ro, allow_other, idle=DURATION, log_file=FILE
              passphrase_file=FILE, passphrase_command=CMD, key_file=FILE, identity=FILE
              multi_writer (or shared: as --shared; mount(8) and fstab(5) understand the short one in a way of their own)
              allow_suid (or suid), allow_dev (or dev; mount(8) and fstab(5) do not pass these short ones on)
              noexec, noatime, nodiratime, sync, dirsync
              no_log (as --no-log), sealed (as --sealed), low_power (as --low-power)
              remount (with ro, rw, noexec and so on, as root)

            In /etc/fstab, with the program linked as /sbin/mount.fuse.coffer:
              /backup/photos /home/ada/Photos fuse.coffer noauto,passphrase_file=/root/photos.key 0 0

            Examples:
              coffer mount photos ~/Photos
              coffer mount --read-only --passphrase-file key photos /mnt
              coffer mount --idle 30m photos ~/Photos
            """)

    @Argument(help: "The vault's directory.")
    var vault: String

    @Argument(help: "An empty directory.")
    var mountpoint: String

    @Flag(name: .shortAndLong, help: "Stay in the foreground, with the log on standard error.")
    var foreground = false

    @Flag(help: "Let nothing be changed.")
    var readOnly = false

    @Flag(help: "Read only what the newest seal says: see below.")
    var sealed = false

    @Flag(help: "Let others write to the vault meanwhile: copy tools, other shared mounts.")
    var shared = false

    @Flag(help: "Do without the intent log: a power cut may then damage what is being written.")
    var noLog = false

    @Flag(help: "Wait for requests asleep: less processor time, later answers.")
    var lowPower = false

    @Flag(help: "Let other users in, as far as modes and ACLs do.")
    var allowOther = false

    @Option(help: ArgumentHelp("Unmount after DURATION (90, 90s, 15m, 8h) without use.", valueName: "duration"))
    var idle: String?

    @Option(help: ArgumentHelp("Write the log to FILE; else it goes to the system's log.", valueName: "file"))
    var logFile: String?

    @Option(name: .customShort("o"), help: ArgumentHelp("Mount options, separated by commas.", valueName: "options"))
    var options: [String] = []

    @OptionGroup var unlock: UnlockOptions

    func run() throws {
        var flags = try MountFlags(options.joined(separator: ","))
        flags.isReadOnly = flags.isReadOnly || readOnly
        flags.isShared = flags.isShared || shared
        flags.isSealed = flags.isSealed || sealed
        if flags.isSealed {
            guard !flags.isShared else { throw CommandError(.usage, "--sealed is for reading, --shared for writing") }
            flags.isReadOnly = true
        }
        flags.hasNoLog = flags.hasNoLog || noLog
        flags.hasLowPower = flags.hasLowPower || lowPower
        flags.allowsOthers = flags.allowsOthers || allowOther
        if flags.isRemount {
            return try Remount.apply(options.joined(separator: ","), vault: vault, mountpoint: mountpoint)
        }
        let idleSeconds = try (idle ?? flags.idle).map { text throws(CommandError) in try Self.seconds(text) }
        let place = try Mountpoint(mountpoint, vault: vault)
        try Self.checkFUSE()
        var unlocking = unlock
        unlocking.passphrase.passphraseFile = unlock.passphrase.passphraseFile ?? flags.passphraseFile
        unlocking.passphrase.passphraseCommand = unlock.passphrase.passphraseCommand ?? flags.passphraseCommand
        unlocking.keyFile = unlock.keyFile ?? flags.keyFile
        unlocking.identity = unlock.identity ?? flags.identity
        do {
            try unlocking.validate()
        } catch {
            throw CommandError(.usage, "\(error)")
        }
        let log = try Self.logTarget(logFile ?? flags.logFile, foreground: foreground)

        // Before anything starts a thread. The child asks for the passphrase, so that keys never cross from one process to the other.
        let background = foreground ? nil : try Background.fork()
        let directory = try VaultDirectory.open(vault)
        let source = try CommandError.naming(vault) { () throws(KeysError) in try VaultOpening.location(of: vault) }
        try lock(directory, source: source, &flags)
        let opened = try unlocking.open(directory)
        var mountOptions = MountOptions(source: source, mountpoint: place.path)
        mountOptions.isReadOnly = flags.isReadOnly
        mountOptions.company = flags.isReadOnly ? .watching : flags.isShared ? .together : .alone
        mountOptions.allowsOthers = flags.allowsOthers
        mountOptions.allowsDevices = flags.allowsDevices
        mountOptions.allowsSetUserID = flags.allowsSetUserID
        mountOptions.leavesFileAccessTimes = flags.leavesFileAccessTimes
        mountOptions.leavesDirectoryAccessTimes = flags.leavesDirectoryAccessTimes
        mountOptions.kernelOptions = flags.kernelOptions
        mountOptions.idleSeconds = idleSeconds
        mountOptions.sparesProcessors = flags.hasLowPower
        let guardian = flags.isSealed ? try SealedReading(directory, opened).guardian() : nil
        try serve(opened, directory, mountOptions, guardian, log, background, logIsWanted: !flags.hasNoLog)
    }

    private func serve(
        _ opened: UnlockedVault, _ directory: VaultDirectory, _ options: MountOptions, _ sealed: SealGuard?,
        _ log: LogTarget, _ background: Background?, logIsWanted: Bool
    ) throws(CommandError) {
        let descriptorLimit = Int(coffer_raise_nofile_limit())
        LoggingSystem.bootstrap { _ in LogLines(target: log) }
        // The directory's own descriptor holds the lock; the vault works through another.
        let root: Int32
        do throws(Errno) {
            root = try directory.disk.duplicate(directory.descriptor)
        } catch {
            throw CommandError(error, "open it", vault: vault)
        }
        if options.company != .watching { try directory.settle() }
        let logger = Logger(label: "coffer")
        let opening = IntentLogOpening(
            disk: directory.disk, root: root, opened: opened, vault: vault, logger: logger)
        var intents: LogDirectory?
        switch options.company {
        case .alone: if logIsWanted { intents = try opening.forWriting() } else { try opening.beforeSharing() }
        case .together: try beforeSharing(directory, opening)
        case .watching: opening.forReading()
        }
        let content = Vault(
            disk: directory.disk, rootDescriptor: root, ring: opened.ring, vaultID: opened.config.vaultID,
            cipher: opened.config.cipher, nameMax: opened.config.nameMax, company: options.company, log: intents?.log)
        umask(0)
        do throws(MountError) {
            let session: Session
            do throws(MountError) {
                session = try Session(
                    vault: content, intents: intents, options: options, sealed: sealed, logger: logger,
                    descriptorLimit: descriptorLimit)
            } catch {
                withExtendedLifetime(content) { Self.giveUp(intents, logger) }
                throw error
            }
            // Here, not when ready: the serving threads have a working directory of their own each.
            if background != nil { _ = chdir("/") }
            try session.run { background?.ready() }
        } catch {
            switch error {
            case .options: throw CommandError(.usage, "the mount options were refused")
            case .refused:
                throw CommandError(
                    .noFUSE, "\(quoted(mountpoint)) could not be mounted; the line above says why")
            case .vault(let reason): throw CommandError(.inputOutput, "\(quoted(vault)): \(reason)")
            case .resources: throw CommandError(.other, "no memory or threads to serve the mount")
            }
        }
        withExtendedLifetime(directory) {}
    }

    /// What was left by a driver that was alone is recovered by the first of those who share.
    private func beforeSharing(_ directory: VaultDirectory, _ opening: IntentLogOpening) throws(CommandError) {
        let isCutShort = try opening.isRotationPending()
        guard isCutShort || LogDirectory.isThere(disk: directory.disk, rootDescriptor: directory.descriptor) else {
            return
        }
        var isAlone = false
        do throws(Errno) {
            isAlone = try directory.disk.tryLock(directory.descriptor, exclusive: true)
        } catch {
            throw CommandError(error, "lock it", vault: vault)
        }
        if isAlone {
            try opening.beforeSharing()
        } else if isCutShort {
            throw CommandError(
                .busy,
                "\(quoted(vault)): a rotation of its key was cut short; unmount it everywhere, so that it can be finished"
            )
        }
        do throws(Errno) {
            // The exclusive lock, or none after a failed attempt, becomes a shared one again.
            if try directory.disk.waitForLock(directory.descriptor, exclusive: false) { return }
        } catch {
            throw CommandError(error, "lock it", vault: vault)
        }
    }

    private static func giveUp(_ intents: LogDirectory?, _ logger: Logger) {
        do throws(VaultError) {
            try intents?.close()
        } catch {
            logger.warning("the intent log could not be removed (\(error)): the next mount will recover from it")
        }
    }

    /// One writer, or any number of readers. On a read-only file system the mount is read-only.
    private func lock(
        _ directory: VaultDirectory, source: String, _ flags: inout MountFlags
    ) throws(CommandError) {
        do throws(Errno) {
            if try directory.disk.fileSystemStatus(directory.descriptor).f_flag & UInt(ST_RDONLY) != 0,
                !flags.isReadOnly
            {
                flags.isReadOnly = true
                Report.warning("\(quoted(vault)) is on a read-only file system; mounting it read-only")
            }
            if try directory.lockUnlessMounted(source: source, exclusive: !flags.isReadOnly && !flags.isShared) {
                return
            }
        } catch {
            throw CommandError(error, "lock it", vault: vault)
        }
        throw CommandError(
            .busy,
            flags.isReadOnly || flags.isShared
                ? "\(quoted(vault)) is mounted for writing; unmount it first"
                : "\(quoted(vault)) is in use by another coffer; unmount it first, or mount with --read-only or --shared beside others that do"
        )
    }

    private static func checkFUSE() throws(CommandError) {
        if access("/dev/fuse", F_OK) != 0 {
            throw CommandError(.noFUSE, "there is no /dev/fuse; load the module with 'modprobe fuse', as root")
        }
        if geteuid() != 0 && access("/dev/fuse", R_OK | W_OK) != 0 {
            throw CommandError(.noFUSE, "/dev/fuse may not be opened by this user; 'chmod 666 /dev/fuse', as root")
        }
    }

    private static func logTarget(_ file: String?, foreground: Bool) throws(CommandError) -> LogTarget {
        guard let file else { return foreground ? .standardError : .systemLog }
        let descriptor = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw CommandError(
                .inputOutput, "log file \(quoted(file)) cannot be opened: \(String(cString: strerror(errno)))")
        }
        return .file(descriptor)
    }

    /// Seconds of a duration such as `90`, `90s`, `15m` or `8h`.
    static func seconds(_ text: String) throws(CommandError) -> Int {
        let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
        var digits = text
        var unit = 1
        if let last = text.last, let factor = units[last] {
            digits.removeLast()
            unit = factor
        }
        guard let count = Int(digits), count > 0, count <= 1_000_000_000 else {
            throw CommandError(.usage, "\(quoted(text)) is no duration; write it like 90s, 15m or 8h")
        }
        return count * unit
    }
}
