import CofferDisk
import CofferFormat
import CofferVault

/// The seals in a vault or in a copy of one.
public final class VaultSeals {
    let store: SealStore
    /// All of them, newest first. Of manifests it is known only whether they are there.
    public private(set) var all: [StoredSeal]

    /// The seals below `root`; nil where there is no directory of them. What is signed by none of `publicKeys` is not genuine.
    public init?(disk: Disk, root: Int32, publicKeys: [[UInt8]]) throws(VaultError) {
        guard let store = try SealStore(disk: disk, root: root) else { return nil }
        self.store = store
        all = try store.counters().map { store.read($0, publicKeys: publicKeys) }
    }

    /// The newest seal that is genuine and whole: its manifest is read. Those before it in ``all`` are not, then.
    public func newest() throws(VaultError) -> SealHead? {
        for (index, seal) in all.enumerated() {
            guard case .whole(let head) = seal.state else { continue }
            do throws(VaultError) {
                if try store.isManifestGenuine(head) { return head }
                all[index].state = .incomplete(head)
            } catch {
                // An older one may be whole.
                all[index].state = .unreadable(error.errno)
            }
        }
        return nil
    }
}
