import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Names that do not verify where they are.
extension VaultMending {
    /// What a name that may have been moved here is called behind it, where others of the directory do verify.
    private static let suffix = Array(" (recovered)".utf8)

    func mendName(_ place: TreePlace) throws(VaultError) -> Outcome {
        guard let parent = place.parent, let here = try directory(parent) else { return .notMended }
        let sealed: [UInt8]
        switch NameCodec.kind(of: place.stored) {
        case .short(let bytes): sealed = bytes
        case .long(let tag):
            let pieces = try pieces(of: tag, in: here)
            guard let found = pieces.sealed else { return .notMended }
            if vault.open(found, in: here.directory.identity.accepted) != nil {
                guard pieces.isElsewhere else { return .notMended }
                if !isDryRun { try pair(tag, found, in: here) }
                return .paired
            }
            sealed = found
        case .dots, .companion, .reserved, .foreign: return .notMended
        }
        guard let name = vault.unverifiedName(sealed) else { return .notMended }
        return try rename(place, to: name, in: here)
    }

    /// A long name's pieces: those beside the entry, else any in the vault that fit together.
    private func pieces(
        of tag: [UInt8], in here: TreeDirectory
    ) throws(VaultError) -> (sealed: [UInt8]?, isElsewhere: Bool) {
        var beside = LongNamePieces()
        try forEachName(in: here.directory.descriptor) { beside.add(NameCodec.kind(of: $0)) }
        if let sealed = beside.sealed(tag) {
            // Pieces that are there may be the wrong ones.
            if vault.open(sealed, in: here.directory.identity.accepted) != nil || vault.unverifiedName(sealed) != nil {
                return (sealed, false)
            }
        }
        if allPieces == nil { allPieces = try gatherPieces() }
        return (allPieces?[tag]?.sealed(tag), true)
    }

    private func gatherPieces() throws(VaultError) -> [[UInt8]: LongNamePieces] {
        var all: [[UInt8]: LongNamePieces] = [:]
        let walk = try TreeWalk(Tree(vault), from: try Tree(vault).root())
        func gather(_ directory: Int32) throws(VaultError) {
            try forEachName(in: directory) { name in
                let kind = NameCodec.kind(of: name)
                guard case .companion(let tag, _, _) = kind else { return }
                var pieces = all[tag] ?? LongNamePieces()
                pieces.add(kind)
                all[tag] = pieces
            }
        }
        try gather(walk.directory.directory.descriptor)
        while let step = try walk.next() {
            guard case .entry(let listed) = step, let entry = try Tree(vault).entry(listed, in: walk.directory),
                entry.isDirectory, !entry.isPlaceholder
            else { continue }
            do throws(VaultError) {
                try walk.enter(entry)
                try gather(walk.directory.directory.descriptor)
            } catch {
                // What cannot be looked at has none.
                continue
            }
        }
        return all
    }

    private func pair(_ tag: [UInt8], _ sealed: [UInt8], in here: TreeDirectory) throws(VaultError) {
        guard let (name, id) = vault.open(sealed, in: here.directory.identity.accepted) else { return }
        for encoding in vault.encodings(of: name, in: id) where !encoding.companions.isEmpty {
            guard encoding.entry.bytes == ReservedName.longEntry(tag: tag) else { continue }
            try vault.withCompanions(of: encoding, in: here.directory) { () throws(Errno) in }
        }
    }

    /// Gives an entry the name that it says it has, in the directory where it is. Where nothing in that directory verifies, it is the directory that lost what it was
    /// known by; where others do, the entry may have been moved here, and its name tells that it was recovered.
    private func rename(_ place: TreePlace, to name: [UInt8], in here: TreeDirectory) throws(VaultError) -> Outcome {
        let entries = try Tree(vault).list(here)
        // A run that was broken off may have named some of them.
        let mark = Self.mark(of: here.place)
        let isBegun = try lost.has(mark)
        let isAlone = isBegun || !entries.contains { !$0.isPlaceholder }
        var number = 1
        var wanted = name
        if !isAlone { wanted = Self.named(name, number) }
        while entries.contains(where: { $0.name == wanted }) {
            wanted = Self.named(name, number)
            number += 1
        }
        if isDryRun { return .named(wanted) }
        if isAlone, !isBegun { try lost.keep(here.place.storedPath, as: mark) }
        let (encoding, _) = try vault.newName(wanted, in: here.directory)
        try vault.withCompanions(of: encoding, in: here.directory) { () throws(Errno) in
            try disk.rename(
                from: here.directory.descriptor, StoredName(place.stored).cString, to: here.directory.descriptor,
                encoding.entry.cString, mode: .noReplace)
        }
        return .named(wanted)
    }

    /// What tells that nothing verified in a directory when it was begun with.
    private static func mark(of place: TreePlace) -> String {
        LostAndFound.markPrefix + Base64URL.text(DirectoryID.root(vaultID: place.storedPath).bytes)
    }

    private static func named(_ name: [UInt8], _ number: Int) -> [UInt8] {
        let suffix = number == 1 ? suffix : suffix.dropLast() + Array(" \(number))".utf8)
        return Array(name.prefix(NameCodec.maximumPlainCount - suffix.count)) + suffix
    }

    /// Records that do not verify keep whoever makes something in the directory from it. What they were goes where it can be found.
    func putRecordsAway(_ place: TreePlace) throws(VaultError) -> Outcome {
        guard let here = try directory(place) else { return .notMended }
        if isDryRun { return .recordsPutAway }
        try lost.move(
            ReservedName.directory, from: here.directory.descriptor,
            as: "records." + Base64URL.text(DirectoryID.random().bytes))
        return .recordsPutAway
    }

    private func forEachName(in directory: Int32, _ body: ([UInt8]) -> Void) throws(VaultError) {
        let descriptor = try system { () throws(Errno) in
            try disk.reopen(directory, flags: O_RDONLY | O_DIRECTORY)
        }
        defer { disk.close(descriptor) }
        try RawDirectory(disk: disk, descriptor: descriptor).forEach { bytes, _ in
            body(bytes)
            return true
        }
    }
}
