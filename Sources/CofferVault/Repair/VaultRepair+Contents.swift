import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Files: their blocks, headers and ends.
extension VaultRepair {
    /// What has to be written into a damaged file.
    private struct Plan {
        /// The header, where the stored one is none.
        var header: FileHeader?
        /// Blocks to be taken from the copy.
        var blocks: [Int] = []
        /// The stored size to be, where it is another.
        var storedSize: Int?
        /// The file becomes the copy's.
        var replacesAll = false
        /// Bad blocks that the copy does not have.
        var missing = 0
    }

    func healContents(of place: TreePlace, changing: Bool) throws(VaultError) -> Outcome {
        guard let (entry, directory) = try counterpart(of: place), entry.isFile else { return .notHealed }
        let good = try system { () throws(Errno) in
            try disk.open(
                at: directory.directory.descriptor, entry.stored.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
        }
        defer { disk.close(good) }
        return try disk.withParent(of: place.storedNames, below: vault.rootDescriptor) {
            (parent, name) throws(VaultError) in
            let bad = try system { () throws(Errno) in try openForWriting(name, in: parent) }
            defer { disk.close(bad) }
            guard let plan = try plan(bad, good) else { return .notHealed }
            let count = plan.blocks.count + (plan.header == nil ? 0 : 1) + (plan.storedSize == nil ? 0 : 1)
            guard count > 0 else { return .notHealed }
            if changing { try apply(plan, bad, good) }
            if plan.replacesAll { return .replaced(count) }
            return plan.missing == 0 ? .healed(count) : .partly(count)
        }
    }

    private func openForWriting(_ name: StoredName, in parent: Int32) throws(Errno) -> Int32 {
        let object = try disk.open(at: parent, name.cString, flags: Disk.pathOnly | O_NOFOLLOW)
        defer { disk.close(object) }
        return try disk.withMode(0o600, of: object) { () throws(Errno) in
            try disk.reopen(object, flags: O_RDWR | O_NONBLOCK)
        }
    }

    /// What would heal a file; nil where the copy's is another file, or another version that was sealed under another key, or damaged where it counts.
    private func plan(_ bad: Int32, _ good: Int32) throws(VaultError) -> Plan? {
        let (badStatus, goodStatus) = try system { () throws(Errno) in (try disk.status(bad), try disk.status(good)) }
        let (badRaw, goodRaw) = try system { () throws(Errno) in
            (
                try disk.readBytes(bad, limit: FileHeader.byteCount),
                try disk.readBytes(good, limit: FileHeader.byteCount)
            )
        }
        let header: FileHeader
        do throws(FormatError) {
            header = try FileHeader(parsing: goodRaw)
        } catch {
            return nil
        }
        guard let goodSize = BlockGeometry.plainSize(cipherSize: goodStatus.st_size) else { return nil }
        var check = FileCheck(disk: disk, ring: vault.ring, scratch: scratch)
        let goodBad = try check.run(good, storedSize: goodStatus.st_size, contents: true)
        func isGood(_ block: Int) -> Bool { !goodBad.contains { $0.blocks.contains(block) } }
        let goodCount = max(1, BlockGeometry.blockCount(plainSize: goodSize))
        var plan = Plan()
        // A size that no file can have is that of its whole blocks and of some bytes that say nothing.
        let whole = max(0, badStatus.st_size - FileHeader.byteCount) / BlockGeometry.storedCount
        let isPossible = BlockGeometry.plainSize(cipherSize: badStatus.st_size) != nil
        let lookedAt = isPossible ? Int(badStatus.st_size) : FileHeader.byteCount + whole * BlockGeometry.storedCount
        var found: [FileCheck.BadBlocks] = []
        let badCount: Int
        if lookedAt >= BlockGeometry.emptyFileCount, let size = BlockGeometry.plainSize(cipherSize: lookedAt) {
            found = try check.run(bad, storedSize: lookedAt, contents: true, believing: header)
            badCount = max(1, BlockGeometry.blockCount(plainSize: size))
        } else {
            badCount = 0
        }
        let lost = found.filter { $0.kind != .end }.reduce(0) { $0 + $1.blocks.count }
        if badRaw != goodRaw {
            // A header of its own that any block verifies under is that of another version. The copy's is the file's if any block says so.
            if try isHeader(badRaw, verifiedBy: bad, badStatus) { return nil }
            plan.header = header
            if lost >= badCount {
                // Nothing of it can be read, by whatever header: what the copy has is all that there is.
                plan.replacesAll = true
                if goodStatus.st_size != badStatus.st_size { plan.storedSize = Int(goodStatus.st_size) }
                return finish(&plan, Set(0..<goodCount), Int(goodStatus.st_size), goodSize, isGood)
            }
        }
        let isEndGood = isPossible && badCount > 0 && !found.contains { $0.blocks.upperBound == badCount }
        var wanted = Set(found.filter { $0.kind != .end }.flatMap { Array($0.blocks) })
        if !isEndGood {
            // The copy's end is taken where nothing that is good here is behind it, nor has to go for it.
            let lastGood = (0..<badCount).last { block in
                !found.contains { $0.kind != .end && $0.blocks.contains(block) }
            }
            let isBehind = goodCount >= badCount || (lastGood ?? -1) < goodCount - 1
            guard isBehind, isGood(goodCount - 1) else {
                plan.missing += 1
                return plan.header == nil && wanted.isEmpty ? nil : finish(&plan, wanted, lookedAt, goodSize, isGood)
            }
            if goodStatus.st_size != badStatus.st_size { plan.storedSize = Int(goodStatus.st_size) }
            wanted = wanted.filter { $0 < goodCount }
            wanted.formUnion(min(badCount, goodCount)..<goodCount)
            let isShort = badCount > 0 && (lookedAt - FileHeader.byteCount) % BlockGeometry.storedCount != 0
            if badCount >= goodCount || isShort { wanted.insert(min(badCount, goodCount) - 1) }
        }
        return finish(&plan, wanted.filter { $0 >= 0 }, lookedAt, goodSize, isGood)
    }

    /// Which of the blocks that are wanted the copy has, in the size that they have to have.
    private func finish(
        _ plan: inout Plan, _ wanted: Set<Int>, _ lookedAt: Int, _ goodSize: Int, _ isGood: (Int) -> Bool
    ) -> Plan {
        let goodCount = max(1, BlockGeometry.blockCount(plainSize: goodSize))
        let size =
            plan.storedSize.flatMap { BlockGeometry.plainSize(cipherSize: $0) }
            ?? BlockGeometry.plainSize(cipherSize: lookedAt) ?? 0
        for block in wanted.sorted() {
            let fits =
                block < goodCount
                && BlockGeometry.plainCount(ofBlock: block, plainSize: size)
                    == BlockGeometry.plainCount(ofBlock: block, plainSize: goodSize)
            if fits && isGood(block) { plan.blocks.append(block) } else { plan.missing += 1 }
        }
        return plan
    }

    /// Whether a stored header is a file's own: it is one, and some block verifies under it.
    private func isHeader(_ raw: [UInt8], verifiedBy file: Int32, _ status: stat) throws(VaultError) -> Bool {
        do throws(FormatError) {
            _ = try FileHeader(parsing: raw)
        } catch {
            return false
        }
        // Of a file that was cut within a block what is whole tells.
        let whole = max(0, Int(status.st_size) - FileHeader.byteCount) / BlockGeometry.storedCount
        let isPossible = BlockGeometry.plainSize(cipherSize: status.st_size) != nil
        let lookedAt = isPossible ? Int(status.st_size) : FileHeader.byteCount + whole * BlockGeometry.storedCount
        guard let size = BlockGeometry.plainSize(cipherSize: lookedAt) else { return false }
        var check = FileCheck(disk: disk, ring: vault.ring, scratch: scratch)
        let count = max(1, BlockGeometry.blockCount(plainSize: size))
        do throws(VaultError) {
            let found = try check.run(file, storedSize: lookedAt, contents: true)
            return found.filter { $0.kind != .end }.reduce(0) { $0 + $1.blocks.count } < count
        } catch {
            guard case .damaged = error else { throw error }
            return false
        }
    }

    private func apply(_ plan: Plan, _ bad: Int32, _ good: Int32) throws(VaultError) {
        let before = try system { () throws(Errno) in try disk.status(bad) }
        let id = try system { () throws(Errno) in try disk.readBytes(good, limit: FileHeader.byteCount) }[8..<24]
        try lost.keep(bad, as: "file." + Base64URL.text(Array(id)))
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: BlockGeometry.storedCount, alignment: 4096)
        defer { buffer.deallocate() }
        try system { () throws(Errno) in
            // The size first: a block that is whole now would else stand where a short one was.
            if let size = plan.storedSize { try disk.truncate(bad, to: size) }
            if let header = plan.header { try disk.write(bad, bytes: header.bytes) }
            for block in plan.blocks {
                let offset = BlockGeometry.offset(ofBlock: block)
                let count = try disk.read(good, into: buffer, count: BlockGeometry.storedCount, at: offset)
                try disk.write(bad, buffer, count: count, at: offset)
            }
            try disk.setTimes(bad, access: before.st_atim, modification: before.st_mtim)
            try disk.sync(bad)
        }
    }
}
