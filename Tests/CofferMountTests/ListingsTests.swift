import CofferCrypto
import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import Logging
import SystemPackage
import Testing

@testable import CofferMount

/// Streams that listings share, for the kernel does not say whose a request is.
struct ListingsTests {
    private let home: FaultHome
    private let vault: Vault
    private let inode: CofferMount.Inode
    private let listings = Listings()

    /// A vault with 60 empty objects of well-formed names in its root.
    init() throws {
        home = try FaultHome()
        let root = try Disk().open(at: AT_FDCWD, "\(home.path)/vault", flags: O_RDONLY | O_DIRECTORY)
        let ring = try KeyRing(keys: [0: SecretKey(copying: [UInt8](repeating: 3, count: 32))])
        vault = Vault(
            disk: Disk(), rootDescriptor: root, ring: ring, vaultID: Array(0..<16), cipher: .aes256GCM, nameMax: 255)
        inode = CofferMount.Inode(try Disk().status(root))
        let codec = NameCodec(ring: ring, limit: 255)
        for number in 0..<60 {
            let name = try codec.encoding(of: Array("\(number)".utf8), in: vault.rootID).entry
            Disk().close(try Disk().open(at: root, name.cString, flags: O_CREAT | O_WRONLY, mode: 0o600))
        }
    }

    private func begin() throws -> DirectoryHandle {
        let descriptor = try Disk().open(at: AT_FDCWD, "\(home.path)/vault", flags: O_RDONLY | O_DIRECTORY)
        return DirectoryHandle(inode: inode, stream: DirectoryStream(vault: vault, descriptor: descriptor))
    }

    /// Up to `count` entries from a position on.
    private func read(_ handle: DirectoryHandle, from position: Int, count: Int) throws -> [ListedEntry] {
        let identity = try vault.root().identity
        return try handle.stream.withLock { stream in
            try stream.seek(to: position)
            var entries: [ListedEntry] = []
            while entries.count < count, let entry = try stream.next(identity) { entries.append(entry) }
            return entries
        }
    }

    private func remove(_ entries: some Sequence<ListedEntry>) throws {
        for entry in entries { try Disk().remove(at: vault.rootDescriptor, entry.stored.cString, directory: false) }
    }

    /// All that a stream has read ahead is of before a change; a listing that begins after it may meet it at the same position.
    @Test func whatWasReadAheadBeforeAChangeIsReadAgain() throws {
        let moment = listings.moment
        let old = try begin()
        let position = try #require(try read(old, from: 0, count: 20).last).nextPosition
        listings.put(old, at: position, moment)
        let gone = try read(try begin(), from: position, count: 100).filter { !$0.isPlaceholder && $0.id != nil }
        try #require(gone.count > 30)
        try remove(gone.dropFirst(5))
        listings.noteChange()
        let taken = try #require(listings.take(inode, at: position, listings.moment))
        #expect(taken === old)
        let rest = try read(taken, from: position, count: 100).filter { $0.id != nil }
        #expect(rest.map(\.name) == gone.prefix(5).map(\.name))
    }

    /// Whatever changes names is such a change, also where it fails half-way.
    @Test func changesOfNamesAreNoted() throws {
        let fileSystem = try FileSystem(
            vault: vault, options: MountOptions(source: home.path, mountpoint: home.path),
            log: MountLog(Logger(label: "listings")), descriptorLimit: 1000)
        let before = fileSystem.listings.moment
        try fileSystem.changingNames { () throws(VaultError) in }
        #expect(fileSystem.listings.moment == before + 1)
        #expect(throws: VaultError.self) {
            try fileSystem.changingNames(alone: true) { () throws(VaultError) in throw .system(.ioError) }
        }
        #expect(fileSystem.listings.moment == before + 2)
    }

    /// With no change it goes on, and not by reading again.
    @Test func aListingGoesOnWithItsStream() throws {
        let all = try read(try begin(), from: 0, count: 100)
        let handle = try begin()
        var names = try read(handle, from: 0, count: 7)
        while let last = names.last {
            listings.put(handle, at: last.nextPosition, listings.moment)
            #expect(listings.take(inode, at: last.nextPosition + 1, listings.moment) == nil)
            let taken = try #require(listings.take(inode, at: last.nextPosition, listings.moment))
            #expect(taken === handle)
            #expect(listings.take(inode, at: last.nextPosition, listings.moment) == nil)
            let more = try read(taken, from: last.nextPosition, count: 7)
            if more.isEmpty { break }
            names += more
        }
        #expect(names.map(\.name) == all.map(\.name))
    }

    /// What nobody goes on with is closed in the end.
    @Test func listingsThatAreGivenUpAreForgotten() throws {
        weak var first: DirectoryHandle?
        weak var last: DirectoryHandle?
        for number in 1...33 {
            let handle = try begin()
            listings.put(handle, at: number, listings.moment)
            if number == 1 { first = handle }
            if number == 33 { last = handle }
        }
        #expect(first == nil && last != nil)
        listings.forget(inode)
        #expect(last == nil)
    }
}
