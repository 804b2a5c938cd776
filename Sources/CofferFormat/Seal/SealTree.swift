import CofferCrypto

/// The Merkle tree of a manifest, hashed as its records come.
///
///     H(directory) = BLAKE2b-256("coffer.seal.directory" ‖ for each record in it: the record ‖, after a directory's, its H)
///     root         = BLAKE2b-256("coffer.seal.root" ‖ the root's record ‖ H(root))
public struct SealTree {
    private var open: [RunningHash]

    /// Nothing yet.
    public init() {
        let root = RunningHash()
        root.update("coffer.seal.root")
        open = [root]
    }

    /// How many directories are not ended.
    public var depth: Int { open.count - 1 }

    /// Adds a record.
    public mutating func add(_ record: UnsafeRawBufferPointer, isDirectory: Bool) {
        open.last?.update(record)
        guard isDirectory else { return }
        let directory = RunningHash()
        directory.update("coffer.seal.directory")
        open.append(directory)
    }

    /// Ends the last directory. There must be one.
    public mutating func end() {
        precondition(depth > 0)
        let hash = open.removeLast().finish()
        open.last?.update(hash)
    }

    /// What everything hashes to, once the root has ended; nothing may be added after.
    public func root() -> [UInt8] {
        precondition(depth == 0)
        return open[0].finish()
    }
}
