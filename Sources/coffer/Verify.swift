import ArgumentParser
import CLinux
import CofferCrypto
import CofferDisk
import CofferFormat
import CofferKeys
import CofferSeal
import CofferVault
import Glibc
import SystemPackage

/// `coffer verify`.
struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Tell whether a copy of a vault is what was sealed.",
        discussion: """
            Reads all of COPY, a vault or any copy of one, and compares it with the newest seal in it (see 'coffer seal'). With the vault's key, what differs is named by its plaintext \
            path, and blocks and names that differ are verified. With --public-key no secret is needed, and nothing can be read: that is for the machine that only keeps the copy.

            What differs is told in three degrees:
              damaged     no sync and no program leaves it so: other bytes with the size and time that were sealed, blocks or names that do not verify
              incomplete  it is not as sealed: missing, older, exchanged, with other permissions or attributes; or the whole copy is older than the newest seal that this machine has \
            seen. So is what a sync has not brought yet
              newer       changed or added after the seal, as far as its time and its blocks tell: only the next seal proves it
            Times of modification that differ alone are notes. Owners are compared with --owners.

            Exit status 0: everything is as sealed, or newer, which --strict makes \(ExitStatus.incomplete.rawValue), too; \(ExitStatus.damaged.rawValue): damaged; \(ExitStatus.incomplete.rawValue): incomplete; \
            \(ExitStatus.noSeal.rawValue): there is no genuine seal.

            Examples:
              coffer verify /mnt/backup/photos
              coffer verify --public-key photos.pub --strict /srv/photos
              coffer verify --anchor 000G0-… restored
            """)

    @Argument(help: "A vault, or a copy of one.")
    var copy: String

    @Option(
        help: ArgumentHelp("Do without the vault's key: FILE is from 'coffer key export-public'.", valueName: "file"))
    var publicKey: String?

    @Option(
        help: ArgumentHelp(
            "Tell whether the copy is the state of the anchor that was written down, or a newer one.", valueName: "code"
        ))
    var anchor: String?

    @Flag(help: "Fail for what is newer than the seal, too.")
    var strict = false

    @Flag(help: "Compare owners and groups, too.")
    var owners = false

    @Option(
        help: ArgumentHelp(
            "Do not compare 'times' or 'attributes' (permissions, ACLs, extended attributes).", valueName: "what"))
    var ignore: [VerifyIgnore] = []

    @Flag(help: "Go on where an earlier verification of this copy was broken off.")
    var resume = false

    @Flag(help: "Print what was found as JSON.")
    var json = false

    @OptionGroup var threads: ThreadOptions
    @OptionGroup var unlock: UnlockOptions

    func validate() throws {
        if publicKey != nil && unlock.isGiven {
            throw ValidationError("--public-key is for doing without the vault's key: give one or the other")
        }
    }

    func run() throws {
        _ = coffer_raise_nofile_limit()
        let wanted = try anchor.map { text throws(CommandError) in try Self.parse(text) }
        let directory = try VaultDirectory.open(copy)
        let keys: [[UInt8]]
        var vault: Vault?
        if let publicKey {
            keys = [try Self.read(publicKey)]
        } else {
            let opened = try unlock.open(directory, acceptingOlder: true)
            keys = try CommandError.memory { () throws(CryptoError) in try SealKey.publicKeys(opened.ring) }
            vault = try opened.content(of: directory)
        }
        var report = VerifyReport(copy: copy)
        do throws(VaultError) {
            try verify(directory, keys, vault, wanted, &report)
        } catch {
            throw CommandError(
                error.isDamage ? .noSeal : .inputOutput, "\(quoted(copy)) cannot be verified: \(error.text)")
        }
        try report.tell(json: json, isStrict: strict)
    }

    private func verify(
        _ directory: VaultDirectory, _ keys: [[UInt8]], _ vault: Vault?, _ wanted: SealAnchor?,
        _ report: inout VerifyReport
    ) throws(VaultError) {
        let seals = try VaultSeals(disk: directory.disk, root: directory.descriptor, publicKeys: keys)
        let head = try seals?.newest()
        report.note(seals?.all ?? [], newest: head)
        guard let seals, let head else { return }
        compareAge(head, seals, keys, wanted, &report)
        var options = SealVerification.Options()
        options.owners = owners
        options.times = !ignore.contains(.times)
        options.attributes = !ignore.contains(.attributes)
        options.threadCount = threads.count
        let resuming = VerifyResuming(copy, head)
        if let done = resuming.earlier {
            if resume {
                options.done = done
            } else {
                Report.note(
                    "an earlier verification of this was broken off after \(done.records) entries; --resume goes on there"
                )
            }
        }
        let line = SealLine(entries: head.entries, bytes: head.bytes)
        let verification = SealVerification(
            disk: directory.disk, root: directory.descriptor, vault: vault, options: options, onProgress: line.show,
            onDone: resuming.note)
        defer { line.clear() }
        let findings = try verification.run(head, in: seals)
        resuming.end()
        report.add(findings, verification.totals, vault.map { SealNames(Tree($0)) })
    }

    /// Whether there is a newer seal than the copy has.
    private func compareAge(
        _ head: SealHead, _ seals: VaultSeals, _ keys: [[UInt8]], _ wanted: SealAnchor?, _ report: inout VerifyReport
    ) {
        let known = KnownSeals(stateDirectory: KnownVaults.forThisUser.stateDirectory)
        do throws(KeysError) {
            if let doubt = try known.doubt(about: head, publicKeys: keys) { report.rolledBack(doubt.text) }
            if let warning = try known.remember(head) { Report.warning(warning) }
        } catch {
            Report.warning("\(error)")
        }
        guard let wanted else { return }
        report.compare(wanted, head, seals.all)
    }

    private static func parse(_ text: String) throws(CommandError) -> SealAnchor {
        do throws(SealAnchor.Problem) {
            return try SealAnchor(text)
        } catch {
            let reason =
                switch error {
                case .count(let found): "it has \(found) groups of five characters, not 7"
                case .group(let number): "group \(number) is not what was printed"
                case .kind: "it is a code of another kind"
                }
            throw CommandError(.usage, "this is no anchor: \(reason)")
        }
    }

    private static func read(_ path: String) throws(CommandError) -> [UInt8] {
        let bytes = try SecretFile.contents(path, what: "public key")
        do throws(FormatError) {
            return try SealKey.parse(String(decoding: bytes, as: UTF8.self))
        } catch {
            throw CommandError(
                .usage, "\(quoted(path)) holds no public key of seals; 'coffer key export-public' prints one")
        }
    }
}

/// What `--ignore` takes.
enum VerifyIgnore: String, ExpressibleByArgument, CaseIterable {
    case times
    case attributes
}
