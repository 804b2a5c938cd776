import CofferCrypto
import CofferDisk
import CofferKeys
import CofferVault
import SystemPackage

/// A vault that is unlocked to be read without a mount.
final class VaultReading {
    /// The vault as the person wrote it.
    let path: String
    let tree: Tree
    // Holds the lock as long as this lives.
    private let directory: VaultDirectory

    /// Unlocks a vault and locks it against being mounted for writing meanwhile. Where it is mounted for writing already, reading goes on: what is stored is
    /// complete at every moment, if not the newest.
    init(_ directory: VaultDirectory, _ unlock: UnlockOptions) throws(CommandError) {
        self.directory = directory
        path = directory.path
        let isLocked: Bool
        do throws(Errno) {
            isLocked = try directory.disk.tryLock(directory.descriptor, exclusive: false)
        } catch {
            throw CommandError(error, "lock it", vault: directory.path)
        }
        tree = Tree(try unlock.open(directory).content(of: directory))
        if isLocked && directory.hasIntentLog {
            Report.note(
                "\(quoted(path)) was not unmounted the last time, or is a copy of a mounted vault; what was being written then may not verify until it is mounted for writing once"
            )
        }
        if !isLocked {
            Report.note(
                "\(quoted(path)) is mounted read-write, or its key is being rotated; what was not yet written does not show"
            )
        }
    }

    /// What a path leads to.
    func find(_ path: TreePath) throws(CommandError) -> TreeTarget {
        try CommandError.reading(path.bytes, vault: self.path) { () throws(VaultError) in try tree.find(path) }
    }
}

extension UnlockedVault {
    /// The contents of this vault, which is in `directory`.
    func content(of directory: VaultDirectory) throws(CommandError) -> Vault {
        do throws(Errno) {
            return Vault(
                disk: directory.disk, rootDescriptor: try directory.disk.duplicate(directory.descriptor), ring: ring,
                vaultID: config.vaultID, cipher: config.cipher, nameMax: config.nameMax)
        } catch {
            throw CommandError(error, "open it", vault: directory.path)
        }
    }
}

extension CommandError {
    /// A failure at a plaintext path of the vault at `vault`.
    init(_ error: VaultError, at path: [UInt8], vault: String) {
        let place = "\(quoted(path.isEmpty ? Array("/".utf8) : path)) in \(quoted(vault))"
        switch error {
        case .damaged(let damage): self.init(.damaged, "\(place) is damaged: \(damage)")
        case .system(.noSuchFileOrDirectory): self.init(.inputOutput, "\(place) does not exist")
        case .system(.invalidArgument): self.init(.inputOutput, "\(place) is no path in a vault")
        case .system(let code): self.init(.inputOutput, "\(place) cannot be read: \(code)")
        case .cryptography: self.init(.other, "no memory to decrypt with")
        }
    }

    /// Runs `body` and names a plaintext path of the vault at `vault` in what it throws.
    static func reading<Result>(
        _ path: [UInt8], vault: String, _ body: () throws(VaultError) -> Result
    ) throws(CommandError) -> Result {
        do throws(VaultError) {
            return try body()
        } catch {
            throw CommandError(error, at: path, vault: vault)
        }
    }

    /// Runs `body`, which fails for lack of memory only.
    static func memory<Result>(_ body: () throws(CryptoError) -> Result) throws(CommandError) -> Result {
        do throws(CryptoError) {
            return try body()
        } catch {
            throw CommandError(.other, "no memory to decrypt with")
        }
    }
}
