import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Files: their blocks, headers and ends.
extension VaultRepair {
    /// What has to be written into a damaged file.
    private struct Plan {
        /// What the file's key is made from, and whether it has to be written.
        let header: FileHeader
        var writesHeader = false
        /// The file becomes the copy's.
        var replacesAll = false
        /// Blocks to be taken from the copy.
        var blocks: [Int] = []
        /// Which of them are holes there, that something vouches for.
        var holesThere: Set<Int> = []
        /// The stored size to be, where it is another.
        var storedSize: Int?
        /// Whether that is the copy's.
        var isResized = false
        /// Bad blocks that the copy does not have.
        var missing = 0
        /// Zeros that are in both: what vouches for them may be among the blocks that are taken.
        var holes = 0
        /// The plaintext size that comes of it.
        var size = 0
    }

    /// Blocks that one round takes of one file: what a machine's memory holds without being noticed.
    private static let blockLimit = 1 << 20

    func healContents(of place: TreePlace, changing: Bool) throws(VaultError) -> Outcome {
        guard let (entry, directory) = try counterpart(of: place), entry.isFile else { return .notHealed }
        let good = try system { () throws(Errno) in
            try disk.open(
                at: directory.directory.descriptor, entry.stored.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
        }
        defer { disk.close(good) }
        return try disk.withParent(of: place.storedNames, below: vault.rootDescriptor) {
            (parent, name) throws(VaultError) in
            let bad = try system { () throws(Errno) in try open(name, in: parent, writable: changing) }
            defer { disk.close(bad) }
            guard let plan = try plan(bad, good) else { return .notHealed }
            let count = plan.blocks.count + (plan.writesHeader ? 1 : 0) + (plan.storedSize == nil ? 0 : 1)
            // Nothing is wrong with it any more: it was healed by another of its names.
            if count == 0 && plan.missing == 0 && plan.holes == 0 { return .healed(0) }
            guard count > 0 else { return .notHealed }
            if changing { try apply(plan, bad, good) }
            if plan.replacesAll { return .replaced(plan.size) }
            if plan.isResized && plan.missing == 0 { return .resized(plan.size) }
            return plan.missing == 0 ? .healed(count) : .partly(count)
        }
    }

    private func open(_ name: StoredName, in parent: Int32, writable: Bool) throws(Errno) -> Int32 {
        let object = try disk.open(at: parent, name.cString, flags: Disk.pathOnly | O_NOFOLLOW)
        defer { disk.close(object) }
        guard try disk.status(object).st_mode & S_IFMT == S_IFREG else { throw .invalidArgument }
        return try disk.withMode(writable ? 0o600 : 0o400, of: object) { () throws(Errno) in
            try disk.reopen(object, flags: (writable ? O_RDWR : O_RDONLY) | O_NONBLOCK)
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
        var plan = Plan(header: header)
        // A size that no file can have is that of its whole blocks and of some bytes that say nothing.
        let whole = max(0, Int(badStatus.st_size) - FileHeader.byteCount) / BlockGeometry.storedCount
        let isPossible = BlockGeometry.plainSize(cipherSize: badStatus.st_size) != nil
        let lookedAt = isPossible ? Int(badStatus.st_size) : FileHeader.byteCount + whole * BlockGeometry.storedCount
        var found: [FileCheck.BadBlocks] = []
        var badCount = 0
        if lookedAt >= BlockGeometry.emptyFileCount, let size = BlockGeometry.plainSize(cipherSize: lookedAt) {
            found = try check.run(bad, storedSize: lookedAt, contents: true, believing: header)
            badCount = max(1, BlockGeometry.blockCount(plainSize: size))
        }
        let lost = found.filter { $0.kind != .end }
        let lostCount = lost.reduce(0) { $0 + $1.blocks.count }
        if badRaw != goodRaw || badCount == 0 {
            // A header of its own that any block verifies under is that of another version. The copy's is the file's if any block says so.
            if try isHeader(badRaw, verifiedBy: bad, badStatus) { return nil }
            plan.writesHeader = badRaw != goodRaw
            if lostCount >= badCount {
                // Nothing of it can be read, by whatever header. Its attributes are bound to its id, so that must not become another.
                guard goodBad.isEmpty, goodCount <= Self.blockLimit, badRaw == goodRaw || mayReplace else { return nil }
                // Attributes that verify are bound to the id that the file has now.
                if hasHeader(badRaw), Array(badRaw[8..<24]) != header.fileID,
                    try hasAttributes(bad, of: Array(badRaw[8..<24]))
                {
                    return nil
                }
                plan.replacesAll = true
                plan.size = goodSize
                if goodStatus.st_size != badStatus.st_size { plan.storedSize = Int(goodStatus.st_size) }
                try take([0..<goodCount], into: &plan, bad, good, goodSize, isGood)
                return plan
            }
        }
        plan.size = BlockGeometry.plainSize(cipherSize: lookedAt) ?? 0
        var wanted: [Range<Int>] = lost.map(\.blocks)
        // An end that recovery has set, and the copy goes on behind it.
        let isShortened = check.isReconstructed && found.isEmpty && goodBad.isEmpty && goodSize > plan.size
        let isLastGood =
            badCount > 0 && !isShortened && !found.contains { $0.blocks.upperBound == badCount }
        if !isPossible && isLastGood {
            // The file ends where its last block says so; what is behind that says nothing.
            plan.storedSize = lookedAt
        } else if !isLastGood {
            let lastGood = lastGood(lost, badCount)
            let reaches = goodCount >= badCount || lastGood < goodCount - 1
            // Something was added behind an end that is the same in both.
            var isSameEnd = false
            if !reaches, lastGood == goodCount - 1 {
                isSameEnd = try isEqual(bad, good, block: goodCount - 1, goodSize)
            }
            if isGood(goodCount - 1), reaches || isSameEnd {
                if goodStatus.st_size != badStatus.st_size {
                    plan.storedSize = Int(goodStatus.st_size)
                    plan.isResized = true
                }
                plan.size = goodSize
                let isShort = badCount > 0 && (lookedAt - FileHeader.byteCount) % BlockGeometry.storedCount != 0
                if badCount < goodCount { wanted.append(badCount..<goodCount) }
                let last = min(badCount, goodCount) - 1
                if last >= 0, !isSameEnd, badCount >= goodCount || isShort { wanted.append(last..<(last + 1)) }
            } else {
                plan.missing += 1
            }
        }
        try take(wanted, into: &plan, bad, good, goodSize, isGood)
        return plan
    }

    /// The last block that is none of the lost ones; -1 where there is none.
    private func lastGood(_ lost: [FileCheck.BadBlocks], _ count: Int) -> Int {
        var last = count - 1
        for range in lost.reversed() where range.blocks.upperBound > last {
            guard range.blocks.contains(last) else { break }
            last = range.blocks.lowerBound - 1
        }
        return last
    }

    private func hasAttributes(_ file: Int32, of id: [UInt8]) throws(VaultError) -> Bool {
        let names = try vault.attributeNames(of: file, owner: { () throws(VaultError) in id }, onDamage: { _ in })
        return names.contains { !$0.starts(with: Array("system.".utf8)) }
    }

    private func hasHeader(_ raw: [UInt8]) -> Bool {
        do throws(FormatError) {
            _ = try FileHeader(parsing: raw)
            return true
        } catch {
            return false
        }
    }

    /// Which of the blocks that are wanted the copy has, in the size that they have to have. A hole heals nothing by itself where there are zeros already.
    private func take(
        _ wanted: [Range<Int>], into plan: inout Plan, _ bad: Int32, _ good: Int32, _ goodSize: Int,
        _ isGood: (Int) -> Bool
    ) throws(VaultError) {
        let goodCount = max(1, BlockGeometry.blockCount(plainSize: goodSize))
        let count = max(1, BlockGeometry.blockCount(plainSize: plan.size))
        var taken: Set<Int> = []
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: BlockGeometry.storedCount, alignment: 4096)
        defer { buffer.deallocate() }
        for range in wanted {
            if range.count > Self.blockLimit { plan.missing += 1 }
            for block in range.prefix(Self.blockLimit) where block < count && taken.count < Self.blockLimit {
                let plainCount = BlockGeometry.plainCount(ofBlock: block, plainSize: plan.size)
                let fits =
                    block < goodCount
                    && plainCount == BlockGeometry.plainCount(ofBlock: block, plainSize: goodSize) && isGood(block)
                guard fits else {
                    plan.missing += 1
                    continue
                }
                let got = try system { () throws(Errno) in
                    try disk.read(
                        good, into: buffer, count: plainCount + BlockGeometry.overhead,
                        at: BlockGeometry.offset(ofBlock: block))
                }
                guard got == plainCount + BlockGeometry.overhead, FileContents.isZero(buffer, count: plainCount) else {
                    taken.insert(block)
                    continue
                }
                let present = try system { () throws(Errno) in
                    try disk.read(bad, into: buffer, count: got, at: BlockGeometry.offset(ofBlock: block))
                }
                if present == got && FileContents.isZero(buffer, count: plainCount) {
                    plan.holes += 1
                } else {
                    taken.insert(block)
                    plan.holesThere.insert(block)
                }
            }
        }
        plan.blocks = taken.sorted()
    }

    private func isEqual(_ one: Int32, _ other: Int32, block: Int, _ size: Int) throws(VaultError) -> Bool {
        let count = BlockGeometry.plainCount(ofBlock: block, plainSize: size) + BlockGeometry.overhead
        return try system { () throws(Errno) in
            let offset = BlockGeometry.offset(ofBlock: block)
            return try disk.readBytes(one, limit: count, at: offset) == disk.readBytes(other, limit: count, at: offset)
        }
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
        let changed = plan.blocks.map { block in
            BlockGeometry.offset(ofBlock: block)..<BlockGeometry.offset(ofBlock: block + 1)
        }
        // All that is overwritten or cut off.
        let cut = plan.storedSize.map { $0 < Int(before.st_size) ? [$0..<Int(before.st_size)] : [] } ?? []
        let head = plan.writesHeader ? [0..<FileHeader.byteCount] : []
        try lost.keep(head + changed + cut, of: bad, as: "file." + Base64URL.text(plan.header.fileID))
        let check = FileCheck(disk: disk, ring: vault.ring, scratch: scratch)
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: BlockGeometry.storedCount, alignment: 4096)
        defer { buffer.deallocate() }
        if let size = plan.storedSize { try system { () throws(Errno) in try disk.truncate(bad, to: size) } }
        if plan.writesHeader { try system { () throws(Errno) in try disk.write(bad, bytes: plan.header.bytes) } }
        for block in plan.blocks {
            let offset = BlockGeometry.offset(ofBlock: block)
            let plainCount = BlockGeometry.plainCount(ofBlock: block, plainSize: plan.size)
            let count = plainCount + BlockGeometry.overhead
            let got = try system { () throws(Errno) in try disk.read(good, into: buffer, count: count, at: offset) }
            // Whatever happened to the copy since it was looked at: what is written is what verifies.
            let isHole = got == count && FileContents.isZero(buffer, count: plainCount)
            var isSound = isHole && plan.holesThere.contains(block)
            if !isHole && got == count {
                isSound = try check.opens(buffer, block: block, count: plainCount, under: plan.header)
            }
            guard isSound else { throw .damaged(Damage(.changed, block: block)) }
            if isHole && offset >= Int(before.st_size) { continue }
            try system { () throws(Errno) in try disk.write(bad, buffer, count: count, at: offset) }
        }
        try system { () throws(Errno) in
            let now = try disk.status(bad)
            // Writing takes set-id bits away where it is not root's.
            if now.st_mode != before.st_mode { try disk.setMode(bad, before.st_mode & 0o7777) }
            try disk.setTimes(bad, access: before.st_atim, modification: before.st_mtim)
            try disk.sync(bad)
        }
    }
}
