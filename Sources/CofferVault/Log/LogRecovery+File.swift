import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// One file's recovery.
extension LogRecovery {
    /// Does what a plan says; false where there is no such file.
    mutating func carryOut(_ plan: RecoveryPlan) throws(VaultError) -> Bool {
        guard let (descriptor, header) = try find(plan) else {
            report.missing += 1
            return false
        }
        try carryOut(plan, descriptor, header)
        return true
    }

    /// As above, with the file at hand; it is closed.
    mutating func carryOut(_ plan: RecoveryPlan, _ descriptor: Int32, _ header: FileHeader) throws(VaultError) {
        let file = try FileContents(
            recovering: descriptor, disk: disk, ring: ring, header: header, size: 0)
        file.setSize(try plainSize(descriptor))
        var isChanged = false
        try settleHeader(plan, file, &isChanged)
        try settleCut(plan, file, &isChanged)
        var isRewritten = false
        try settleBlocks(plan, file, &isChanged, &isRewritten)
        file.setSize(try plainSize(descriptor))
        try settlePunched(plan, file, &isChanged)
        try settleEnd(plan, file, &isChanged)
        if isChanged { report.files += 1 }
        if isChanged || isRewritten {
            try system { () throws(Errno) in try disk.sync(descriptor) }
        }
    }

    /// The file that a plan is for, and the header that it should have. One that has no header is none: it may be another, made since under a name that was used
    /// before. Where new files may be it is found as one of those.
    func find(_ plan: RecoveryPlan) throws(VaultError) -> (Int32, FileHeader)? {
        for path in plan.paths {
            guard let descriptor = try openFile(path) else { continue }
            do throws(VaultError) {
                if let header = try header(plan, descriptor) { return (descriptor, header) }
            } catch {
                disk.close(descriptor)
                throw error
            }
            disk.close(descriptor)
        }
        return nil
    }

    /// Opens the regular file at a path; nil where there is none.
    func openFile(_ path: [StoredName]) throws(VaultError) -> Int32? {
        try withParent(of: path) { directory, name throws(Errno) in
            guard try disk.status(at: directory, name.cString).st_mode & S_IFMT == S_IFREG else { return nil }
            return try openFile(name, in: directory)
        } ?? nil
    }

    /// Opens a file for reading and writing. Where its mode keeps its owner out, that is lifted for the moment of opening.
    func openFile(_ name: StoredName, in directory: Int32) throws(Errno) -> Int32 {
        let flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK
        do throws(Errno) {
            return try disk.open(at: directory, name.cString, flags: flags)
        } catch {
            guard error == .permissionDenied else { throw error }
        }
        let object = try disk.open(at: directory, name.cString, flags: Disk.pathOnly | O_NOFOLLOW)
        defer { disk.close(object) }
        let status = try disk.status(object)
        let mode = status.st_mode & 0o7777
        guard status.st_uid == geteuid() else { throw .permissionDenied }
        try disk.setMode(object, mode | 0o600)
        let opened: Result<Int32, Errno> = Result { () throws(Errno) in
            try disk.reopen(object, flags: O_RDWR | O_NONBLOCK)
        }
        try disk.setMode(object, mode)
        return try opened.get()
    }

    /// Lends the directory that a path's last name is in; nil where there is none, or `body` finds nothing.
    func withParent<Result>(
        of path: [StoredName], _ body: (Int32, StoredName) throws(Errno) -> Result
    ) throws(VaultError) -> Result? {
        guard let name = path.last else { return nil }
        var directory = rootDescriptor
        defer { if directory != rootDescriptor { disk.close(directory) } }
        do throws(Errno) {
            for step in path.dropLast() {
                let next = try disk.open(at: directory, step.cString, flags: Disk.pathOnly | O_DIRECTORY | O_NOFOLLOW)
                if directory != rootDescriptor { disk.close(directory) }
                directory = next
            }
            return try body(directory, name)
        } catch {
            if error == .noSuchFileOrDirectory || error == .notDirectory { return nil }
            throw .system(error)
        }
    }

    func cipherSize(_ descriptor: Int32) throws(VaultError) -> Int {
        try system { () throws(Errno) in Int(try disk.status(descriptor).st_size) }
    }

    func plainSize(_ descriptor: Int32) throws(VaultError) -> Int {
        BlockGeometry.plausibleSize(cipherSize: try cipherSize(descriptor))
    }

    /// The header that the file should have; nil where it is not the one that is meant.
    private func header(_ plan: RecoveryPlan, _ descriptor: Int32) throws(VaultError) -> FileHeader? {
        guard let wanted = parse(plan.header) else { return nil }
        let raw = try system { () throws(Errno) in try disk.readBytes(descriptor, limit: FileHeader.byteCount) }
        if raw == wanted.bytes || (plan.trust == .own && plan.oldHeaders.contains(raw)) { return wanted }
        // It was emptied since, which the log is not told of new files.
        guard plan.isNew, let found = parse(raw), found.fileID == wanted.fileID else { return nil }
        return found
    }

    func parse(_ raw: [UInt8]) -> FileHeader? {
        do throws(FormatError) {
            return try FileHeader(parsing: raw)
        } catch {
            return nil
        }
    }

    /// Puts the header in its place, where it is not there yet: the file is an empty one then.
    private func settleHeader(_ plan: RecoveryPlan, _ file: FileContents, _ isChanged: inout Bool) throws(VaultError) {
        let raw = try system { () throws(Errno) in
            try disk.readBytes(file.descriptor, limit: FileHeader.byteCount)
        }
        if raw == file.header.bytes { return }
        try putFile(file, plan.emptyImage.map { Array(segments[$0.segment][$0.image]) } ?? emptyBlock(file))
        isChanged = true
    }

    func emptyBlock(_ file: FileContents) -> [UInt8] {
        file.drawNonces(1, scratch)
        file.seal(
            scratch.zeros, count: 0, block: 0, info: BlockInfo(reconstructedWithGap: 0), nonce: scratch.nonces,
            to: scratch.probe, scratch)
        return Array(UnsafeRawBufferPointer(start: scratch.probe, count: BlockGeometry.overhead))
    }

    /// The file becomes an empty one.
    func putFile(_ file: FileContents, _ block: [UInt8]) throws(VaultError) {
        try system { () throws(Errno) in
            try disk.write(file.descriptor, bytes: file.header.bytes + block)
            try disk.truncate(file.descriptor, to: BlockGeometry.emptyFileCount)
        }
        file.setSize(0)
    }

    /// What a block's place begins with; nil where the file ends before.
    func prefix(_ block: Int, _ file: FileContents) throws(VaultError) -> [UInt8]? {
        let bytes = try system { () throws(Errno) in
            try disk.readBytes(
                file.descriptor, limit: BlockGeometry.prefixCount, at: BlockGeometry.offset(ofBlock: block))
        }
        return bytes.count == BlockGeometry.prefixCount ? bytes : nil
    }

    /// Reads a block under the file's size, whatever that is; nil where it is no block at all.
    func read(_ block: Int, _ file: FileContents) throws(VaultError) -> StoredBlock? {
        let stored = try cipherSize(file.descriptor) - BlockGeometry.offset(ofBlock: block)
        guard stored >= BlockGeometry.overhead else { return nil }
        let count = min(BlockGeometry.plainCount, stored - BlockGeometry.overhead)
        let found = try file.readBlock(
            block, to: scratch.tailBlock, image: scratch.oldImage,
            plainSize: block * BlockGeometry.plainCount + count, scratch)
        // A short block of zeros is no hole.
        if found == .zero && count < BlockGeometry.plainCount { return .damaged }
        return found
    }

    /// Cuts the file off behind the block that it was cut behind, where that is not newer than the log knows.
    private func settleCut(_ plan: RecoveryPlan, _ file: FileContents, _ isChanged: inout Bool) throws(VaultError) {
        guard plan.trust == .own, let cut = plan.cut, let block = plan.blocks[cut] else { return }
        let size = BlockGeometry.offset(ofBlock: cut) + block.image.count
        guard try cipherSize(file.descriptor) > size else { return }
        let found = try prefix(cut, file) ?? []
        if case .sealed = try read(cut, file), found != block.prefix, !block.older.contains(found) { return }
        try system { () throws(Errno) in try disk.truncate(file.descriptor, to: size) }
        isChanged = true
    }

    private mutating func settleBlocks(
        _ plan: RecoveryPlan, _ file: FileContents, _ isChanged: inout Bool, _ isRewritten: inout Bool
    ) throws(VaultError) {
        for (index, block) in plan.blocks.sorted(by: { $0.key < $1.key }) {
            let found = try prefix(index, file) ?? []
            let state = try read(index, file)
            // What verifies and is none of those that the log has replaced is newer, or another copy's.
            var isRight = false
            switch state {
            // What is in its place already is stored once more: it may be there in memory only, after a write that failed.
            case .sealed: isRight = !mayReplace(found, block, plan.trust)
            // Where the log may be old, a hole may be a newer one, and an end too. Else the record is followed as a whole: the block that vouched for a hole may be among what it replaces.
            case .zero, nil: isRight = plan.trust != .own
            case .damaged: break
            }
            if isRight { continue }
            let image = segments[block.segment][block.image]
            guard verifies(Array(image), index, file) else { continue }
            try system { () throws(Errno) in
                try disk.write(file.descriptor, bytes: Array(image), at: BlockGeometry.offset(ofBlock: index))
            }
            if found == block.prefix, state != .damaged {
                // As good as it was; but it must be on the disk.
                isRewritten = true
                continue
            }
            report.blocks += 1
            isChanged = true
        }
    }

    /// Whether a block that verifies, and begins with `found`, is older than the log's last image, or is that image.
    private func mayReplace(_ found: [UInt8], _ block: RecoveryPlan.Block, _ trust: RecoveryPlan.Trust) -> Bool {
        switch trust {
        case .own: block.older.contains(found) || found == block.prefix
        // Whatever was written since, it is not what the log saw replaced: no two images begin alike.
        case .left: block.older.contains(found)
        // Somebody may have put an older file back on purpose.
        case .foreign: false
        }
    }

    func verifies(_ image: [UInt8], _ block: Int, _ file: FileContents) -> Bool {
        var info = BlockInfo(rawValue: 0)
        return image.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return false }
            return file.open(
                base, block: block, count: bytes.count - BlockGeometry.overhead, to: scratch.tailBlock, &info, scratch)
        }
    }

    /// Ranges that were being punched: what is torn in them, or was replaced before the hole was made, becomes a hole, and so does what stands between holes and
    /// the block that vouches for them. A range that is as it was before, or as it was to be, stays.
    private func settlePunched(
        _ plan: RecoveryPlan, _ file: FileContents, _ isChanged: inout Bool
    ) throws(VaultError) {
        if plan.trust != .own { return }
        for range in plan.punched {
            var block = range.lowerBound - 1
            while let next = try file.nextStored(after: block, scratch), next < range.upperBound {
                block = next
                guard plan.blocks[block] == nil else { continue }
                let found = try prefix(block, file) ?? []
                let isTorn = try read(block, file) == .damaged
                guard isTorn || plan.void[block]?.contains(found) ?? false else { continue }
                try file.release(block, block + 1, scratch)
                isChanged = true
            }
        }
        for range in plan.punched {
            var block = range.lowerBound
            while block < range.upperBound, block < BlockGeometry.blockCount(plainSize: file.size) {
                guard try read(block, file) == .zero, let next = try file.nextStored(after: block, scratch) else {
                    block += 1
                    continue
                }
                if case .sealed(let info) = try read(next, file), next - info.gap <= block {
                    block = next + 1
                } else if plan.punched.contains(where: { $0.contains(next) }), plan.blocks[next] == nil {
                    try file.release(next, next + 1, scratch)
                    isChanged = true
                } else {
                    block = next + 1
                }
            }
        }
    }
}
