import CofferCrypto
import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// Why something differs: what other places and older seals hold, and what a key can tell.
extension SealVerification {
    /// What is known of contents that are not where they were sealed.
    private struct Origins {
        /// Where they were sealed, by what they hash to.
        var places: [[UInt8]: StoredPlace] = [:]
        /// The older seal that has them at the same place, by place.
        var seals: [[UInt8]: UInt64] = [:]
    }

    func classify(_ head: SealHead, in seals: VaultSeals) throws(VaultError) {
        guard !mismatches.isEmpty else { return }
        var origins = Origins()
        let wanted = Set(mismatches.filter { $0.status.st_size > 0 }.map(\.contents)).subtracting([[]])
        try forEachFile(head, seals) { place, size, contents in
            if size > 0, wanted.contains(contents) { origins.places[contents] = place }
        }
        let byPath = Dictionary(
            mismatches.filter { $0.record != nil }.map { ($0.place.path, $0.contents) }, uniquingKeysWith: { a, _ in a }
        )
        for older in seals.all where older.counter < head.counter {
            guard case .whole(let olderHead) = older.state, try seals.store.isManifestGenuine(olderHead) else {
                continue
            }
            try forEachFile(olderHead, seals) { place, _, contents in
                guard wanted.contains(contents) else { return }
                let path = place.path
                if byPath[path] == contents, origins.seals[path] == nil { origins.seals[path] = older.counter }
            }
        }
        for mismatch in mismatches {
            find(
                mismatch.place, try kind(of: mismatch, origins),
                isDirectory: mismatch.status.st_mode & S_IFMT == S_IFDIR)
        }
    }

    private func forEachFile(
        _ head: SealHead, _ seals: VaultSeals, _ body: (StoredPlace, UInt64, [UInt8]) -> Void
    ) throws(VaultError) {
        let file = try seals.store.open(head.counter)
        defer { disk.close(file) }
        do throws(ManifestProblem) {
            let cursor = try SealCursor(
                disk: disk, descriptor: file, start: SealHead.byteCount, count: Int(head.manifestCount))
            var place = StoredPlace(in: nil, [])
            while cursor.depth > 0 {
                guard let item = cursor.item else {
                    try cursor.leave()
                    if let parent = place.parent { place = parent }
                    continue
                }
                if item.record.isDirectory {
                    place = StoredPlace(in: place, item.record.name)
                    try cursor.enter()
                    continue
                }
                if case .file(let size, let contents) = item.record.kind {
                    body(StoredPlace(in: place, item.record.name), size, contents)
                }
                try cursor.skip()
            }
        } catch {
            throw Self.error(error)
        }
    }

    private func kind(of mismatch: Mismatch, _ origins: Origins) throws(VaultError) -> VerifyFinding.Kind {
        guard let record = mismatch.record, case .file(let size, _) = record.kind else {
            return try kindOfAdded(mismatch, origins.places[mismatch.contents])
        }
        if let counter = origins.seals[mismatch.place.path] { return .older(counter: counter) }
        if let place = origins.places[mismatch.contents], place.path != mismatch.place.path {
            return .swapped(with: place)
        }
        let isSameTime = record.time == SealTime.nanoseconds(mismatch.status.st_mtim)
        let found = UInt64(mismatch.status.st_size)
        if isSameTime && found == size { return .contents }
        let verifies = try verifies(mismatch)
        if verifies == false { return .blocks }
        if isSameTime { return verifies == true ? .older(counter: nil) : .size(sealed: size, found: found) }
        return SealTime.nanoseconds(mismatch.status.st_mtim) > record.time ? .newer : .older(counter: nil)
    }

    private func kindOfAdded(_ mismatch: Mismatch, _ origin: StoredPlace?) throws(VaultError) -> VerifyFinding.Kind {
        if let vault, ReservedKind(mismatch.place.name) == .content {
            let names = SealNames(Tree(vault))
            if names.plainName(of: mismatch.place) == nil { return .name }
            if try verifies(mismatch) == false { return .blocks }
        }
        return .added(of: origin)
    }

    /// Whether every block verifies; nil where nobody can tell.
    private func verifies(_ mismatch: Mismatch) throws(VaultError) -> Bool? {
        guard let vault, mismatch.status.st_mode & S_IFMT == S_IFREG, ReservedKind(mismatch.place.name) == .content
        else { return nil }
        let hashing = try FileHashing(disk: disk, verifyingWith: vault.ring) { _ in }
        do throws(VaultError) {
            let descriptor = try open(mismatch.place)
            defer { disk.close(descriptor) }
            let status = try CofferVault.system { () throws(Errno) in try disk.status(descriptor) }
            return try hashing.verifies(descriptor, status)
        } catch {
            if case .system = error { return nil }
            throw error
        }
    }

    private func open(_ place: StoredPlace) throws(VaultError) -> Int32 {
        try CofferVault.system { () throws(Errno) in
            var directory = try disk.duplicate(root)
            defer { disk.close(directory) }
            let names = place.names
            for name in names.dropLast() {
                let next = try disk.open(
                    at: directory, StoredName(name).cString, flags: Disk.pathOnly | O_DIRECTORY | O_NOFOLLOW)
                disk.close(directory)
                directory = next
            }
            return try disk.open(
                at: directory, StoredName(names.last ?? []).cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK,
                withoutAccessTime: true)
        }
    }
}
