import CofferCrypto
import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// A seal as it lies in a vault.
public struct StoredSeal: Sendable {
    /// What it turns out to be.
    public enum State: Sendable {
        /// Genuine, with its whole manifest.
        case whole(SealHead)
        /// Genuine, but only the head is there: all that is kept of an old one.
        case headOnly(SealHead)
        /// The head is genuine, but the manifest is cut, changed, or another one's.
        case incomplete(SealHead)
        /// Not even the head is all there.
        case cut
        /// Not signed by this vault's key, changed, or none at all.
        case forged
        /// Of a newer version.
        case unknown
        /// It could not be read.
        case unreadable(Errno)
    }

    /// The counter that its name tells.
    public let counter: UInt64
    /// What it is.
    public var state: State
    /// What the next seal calls it by.
    public let hash: [UInt8]

    /// The head, where that is genuine.
    public var head: SealHead? {
        switch state {
        case .whole(let head), .headOnly(let head), .incomplete(let head): head
        case .cut, .forged, .unknown, .unreadable: nil
        }
    }
}

/// `coffer.seals` in a vault's root.
final class SealStore {
    /// Newer seals keep their manifests, older ones their heads.
    static let manifestLimit = 3
    /// So many heads are kept.
    static let headLimit = 1000
    /// More files are not looked at.
    private static let fileLimit = 100_000
    private static let makingPrefix = Array("new.".utf8)

    let disk: Disk
    let descriptor: Int32

    /// The seals of a vault; nil where it has none.
    init?(disk: Disk, root: Int32) throws(VaultError) {
        self.disk = disk
        do throws(Errno) {
            descriptor = try disk.open(
                at: root, ReservedName.seals.cString, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        } catch {
            if error == .noSuchFileOrDirectory { return nil }
            throw .system(error)
        }
    }

    deinit { disk.close(descriptor) }

    /// Makes the directory where there is none. The root's time stays: no program changed it.
    static func make(disk: Disk, root: Int32) throws(VaultError) -> SealStore {
        try system { () throws(Errno) in
            let before = try disk.status(root)
            do throws(Errno) {
                try disk.makeDirectory(
                    at: root, ReservedName.seals.cString, mode: before.st_mode & 0o777)
            } catch {
                if error == .fileExists { return }
                throw error
            }
            try disk.setTimes(root, access: before.st_atim, modification: before.st_mtim)
            let readable = try disk.reopen(root, flags: O_RDONLY | O_DIRECTORY)
            defer { disk.close(readable) }
            try disk.syncEntries(readable)
        }
        guard let store = try SealStore(disk: disk, root: root) else { throw .system(.noSuchFileOrDirectory) }
        return store
    }

    /// One sealing at a time.
    func lock() throws(VaultError) {
        _ = try system { () throws(Errno) in try disk.waitForLock(descriptor, exclusive: true) }
    }

    /// The counters of all files that are named as seals, newest first.
    func counters() throws(VaultError) -> [UInt64] {
        var counters: [UInt64] = []
        try RawDirectory(disk: disk, descriptor: descriptor).forEach { name, _ in
            if let counter = SealHead.counter(inFileName: name) { counters.append(counter) }
            return counters.count < Self.fileLimit
        }
        return counters.sorted(by: >)
    }

    /// What a file is; of the manifest, only whether it is there.
    func read(_ counter: UInt64, publicKeys: [[UInt8]]) -> StoredSeal {
        do throws(VaultError) {
            let file = try open(counter)
            defer { disk.close(file) }
            let size = try system { () throws(Errno) in Int(try disk.status(file).st_size) }
            let raw = try system { () throws(Errno) in try disk.readBytes(file, limit: SealHead.byteCount) }
            var state = size < SealHead.byteCount ? StoredSeal.State.cut : .forged
            for key in publicKeys where size >= SealHead.byteCount {
                do throws(FormatError) {
                    let head = try SealHead(opening: raw, publicKey: key)
                    guard head.counter == counter else { break }
                    state =
                        size == SealHead.byteCount + Int(head.manifestCount)
                        ? .whole(head) : size == SealHead.byteCount ? .headOnly(head) : .incomplete(head)
                    break
                } catch {
                    if error == .unsupported { state = .unknown }
                }
            }
            return StoredSeal(counter: counter, state: state, hash: SealHead.hash(raw))
        } catch {
            return StoredSeal(counter: counter, state: .unreadable(error.errno), hash: [])
        }
    }

    /// Reads the whole manifest of a seal: false where it is not what was signed.
    func isManifestGenuine(_ head: SealHead) throws(VaultError) -> Bool {
        let file = try open(head.counter)
        defer { disk.close(file) }
        do throws(VaultError) {
            let cursor = try SealCursor(
                disk: disk, descriptor: file, start: SealHead.byteCount, count: Int(head.manifestCount))
            let root = try cursor.finish()
            return root == head.root && UInt64(cursor.entries) == head.entries && UInt64(cursor.bytes) == head.bytes
        } catch {
            guard case .damaged = error else { throw error }
            return false
        }
    }

    /// Opens a seal's file.
    func open(_ counter: UInt64) throws(VaultError) -> Int32 {
        try system { () throws(Errno) in
            try disk.open(
                at: descriptor, SealHead.fileName(counter).cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
        }
    }

    /// A new seal's file, without a name that means anything.
    func makeFile() throws(VaultError) -> (descriptor: Int32, name: StoredName) {
        let name = StoredName(Self.makingPrefix + Base64URL.encode(Random.bytes(12)))
        let file = try system { () throws(Errno) in
            let mode = try disk.status(descriptor).st_mode & 0o666
            return try disk.open(
                at: descriptor, name.cString, flags: O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode: mode | 0o400)
        }
        return (file, name)
    }

    /// Gives a new seal its name, once all of it is on the disk. `EEXIST` where there is something of this name, unless that is to be replaced.
    func publish(
        _ file: Int32, _ name: StoredName, as counter: UInt64, replacing: Bool = false
    ) throws(VaultError) {
        try system { () throws(Errno) in
            try disk.sync(file)
            try disk.rename(
                from: descriptor, name.cString, to: descriptor, SealHead.fileName(counter).cString,
                mode: replacing ? .replace : .noReplace)
            try disk.syncEntries(descriptor)
        }
    }

    /// Removes a file that was not finished, and what sealings left that were killed.
    func removeUnfinished() throws(VaultError) {
        var names: [StoredName] = []
        try RawDirectory(disk: disk, descriptor: descriptor).forEach { name, _ in
            if name.starts(with: Self.makingPrefix) { names.append(StoredName(name)) }
            return true
        }
        for name in names {
            do throws(Errno) {
                try disk.remove(at: descriptor, name.cString)
            } catch {
                if error != .noSuchFileOrDirectory { throw .system(error) }
            }
        }
    }

    /// Leaves of old seals their heads, and of very old ones nothing. `genuine` are this vault's, newest first.
    func thin(_ genuine: [StoredSeal]) throws(VaultError) {
        var manifests = 0
        for (index, seal) in genuine.enumerated() {
            if index >= Self.headLimit {
                try system { () throws(Errno) in
                    try disk.remove(at: descriptor, SealHead.fileName(seal.counter).cString)
                }
                continue
            }
            guard case .whole = seal.state else { continue }
            manifests += 1
            if manifests > Self.manifestLimit { try leaveHead(seal.counter) }
        }
    }

    /// By a new file in the old one's place, so that there is always one that is whole.
    private func leaveHead(_ counter: UInt64) throws(VaultError) {
        let old = try open(counter)
        defer { disk.close(old) }
        let raw = try system { () throws(Errno) in try disk.readBytes(old, limit: SealHead.byteCount) }
        let (file, name) = try makeFile()
        defer { disk.close(file) }
        try system { () throws(Errno) in try disk.write(file, bytes: raw) }
        try publish(file, name, as: counter, replacing: true)
    }
}
