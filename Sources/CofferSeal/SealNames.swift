import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// Plaintext names for stored places, by the keys of a vault.
public final class SealNames {
    /// How a place is called.
    public struct Path: Sendable {
        /// The plaintext path; of what does not verify, a placeholder's.
        public let bytes: [UInt8]
        /// What is there is a part of that entry: a piece of its name, its directory's records.
        public let isPart: Bool
    }

    private struct Known {
        let identity: DirectoryIdentity
        let path: [UInt8]
    }

    private let tree: Tree
    private var directories: [[UInt8]: Known?] = [:]
    /// Pieces of long names that are missing, by directory and tag.
    private var pieces: [[UInt8]: [[UInt8]]] = [:]
    /// All pieces in the directory that was asked about last.
    private var knownPieces: (directory: [UInt8], pieces: LongNamePieces)?

    /// Names in an unlocked vault.
    public init(_ tree: Tree) { self.tree = tree }

    /// Takes what the missing among findings tell of names.
    public func learn(from findings: [VerifyFinding]) {
        knownPieces = nil
        for finding in findings {
            guard case .missing = finding.kind, case .companion = NameCodec.kind(of: finding.place.name) else {
                continue
            }
            pieces[finding.place.parent?.path ?? [], default: []].append(finding.place.name)
        }
    }

    /// The plaintext name of an entry; nil where it does not verify.
    public func plainName(of place: StoredPlace) -> [UInt8]? {
        guard let parent = place.parent, let directory = known(parent) else { return nil }
        return name(place.name, in: parent, directory)?.name
    }

    /// Whether it is a long name of which pieces are missing.
    func lacksPieces(_ place: StoredPlace) -> Bool {
        guard case .long(let tag) = NameCodec.kind(of: place.name), let parent = place.parent else { return false }
        return sealed(tag, in: parent) == nil
    }

    /// Whether the records in the directory of a `coffer.dir` say anything there; nil where nobody can tell.
    func recordsVerify(in place: StoredPlace) -> Bool? {
        guard let directory = place.parent else { return nil }
        let derived: DirectoryID
        if let above = directory.parent {
            guard let parent = known(above), let found = name(directory.name, in: above, parent) else { return nil }
            derived = found.id.child(found.name)
        } else {
            derived = tree.vault.rootID
        }
        do throws(VaultError) {
            _ = try withDirectory(directory) { descriptor throws(VaultError) in
                try tree.vault.recordedIdentity(of: descriptor, derived: derived)
            }
            return true
        } catch {
            if case .damaged = error { return false }
            return nil
        }
    }

    /// How a place is called.
    public func path(of place: StoredPlace) -> Path {
        guard let parent = place.parent else { return Path(bytes: [], isPart: false) }
        let directory = known(parent)
        let above = directory?.path ?? path(of: parent).bytes
        switch ReservedKind(place.name) {
        case .directory: return Path(bytes: above, isPart: true)
        case .configuration, .overflow: return Path(bytes: Self.join(above, place.name), isPart: false)
        case .companion(let tag):
            let entry = ReservedName.longEntry(tag: tag)
            let plain = directory.flatMap { name(entry, in: parent, $0) }?.name
            return Path(bytes: Self.join(above, plain ?? place.name), isPart: plain != nil)
        case .content:
            let plain = directory.flatMap { name(place.name, in: parent, $0) }?.name
            return Path(bytes: Self.join(above, plain ?? place.name), isPart: false)
        }
    }

    private static func join(_ path: [UInt8], _ name: [UInt8]) -> [UInt8] {
        path.isEmpty ? name : path + [UInt8(ascii: "/")] + name
    }

    /// A directory whose own name, and all above, verify.
    private func known(_ place: StoredPlace) -> Known? {
        let key = place.path
        if let found = directories[key] { return found }
        let found = find(place)
        directories[key] = .some(found)
        return found
    }

    private func find(_ place: StoredPlace) -> Known? {
        guard let parent = place.parent else {
            return Known(identity: identity(of: place, derived: tree.vault.rootID), path: [])
        }
        guard let above = known(parent), let found = name(place.name, in: parent, above) else { return nil }
        return Known(
            identity: identity(of: place, derived: found.id.child(found.name)), path: Self.join(above.path, found.name))
    }

    /// As the records there say; as its place derives it where it is not there, or they cannot be read.
    private func identity(of place: StoredPlace, derived: DirectoryID) -> DirectoryIdentity {
        do throws(VaultError) {
            return try withDirectory(place) { descriptor throws(VaultError) in
                try tree.vault.identity(of: descriptor, derived: derived)
            }
        } catch {
            return DirectoryIdentity(derived: derived)
        }
    }

    private func withDirectory<Result>(
        _ place: StoredPlace, _ body: (Int32) throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        let disk = tree.vault.disk
        var descriptor = try system { () throws(Errno) in try disk.duplicate(tree.vault.rootDescriptor) }
        defer { disk.close(descriptor) }
        for name in place.names {
            let next = try system { () throws(Errno) in
                try disk.open(
                    at: descriptor, StoredName(name).cString, flags: Disk.pathOnly | O_DIRECTORY | O_NOFOLLOW)
            }
            disk.close(descriptor)
            descriptor = next
        }
        return try body(descriptor)
    }

    private func name(
        _ stored: [UInt8], in place: StoredPlace, _ directory: Known
    ) -> (name: [UInt8], id: DirectoryID)? {
        switch NameCodec.kind(of: stored) {
        case .short(let sealed): return tree.vault.open(sealed, in: directory.identity.accepted)
        case .long(let tag):
            guard let sealed = sealed(tag, in: place) else { return nil }
            return tree.vault.open(sealed, in: directory.identity.accepted)
        case .dots, .companion, .reserved, .foreign: return nil
        }
    }

    /// A long name put together from the pieces that are there and those that are missing.
    private func sealed(_ tag: [UInt8], in place: StoredPlace) -> [UInt8]? {
        let key = place.path
        if let known = knownPieces, known.directory == key { return known.pieces.sealed(tag) }
        var all = LongNamePieces()
        for name in pieces[place.path] ?? [] { all.add(NameCodec.kind(of: name)) }
        do throws(VaultError) {
            try withDirectory(place) { descriptor throws(VaultError) in
                let disk = tree.vault.disk
                let stream = try system { () throws(Errno) in
                    try disk.reopen(descriptor, flags: O_RDONLY | O_DIRECTORY)
                }
                defer { disk.close(stream) }
                try RawDirectory(disk: disk, descriptor: stream).forEach { name, _ in
                    all.add(NameCodec.kind(of: name))
                    return true
                }
            }
        } catch {
            // What is missing may be enough.
        }
        knownPieces = (key, all)
        return all.sealed(tag)
    }
}
