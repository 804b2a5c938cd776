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

    /// `file` is the seal's, open.
    func classify(_ head: SealHead, _ file: Int32, in seals: VaultSeals) throws(VaultError) {
        guard !mismatches.isEmpty else { return }
        let origins = origins(head, file, in: seals)
        let causes = try vault.map { vault throws(VaultError) in
            Causes(
                names: SealNames(Tree(vault)), hashing: try FileHashing(disk: disk, verifyingWith: vault.ring) { _ in })
        }
        causes?.names.learn(from: findings)
        // Directories whose records are not as sealed: names in them may not verify because of that.
        let changed = Set(
            (mismatches.map(\.place) + findings.filter(\.isMissing).map(\.place))
                .filter { ReservedKind($0.name) == .directory }.map { $0.parent?.path ?? [] })
        for mismatch in mismatches {
            let isDirectory = mismatch.status.st_mode & S_IFMT == S_IFDIR
            find(mismatch.place, try kind(of: mismatch, origins, causes, changed), isDirectory: isDirectory)
        }
    }

    /// What a key has to say.
    private struct Causes {
        let names: SealNames
        let hashing: FileHashing
    }

    /// What cannot be read of seals is not known; nothing of what was found is lost by that.
    private func origins(_ head: SealHead, _ file: Int32, in seals: VaultSeals) -> Origins {
        var origins = Origins()
        let wanted = Set(mismatches.filter { $0.status.st_size > 0 }.map(\.contents)).subtracting([[]])
        var places: [[UInt8]: StoredPlace] = [:]
        if forEachFile(
            head, file,
            { place, size, contents in
                if size > 0, wanted.contains(contents) { places[contents] = place }
            })
        {
            origins.places = places
        }
        let byPath = Dictionary(
            mismatches.filter { $0.record != nil }.map { ($0.place.path, $0.contents) },
            uniquingKeysWith: { first, _ in first })
        for older in seals.all where older.counter < head.counter {
            guard case .whole(let olderHead) = older.state else { continue }
            do throws(VaultError) {
                let file = try seals.store.open(older.counter)
                defer { disk.close(file) }
                var found: Set<[UInt8]> = []
                let isGenuine = forEachFile(olderHead, file) { place, _, contents in
                    guard wanted.contains(contents) else { return }
                    let path = place.path
                    if byPath[path] == contents { found.insert(path) }
                }
                guard isGenuine else { continue }
                for path in found where origins.seals[path] == nil { origins.seals[path] = older.counter }
            } catch {
                continue
            }
        }
        return origins
    }

    /// Goes through the files of a manifest; false where it is not what was signed, or cannot be read.
    private func forEachFile(
        _ head: SealHead, _ file: Int32, _ body: (StoredPlace, UInt64, [UInt8]) -> Void
    ) -> Bool {
        do throws(VaultError) {
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
            return try cursor.finish() == head.root
        } catch {
            return false
        }
    }

    private func kind(
        of mismatch: Mismatch, _ origins: Origins, _ causes: Causes?, _ changed: Set<[UInt8]>
    ) throws(VaultError) -> VerifyFinding.Kind {
        guard let record = mismatch.record, case .file(let size, _) = record.kind else {
            return try kindOfAdded(mismatch, origins.places[mismatch.contents], causes, changed)
        }
        if let counter = origins.seals[mismatch.place.path] { return .older(counter: counter) }
        if let place = origins.places[mismatch.contents], place.path != mismatch.place.path {
            return .swapped(with: place)
        }
        let found = UInt64(mismatch.status.st_size)
        let time = SealTime.nanoseconds(mismatch.status.st_mtim)
        if record.time == time && found == size { return .contents }
        let verifies = verifies(mismatch, causes)
        if verifies == .no { return .blocks }
        if verifies == .busy { return .busy }
        // As far as the copy's file system keeps it.
        if Self.isSame(record.time, mismatch.status.st_mtim), verifies == .unknown {
            return found == size ? .contents : .size(sealed: size, found: found)
        }
        return time > record.time ? .newer : .older(counter: nil)
    }

    private func kindOfAdded(
        _ mismatch: Mismatch, _ origin: StoredPlace?, _ causes: Causes?, _ changed: Set<[UInt8]>
    ) throws(VaultError) -> VerifyFinding.Kind {
        if let causes, ReservedKind(mismatch.place.name) == .content {
            if causes.names.plainName(of: mismatch.place) == nil {
                // A sync may not have brought yet what it takes to read it.
                let isHalf =
                    causes.names.lacksPieces(mismatch.place) || changed.contains(mismatch.place.parent?.path ?? [])
                return isHalf ? .unnamed : .name
            }
            switch verifies(mismatch, causes) {
            case .no: return .blocks
            case .busy: return .busy
            case .yes, .unknown: break
            }
        }
        return .added(of: origin)
    }

    private enum Verdict {
        case yes, no, busy
        /// Nobody can tell.
        case unknown
    }

    /// Whether what is there verifies by itself. Looked at twice: somebody may be in the middle of a write.
    private func verifies(_ mismatch: Mismatch, _ causes: Causes?) -> Verdict {
        guard let causes, let vault, mismatch.status.st_mode & S_IFMT == S_IFREG else { return .unknown }
        switch ReservedKind(mismatch.place.name) {
        case .content: break
        case .directory:
            guard let verifies = causes.names.recordsVerify(in: mismatch.place) else { return .unknown }
            return verifies ? .yes : .no
        case .configuration, .companion, .overflow: return .unknown
        }
        for attempt in 0..<5 {
            do throws(VaultError) {
                let descriptor = try open(mismatch.place)
                defer { vault.disk.close(descriptor) }
                let before = try system { () throws(Errno) in try disk.status(descriptor) }
                if try causes.hashing.verifies(descriptor, before) { return .yes }
                let after = try system { () throws(Errno) in try disk.status(descriptor) }
                if attempt > 0, FileStamp(before) == FileStamp(after) { return .no }
            } catch {
                return .unknown
            }
            usleep(20_000)
        }
        return .busy
    }

    /// Whether a link's text can be read; nil where nobody can tell.
    func linkVerifies(_ place: StoredPlace) -> Bool? {
        guard let vault, let parent = place.parent else { return nil }
        do throws(VaultError) {
            let directory = try open(parent, flags: Disk.pathOnly | O_DIRECTORY)
            defer { disk.close(directory) }
            _ = try vault.readLink(StoredName(place.name), in: directory)
            return true
        } catch {
            if case .damaged = error { return false }
            return nil
        }
    }

    private func open(
        _ place: StoredPlace, flags: Int32 = O_RDONLY | O_NONBLOCK
    ) throws(VaultError) -> Int32 {
        if place.parent == nil { return try system { () throws(Errno) in try disk.duplicate(root) } }
        return try system { () throws(Errno) in
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
                at: directory, StoredName(names.last ?? []).cString, flags: flags | O_NOFOLLOW,
                withoutAccessTime: true)
        }
    }
}
