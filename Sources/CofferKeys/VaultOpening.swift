public import CofferDisk
public import CofferFormat
import Glibc

/// Opens a vault: reads its configuration, unlocks it, verifies it, and compares it with what this machine remembers.
public struct VaultOpening: Sendable {
    private let known: KnownVaults
    private let acceptingChange: Bool
    private let acceptingOlder: Bool

    /// How to open: `acceptingChange` is for a person who knows why the vault differs from what is remembered; `acceptingOlder` for what only looks whether a
    /// copy is the newest.
    public init(known: KnownVaults, acceptingChange: Bool, acceptingOlder: Bool = false) {
        self.known = known
        self.acceptingChange = acceptingChange
        self.acceptingOlder = acceptingOlder
    }

    /// The unlocked vault, every field of it to be believed, and a warning where it could not be remembered.
    ///
    /// `directory` is a descriptor of the vault's root that is open for reading, `location` its absolute real path.
    public func open<Secret: SlotType>(
        disk: Disk, directory: Int32, location: String, secret: Secret
    ) throws(KeysError) -> (vault: UnlockedVault, warning: String?) {
        let file = try ConfigStore(disk: disk, directory: directory).load()
        return try open(file, location: location, secret: secret)
    }

    /// As above, for a configuration that was loaded before.
    public func open<Secret: SlotType>(
        _ file: ConfigFile, location: String, secret: Secret
    ) throws(KeysError) -> (vault: UnlockedVault, warning: String?) {
        let vault = try VaultUnlocker.unlock(file, with: secret)
        do throws(KeysError) {
            return (vault, try known.meet(vault.sighting(at: location), acceptingChange: acceptingChange))
        } catch {
            guard acceptingOlder, case .vaultChanged(.older) = error else { throw error }
            return (vault, nil)
        }
    }

    /// The absolute path of `path` with every symbolic link followed, to know a place by.
    ///
    /// A path that is not UTF-8 is given as `hex:` and the digits of its bytes, so that no two places are one.
    public static func location(of path: String) throws(KeysError) -> String {
        guard let resolved = realpath(path, nil) else {
            throw .system("find \(quoted(path))", .init(rawValue: errno))
        }
        defer { free(resolved) }
        if let path = String(validatingCString: resolved) { return path }
        return "hex:" + Hex.encode(Array(UnsafeRawBufferPointer(start: resolved, count: strlen(resolved))))
    }
}

extension UnlockedVault {
    /// What a machine remembers of this vault when it is found at `location`, an absolute real path.
    public func sighting(at location: String) -> KnownVaults.Sighting {
        KnownVaults.Sighting(
            vaultID: Hex.encode(config.vaultID), fingerprints: fingerprints, counter: config.counter,
            location: location)
    }
}
