import CofferCrypto
import CofferDisk
import CofferFormat
import CofferVault
import Foundation
import Glibc
import SystemPackage

@testable import CofferSeal

/// A vault of a test's own, and its seals.
final class SealedVault {
    let path: String
    let vault: Vault
    let key: SigningKey
    private let scratch: Scratch
    private let disk = Disk()

    init() throws {
        path = NSTemporaryDirectory() + "coffer-seal-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path + "/vault", withIntermediateDirectories: true)
        let ring = try KeyRing(keys: [0: SecretKey(copying: [UInt8](repeating: 5, count: 32))])
        vault = Vault(
            disk: disk, rootDescriptor: try disk.open(at: AT_FDCWD, path + "/vault", flags: O_RDONLY | O_DIRECTORY),
            ring: ring, vaultID: Array(0..<16), cipher: .aes256GCM, nameMax: 255)
        key = try SealKey.signing(ring)
        scratch = try Scratch()
    }

    deinit {
        do {
            try FileManager.default.removeItem(atPath: path)
        } catch {
            print("could not remove \(path): \(error)")
        }
    }

    /// Makes a directory in the root, and a file in it; the paths of their ciphertexts.
    func make(directory: String, file: String, _ bytes: [UInt8]) throws -> (directory: String, file: String) {
        let (name, identity) = try vault.makeDirectory(Array(directory.utf8), in: try vault.root(), mode: 0o700)
        let stored = path + "/vault/" + name.entry.description
        let descriptor = try disk.open(at: AT_FDCWD, stored, flags: O_RDONLY | O_DIRECTORY)
        defer { disk.close(descriptor) }
        let inside = try make(file, bytes, in: VaultDirectory(descriptor: descriptor, identity: identity))
        return (stored, stored + "/" + inside)
    }

    /// Makes a file in the root; the path of its ciphertext.
    @discardableResult
    func make(_ name: String, _ bytes: [UInt8]) throws -> String {
        path + "/vault/" + (try make(name, bytes, in: try vault.root()))
    }

    private func make(_ name: String, _ bytes: [UInt8], in directory: VaultDirectory) throws -> String {
        let (descriptor, stored) = try vault.makeFile(Array(name.utf8), in: directory, mode: 0o600)
        let contents = try vault.newContents(of: descriptor, making: nil, scratch)
        try bytes.withUnsafeBytes { buffer in
            if let base = buffer.baseAddress { try contents.write(base, count: buffer.count, at: 0, scratch) }
        }
        try contents.settle(scratch)
        return stored.entry.description
    }

    /// The stored names in the root that a seal is about, in its order.
    func names() throws -> [String] {
        let list = try NameList(disk: disk, descriptor: vault.rootDescriptor, isRoot: true)
        return (0..<list.count).map { String(decoding: list[$0], as: UTF8.self) }
    }

    /// The path of a cache that does not matter to anybody else.
    var cachePath: String { path + "/cache" }

    func sealing(readsAll: Bool = false) -> Sealing {
        Sealing(
            vault, vaultID: Array(0..<16), cachePath: cachePath, readsAll: readsAll, threadCount: 2,
            onProgress: { _ in })
    }

    @discardableResult
    func seal(_ sealing: Sealing? = nil) throws -> Sealing.Outcome {
        try (sealing ?? self.sealing()).run(known: 0, signing: key, publicKeys: [key.publicKey])
    }

    /// What a verification without a key finds; `done` is where an earlier one was broken off.
    func verify(
        done: SealVerification.Progress? = nil, owners: Bool = false, readFiles: inout Int,
        onDone: @escaping (SealVerification.Progress) -> Void
    ) throws -> [VerifyFinding] {
        guard
            let seals = try VaultSeals(
                disk: disk, root: vault.rootDescriptor, publicKeys: [key.publicKey]), let head = try seals.newest()
        else { return [] }
        var options = SealVerification.Options()
        if let done { options.done = done }
        options.owners = owners
        options.threadCount = 2
        let verification = SealVerification(
            disk: disk, root: vault.rootDescriptor, vault: nil, options: options, onProgress: { _ in }, onDone: onDone)
        let findings = try verification.run(head, in: seals)
        readFiles = verification.totals.filesRead
        return findings
    }

    /// Changes a byte of a stored file, and nothing else that can be set.
    func damage(_ stored: String, at offset: Int = 100) throws {
        let file = try disk.open(at: AT_FDCWD, stored, flags: O_RDWR)
        defer { disk.close(file) }
        let before = try disk.status(file)
        let byte = try disk.readBytes(file, limit: 1, at: offset)
        try disk.write(file, bytes: [byte[0] ^ 1], at: offset)
        try disk.setTimes(file, access: before.st_atim, modification: before.st_mtim)
    }

    /// Sets an extended attribute of a stored file.
    func setAttribute(_ stored: String, _ name: String) throws {
        let file = try disk.open(at: AT_FDCWD, stored, flags: O_RDONLY)
        defer { disk.close(file) }
        try disk.setAttribute(file, name, bytes: [1], flags: 0)
    }
}
