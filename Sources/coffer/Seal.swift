import ArgumentParser
import CLinux
import CofferCrypto
import CofferDisk
import CofferFormat
import CofferKeys
import CofferMount
import CofferSeal
import CofferVault
import Glibc
import SystemPackage

/// `coffer seal`.
struct Seal: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Sign what the vault is now, so that any copy of it can prove that it is that.",
        discussion: """
            Writes a signed list of everything in the vault's directory, encrypted as it is, with the hash of each file, to coffer.seals in it. It is copied with the rest. 'coffer \
            verify' then tells of any copy what is missing, damaged, exchanged or older, with the vault's key or only with the public key that 'coffer key export-public' prints.

            The vault may be mounted: what programs have written is brought to it first. Files are sealed as they are while nobody writes to them; one that is written to all the \
            time is left unproven, and named. What was not changed since this machine sealed the vault last, by size, times and inode number, is not read again, unless \
            --full is given. What is read is verified, too: damage does not become genuine by being sealed.

            With --anchor a code is printed to keep on paper: 'coffer verify --anchor CODE' tells on any machine whether a copy is this state or a newer one.

            The newest \(SealDefaults.manifests) seals are kept whole, of \(SealDefaults.heads) only their signed heads. After 'coffer key rotate' seal again: seals are by the key, and of what it encrypted.

            Examples:
              coffer seal photos
              coffer seal photos && rsync -aHAX --modify-window=-1 --delete photos/ backup:photos/
              coffer seal --anchor photos
            """)

    @Argument(help: "The vault's directory.")
    var vault: String

    @Flag(help: "Read everything, whatever this machine remembers.")
    var full = false

    @Flag(help: "Print a code that stands for this seal, to keep on paper.")
    var anchor = false

    @Flag(help: "Print what was done as JSON.")
    var json = false

    @OptionGroup var threads: ThreadOptions
    @OptionGroup var unlock: UnlockOptions

    private struct Result: Encodable {
        let seal: SealReport
        let counter: UInt64
        let time: String
        let root: String
        let entries: UInt64
        let bytes: UInt64
        let anchor: String
        let filesRead: Int
        let bytesRead: Int
        let unsure: [String]
        let damaged: [String]
    }

    func run() throws {
        _ = coffer_raise_nofile_limit()
        let directory = try VaultDirectory.open(vault)
        let mountpoints = try lock(directory)
        let opened = try unlock.open(directory)
        if mountpoints.isEmpty {
            if directory.hasIntentLog { try directory.recover(opened, tellingOfRotation: false) }
            try shareLock(directory)
        }
        settle(mountpoints)
        let content = try opened.content(of: directory)
        let key = try CommandError.memory { () throws(CryptoError) in try SealKey.signing(opened.ring) }
        let keys = try CommandError.memory { () throws(CryptoError) in try SealKey.publicKeys(opened.ring) }
        let known = KnownSeals(stateDirectory: KnownVaults.forThisUser.stateDirectory)
        let newest = try CommandError.naming(vault) { () throws(KeysError) in try known.newest(publicKeys: keys) }

        let before = Self.newest(directory, keys)
        let line = SealLine(entries: before?.entries ?? 0, bytes: 0)
        let sealing = Sealing(
            content, vaultID: opened.config.vaultID, cachePath: try cachePath(opened), readsAll: full,
            threadCount: threads.count, onProgress: line.show)
        let outcome: Sealing.Outcome
        do throws(VaultError) {
            outcome = try sealing.run(known: newest?.counter ?? 0, signing: key, publicKeys: keys)
        } catch {
            line.clear()
            let place = sealing.failedAt.map { quoted(SealNames(Tree(content)).path(of: $0).bytes) }
            throw CommandError(
                error.isDamage ? .damaged : .inputOutput,
                "\(place.map { "\($0) in " } ?? "")\(quoted(vault)) cannot be sealed: \(error.text)\(Self.remedy(error))"
            )
        }
        line.clear()
        if let warning = try CommandError.naming(
            vault, { () throws(KeysError) in try known.remember(outcome.head) })
        {
            Report.warning(warning)
        }
        if let failure = outcome.cacheFailure {
            Report.warning("what was read cannot be remembered (\(failure)): the next seal reads everything again")
        }
        if let failure = outcome.thinFailure {
            Report.warning("older seals could not be cut to their heads (\(failure.text)); the next seal tries again")
        }
        try tell(outcome, SealNames(Tree(content)))
    }

    private static func remedy(_ error: VaultError) -> String {
        switch error {
        case .system(.permissionDenied): "; seal it as its owner, or as root"
        case .system(.readOnlyFileSystem): "; a seal is written into the vault"
        default: ""
        }
    }

    private func tell(_ outcome: Sealing.Outcome, _ names: SealNames) throws(CommandError) {
        let head = SealReport(outcome.head)
        if json {
            try Report.line(
                try JSONText.pretty(
                    Result(
                        seal: head, counter: head.counter, time: head.time, root: head.root, entries: head.entries,
                        bytes: head.bytes, anchor: head.anchor, filesRead: outcome.totals.filesRead,
                        bytesRead: outcome.totals.bytesRead,
                        unsure: outcome.unsure.map { visible(names.path(of: $0).bytes) },
                        damaged: outcome.damaged.map { visible(names.path(of: $0).bytes) })))
        } else {
            try Report.line(
                "\(quoted(vault)): \(SealReport.name(outcome.head.counter, outcome.head.time)): \(head.entries) entries, \(ByteText.text(Int(clamping: head.bytes))); \(outcome.totals.filesRead) files read"
            )
            if anchor { try Report.line(head.anchor) }
        }
        for place in outcome.unsure {
            Report.warning("\(quoted(names.path(of: place).bytes)) was written to all the time: it is not proven")
        }
        for place in outcome.damaged {
            Report.problem("\(quoted(names.path(of: place).bytes)) is damaged; it is sealed as that")
        }
        if !outcome.damaged.isEmpty {
            throw CommandError(
                .damaged,
                "\(quoted(vault)) is sealed, but what is named above is damaged; see 'coffer check' and 'coffer repair'"
            )
        }
    }

    /// Where the vault is mounted: what is written there has to be brought to it. Where it is not, nobody shall write to it meanwhile.
    private func lock(_ directory: VaultDirectory) throws(CommandError) -> [String] {
        let source = try CommandError.naming(vault) { () throws(KeysError) in try VaultOpening.location(of: vault) }
        do throws(Errno) {
            if try directory.lockUnlessMounted(source: source, exclusive: true) { return [] }
            let mountpoints = Mountpoint.mounts().filter { $0.source == source }.map(\.path)
            if !mountpoints.isEmpty { return mountpoints }
            // Others read it.
            if try directory.disk.tryLock(directory.descriptor, exclusive: false), !directory.hasIntentLog { return [] }
        } catch {
            throw CommandError(error, "lock it", vault: vault)
        }
        throw CommandError(
            .busy,
            "\(quoted(vault)) is in use by another coffer, whose mount is not to be seen from here; seal it where it is mounted"
        )
    }

    /// From here on others may read it.
    private func shareLock(_ directory: VaultDirectory) throws(CommandError) {
        do throws(Errno) {
            _ = try directory.disk.tryLock(directory.descriptor, exclusive: false)
        } catch {
            throw CommandError(error, "lock it", vault: vault)
        }
    }

    private func settle(_ mountpoints: [String]) {
        for path in mountpoints where !Unmounting.settle(path) {
            Report.warning(
                "the mount on \(quoted(path)) does not say whether everything is in the vault: what was written just now may not be as sealed"
            )
        }
    }

    private static func newest(_ directory: VaultDirectory, _ keys: [[UInt8]]) -> SealHead? {
        do throws(VaultError) {
            return try VaultSeals(disk: directory.disk, root: directory.descriptor, publicKeys: keys)?.all.lazy
                .compactMap(\.head).first
        } catch {
            // Only to tell how far it is.
            return nil
        }
    }

    /// The cache of this vault at this place; nil where nothing can be remembered.
    private func cachePath(_ opened: UnlockedVault) throws(CommandError) -> String? {
        guard let state = KnownVaults.forThisUser.stateDirectory else { return nil }
        let location = try CommandError.naming(vault) { () throws(KeysError) in try VaultOpening.location(of: vault) }
        return SealDefaults.path(in: state, "sealed", Hex.encode(opened.config.vaultID), location)
    }
}

/// What sealing and verifying share.
enum SealDefaults {
    static let manifests = "three"
    static let heads = "a thousand older ones"

    /// The path of what is remembered of a vault at a place.
    static func path(in state: String, _ kind: String, _ vault: String, _ location: String) -> String {
        var hash = Hash(outputCount: 16)
        hash.update(Array(location.utf8))
        return "\(state)/\(kind)-\(vault.prefix(16))-\(Hex.encode(hash.finish()).prefix(16))"
    }
}
