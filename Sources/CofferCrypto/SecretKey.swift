import CSodium

/// What a sub-key is for. The raw value is the sub-key's number in the format document.
public enum KeyPurpose: UInt64, CaseIterable, Sendable {
    /// File contents.
    case contents = 1
    /// The MAC half of name encryption.
    case nameMAC = 2
    /// The stream half of name encryption.
    case nameEncryption = 3
    /// The MAC half of directory records.
    case directoryMAC = 4
    /// The stream half of directory records.
    case directoryEncryption = 5
    /// Symbolic link targets.
    case symlinks = 6
    /// The MAC half of extended attribute names.
    case xattrNameMAC = 7
    /// The stream half of extended attribute names.
    case xattrNameEncryption = 8
    /// Extended attribute values.
    case xattrValues = 9
    /// The configuration's MAC and the slots' MACs.
    case configuration = 10
    /// The intent log.
    case log = 11
    /// Seals.
    case seals = 12
}

/// A 32-byte key in guarded, locked memory that is wiped when the last reference goes.
public final class SecretKey: @unchecked Sendable {
    /// Bytes in a key.
    public static let byteCount = 32

    // Written only during initialisation, so that sharing between threads is safe.
    private let storage: UnsafeMutableRawPointer

    /// A key made by `body`, which fills 32 zeroed bytes.
    public init(filling body: (UnsafeMutableRawBufferPointer) throws(CryptoError) -> Void) throws(CryptoError) {
        Sodium.require()
        guard let memory = sodium_malloc(Self.byteCount) else { throw .outOfMemory }
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: Self.byteCount)
        storage = memory
        try body(UnsafeMutableRawBufferPointer(start: memory, count: Self.byteCount))
        sodium_mprotect_readonly(memory)
    }

    deinit {
        sodium_free(storage)
    }

    /// A copy of 32 bytes; fails with `invalidParameter` on any other length.
    public convenience init(copying bytes: UnsafeRawBufferPointer) throws(CryptoError) {
        guard bytes.count == Self.byteCount else { throw .invalidParameter }
        try self.init { target in target.copyMemory(from: bytes) }
    }

    /// A copy of 32 bytes in an array, which the caller should wipe.
    public convenience init(copying bytes: [UInt8]) throws(CryptoError) {
        guard bytes.count == Self.byteCount else { throw .invalidParameter }
        try self.init { target in target.copyBytes(from: bytes) }
    }

    /// Up to 32 bytes, which are wiped, filled up with zeros; `invalidParameter` for more.
    public convenience init(consuming bytes: inout [UInt8]) throws(CryptoError) {
        defer { wipe(&bytes) }
        guard bytes.count <= Self.byteCount else { throw .invalidParameter }
        try self.init { target in bytes.withUnsafeBytes { target.copyMemory(from: $0) } }
    }

    /// A fresh random key.
    public static func random() throws(CryptoError) -> SecretKey {
        try SecretKey { target in Random.fill(target) }
    }

    /// The sub-key for one purpose, by `crypto_kdf_derive_from_key` in the context `CofferV1`.
    public func subkey(_ purpose: KeyPurpose) throws(CryptoError) -> SecretKey {
        try SecretKey { target throws(CryptoError) in
            guard let output = target.baseAddress else { throw .outOfMemory }
            let status = crypto_kdf_derive_from_key(
                output.assumingMemoryBound(to: UInt8.self), Self.byteCount, purpose.rawValue,
                "CofferV1", storage.assumingMemoryBound(to: UInt8.self))
            guard status == 0 else { throw .invalidParameter }
        }
    }

    /// The BLAKE2b-256 of `content`.
    public convenience init(hashing content: [UInt8]) throws(CryptoError) {
        try self.init { target in
            guard let output = target.baseAddress else { return }
            crypto_generichash(
                output.assumingMemoryBound(to: UInt8.self), Self.byteCount, content, UInt64(content.count), nil, 0)
        }
    }

    /// BLAKE2b-256 under this key of a label that separates uses, and `input`.
    public func derived(_ label: StaticString, _ input: [UInt8]) throws(CryptoError) -> SecretKey {
        let all = label.withUTF8Buffer { Array($0) } + input
        return try SecretKey { target in
            all.withUnsafeBytes { Hash.keyed(self, $0, into: target) }
        }
    }

    /// Lends the key's bytes.
    @inline(__always)
    public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        body(UnsafeRawBufferPointer(start: storage, count: Self.byteCount))
    }

    /// The key's address, valid while the key lives.
    @inline(__always)
    var pointer: UnsafePointer<UInt8> {
        UnsafePointer(storage.assumingMemoryBound(to: UInt8.self))
    }

    /// Whether two keys are equal, in constant time.
    public func isEqual(to other: SecretKey) -> Bool {
        sodium_memcmp(storage, other.storage, Self.byteCount) == 0
    }
}

/// Overwrites secrets where the optimiser must not remove the write.
public func wipe(_ bytes: inout [UInt8]) {
    bytes.withUnsafeMutableBytes { buffer in
        if let base = buffer.baseAddress { sodium_memzero(base, buffer.count) }
    }
}

/// Overwrites `count` bytes at `pointer`.
public func wipe(_ pointer: UnsafeMutableRawPointer, count: Int) {
    sodium_memzero(pointer, count)
}

/// Whether two byte strings are equal, in time that depends on their lengths only.
public func constantTimeEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    guard left.count == right.count else { return false }
    return left.withUnsafeBytes { a in
        right.withUnsafeBytes { b in
            guard let x = a.baseAddress, let y = b.baseAddress else { return true }
            return sodium_memcmp(x, y, a.count) == 0
        }
    }
}
