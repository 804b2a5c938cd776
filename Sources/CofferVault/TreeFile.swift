import CofferFormat
import Glibc
import SystemPackage

/// A regular file's contents, read while somebody else may be writing them.
///
/// Another process that has the vault mounted may be in the middle of a write, and then a block that is perfectly well does not verify for a moment. So
/// nothing is called damage before it was read twice, and while the file keeps changing it is read some times more.
public final class TreeFile {
    /// How often a file that keeps changing is read again.
    private static let patience = 20
    private static let pause: useconds_t = 5000

    private let vault: Vault
    /// Open for reading, and of the same file whatever becomes of its name.
    private let descriptor: Int32
    private let isSalvaging: Bool
    private let scratch: Scratch
    private var contents: FileContents?
    /// The backing file's attributes when `contents` was opened.
    private var opened = stat()

    /// Opens a regular file by its stored name. `EINVAL` where it is something else.
    init(
        vault: Vault, directory: Int32, name: StoredName, salvaging: Bool, _ scratch: Scratch
    ) throws(VaultError) {
        self.vault = vault
        isSalvaging = salvaging
        self.scratch = scratch
        // Without O_NONBLOCK a fifo put in the file's place would be waited for.
        descriptor = try system { () throws(Errno) in
            try vault.disk.open(at: directory, name.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
        }
        let status = try system { () throws(Errno) in try vault.disk.status(descriptor) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .system(.invalidArgument) }
        _ = try patiently { (contents) throws(VaultError) in contents.size }
    }

    deinit {
        vault.disk.close(descriptor)
    }

    /// The plaintext size in bytes, as it was when the file was last opened.
    public var size: Int { contents?.size ?? 0 }

    /// The file's id: what its attributes are bound to.
    public var fileID: [UInt8] { contents?.fileID ?? [] }

    /// The backing file's descriptor, for its attributes.
    var backing: Int32 { descriptor }

    /// Reads up to `count` bytes at `offset`: fewer only at the end of the file. Damage anywhere in the range fails the whole call.
    public func read(
        into output: UnsafeMutableRawPointer, count: Int, at offset: Int
    ) throws(VaultError) -> Int {
        try patiently { (contents) throws(VaultError) in
            try contents.read(into: output, count: count, at: offset, scratch)
        }
    }

    /// The first offset at or after `offset` that is not in a hole; nil where there is none.
    public func nextData(from offset: Int) throws(VaultError) -> Int? {
        try patiently { (contents) throws(VaultError) in try contents.nextData(from: offset, scratch) }
    }

    /// The first offset at or after `offset` that is in a hole, or the size; nil at or after the end.
    public func nextHole(from offset: Int) throws(VaultError) -> Int? {
        try patiently { (contents) throws(VaultError) in try contents.nextHole(from: offset, scratch) }
    }

    /// The offset, at or after `offset`, of the first block that is not all zeros on disk, whether it verifies or not; the size where there is none.
    func nextStored(from offset: Int) throws(VaultError) -> Int {
        try patiently { (contents) throws(VaultError) in
            let before = (offset + BlockGeometry.plainCount - 1) / BlockGeometry.plainCount - 1
            guard let block = try contents.nextStored(after: before, scratch) else { return contents.size }
            return min(block * BlockGeometry.plainCount, contents.size)
        }
    }

    private func patiently<Result>(
        _ body: (FileContents) throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        var attempts = 0
        while true {
            do throws(VaultError) {
                return try body(try current())
            } catch {
                guard case .damaged = error else { throw error }
                attempts += 1
                let status = try system { () throws(Errno) in try vault.disk.status(descriptor) }
                if isUnchanged(status) {
                    if attempts > 1 { throw error }
                } else {
                    if attempts > Self.patience { throw error }
                    usleep(Self.pause)
                }
                // What was remembered of the file (its size, its holes) may be what is wrong.
                contents = nil
            }
        }
    }

    private func current() throws(VaultError) -> FileContents {
        if let contents { return contents }
        let (status, duplicate) = try system { () throws(Errno) in
            (try vault.disk.status(descriptor), try vault.disk.duplicate(descriptor))
        }
        opened = status
        let fresh = try FileContents(
            disk: vault.disk, ring: vault.ring, cipher: vault.cipher, descriptor: duplicate, isWritable: false,
            salvaging: isSalvaging, scratch: scratch)
        contents = fresh
        return fresh
    }

    private func isUnchanged(_ status: stat) -> Bool {
        status.st_size == opened.st_size && status.st_ctim.tv_sec == opened.st_ctim.tv_sec
            && status.st_ctim.tv_nsec == opened.st_ctim.tv_nsec
    }
}
