import CofferCrypto
import CofferDisk
import CofferFormat
import CofferKeys
import CofferSeal
import CofferVault

/// What 'coffer mount --sealed' does first.
struct SealedReading {
    /// So many things that are missing are named.
    private static let nameLimit = 20

    private let directory: VaultDirectory
    private let opened: UnlockedVault

    init(_ directory: VaultDirectory, _ opened: UnlockedVault) {
        self.directory = directory
        self.opened = opened
    }

    /// What the vault's newest seal says, once it was told what is missing, and whether a newer seal is known.
    func guardian() throws(CommandError) -> SealGuard {
        let keys = try CommandError.memory { () throws(CryptoError) in try SealKey.publicKeys(opened.ring) }
        let found = try reading { () throws(VaultError) in
            try VaultSeals(disk: directory.disk, root: directory.descriptor, publicKeys: keys)
        }
        guard let seals = found, let head = try reading({ () throws(VaultError) in try seals.newest() }) else {
            throw CommandError(
                .noSeal, "\(quoted(directory.path)) has no genuine seal that is whole; 'coffer seal' makes one")
        }
        try tellOfNewer(head, keys)
        try tellOfMissing(head, seals)
        return try reading { () throws(VaultError) in try SealGuard(head, in: seals) }
    }

    private func reading<Result>(_ body: () throws(VaultError) -> Result) throws(CommandError) -> Result {
        do throws(VaultError) {
            return try body()
        } catch {
            throw CommandError(
                error.isDamage ? .noSeal : .inputOutput,
                "\(quoted(directory.path)) cannot be compared with its seal: \(error.text)")
        }
    }

    private func tellOfNewer(_ head: SealHead, _ keys: [[UInt8]]) throws(CommandError) {
        let known = KnownSeals(stateDirectory: KnownVaults.forThisUser.stateDirectory)
        let doubt = try CommandError.naming(directory.path) { () throws(KeysError) in
            try known.doubt(about: head, publicKeys: keys)
        }
        if let doubt {
            Report.warning("\(quoted(directory.path)) is older than it should be: \(doubt.text)")
        }
    }

    private func tellOfMissing(_ head: SealHead, _ seals: VaultSeals) throws(CommandError) {
        var options = SealVerification.Options()
        options.contents = false
        options.times = false
        options.attributes = false
        let content = try opened.content(of: directory)
        let verification = SealVerification(
            disk: directory.disk, root: directory.descriptor, vault: content, options: options, onProgress: { _ in })
        let found = try reading { () throws(VaultError) in try verification.run(head, in: seals) }
        let names = SealNames(Tree(content))
        names.learn(from: found)
        let missing = found.filter {
            switch $0.kind {
            case .missing, .type: true
            default: false
            }
        }
        for finding in missing.prefix(Self.nameLimit) {
            Report.warning("missing: \(quoted(names.path(of: finding.place).bytes))")
        }
        if missing.count > Self.nameLimit { Report.warning("missing: \(missing.count - Self.nameLimit) more") }
    }
}
