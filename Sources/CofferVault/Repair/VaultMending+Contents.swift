import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Files that do not verify.
extension VaultMending {
    private static let copySuffix = Array(".salvaged".utf8)
    private static let mapSuffix = Array(".salvaged.txt".utf8)
    private static let partCount = 1 << 18

    func mendContents(_ finding: CheckFinding) throws(VaultError) -> Outcome {
        let place = finding.place
        guard let parent = place.parent, let here = try directory(parent) else { return .notMended }
        let entry = try Tree(vault).entry(place.name, in: here)
        guard entry.isFile, !entry.isPlaceholder else { return .notMended }
        if try hasOnlyNoEnd(entry, in: here) {
            if !isDryRun { try setEnd(of: entry, in: here) }
            return .ended
        }
        return try salvage(entry, in: here)
    }

    private func open(_ entry: TreeEntry, in here: TreeDirectory, flags: Int32) throws(VaultError) -> Int32 {
        try system { () throws(Errno) in
            try disk.open(
                at: here.directory.descriptor, entry.stored.cString, flags: flags | O_NOFOLLOW | O_NONBLOCK)
        }
    }

    // MARK: Ends

    /// Whether every block verifies, and only the last one is not marked as that.
    private func hasOnlyNoEnd(_ entry: TreeEntry, in here: TreeDirectory) throws(VaultError) -> Bool {
        let descriptor = try open(entry, in: here, flags: O_RDONLY)
        defer { disk.close(descriptor) }
        var check = FileCheck(disk: disk, ring: vault.ring, scratch: scratch)
        do throws(VaultError) {
            let bad = try check.run(descriptor, storedSize: entry.backing.st_size, contents: true)
            return bad.count == 1 && bad[0].kind == .end
        } catch {
            guard case .damaged = error else { throw error }
            return false
        }
    }

    private func setEnd(of entry: TreeEntry, in here: TreeDirectory) throws(VaultError) {
        let descriptor = try open(entry, in: here, flags: O_RDWR)
        let read: Result<(stat, FileHeader), VaultError> = Result { () throws(VaultError) in
            let (status, raw) = try system { () throws(Errno) in
                (try disk.status(descriptor), try disk.readBytes(descriptor, limit: FileHeader.byteCount))
            }
            do throws(FormatError) {
                return (status, try FileHeader(parsing: raw))
            } catch {
                throw .damaged(Damage(.changed))
            }
        }
        if case .failure = read { disk.close(descriptor) }
        let (status, header) = try read.get()
        let size = BlockGeometry.plausibleSize(cipherSize: status.st_size)
        // Owns the descriptor from here on.
        let file = try FileContents(recovering: descriptor, disk: disk, ring: vault.ring, header: header, size: size)
        let block = max(0, BlockGeometry.blockCount(plainSize: size) - 1)
        guard
            case .sealed(let info) = try file.readBlock(block, to: scratch.tailBlock, image: scratch.oldImage, scratch)
        else { throw .damaged(Damage(.changed, block: block)) }
        let start = BlockGeometry.offset(ofBlock: block)
        try lost.keep([start..<Int(status.st_size)], of: descriptor, as: "file." + Base64URL.text(header.fileID))
        let count = Int(status.st_size) - start
        file.drawNonces(1, scratch)
        file.seal(
            scratch.tailBlock, count: count - BlockGeometry.overhead, block: block,
            info: BlockInfo(reconstructedWithGap: info.gap), nonce: scratch.nonces, to: scratch.probe, scratch)
        try system { () throws(Errno) in
            try disk.write(descriptor, scratch.probe, count: count, at: start)
            try disk.sync(descriptor)
        }
    }

    // MARK: Copies of what verifies

    private func salvage(_ entry: TreeEntry, in here: TreeDirectory) throws(VaultError) -> Outcome {
        let copyName = Self.name(entry.name, Self.copySuffix), mapName = Self.name(entry.name, Self.mapSuffix)
        let source: TreeFile
        do throws(VaultError) {
            source = try Tree(vault).read(entry, in: here, salvaging: true, scratch)
        } catch {
            // Without a header there is no key.
            if case .damaged = error { return .notMended }
            throw error
        }
        let lostRanges = try lostRanges(of: source)
        let lostCount = lostRanges.reduce(0) { $0 + $1.count }
        guard lostCount < source.size else { return .notMended }
        let outcome = Outcome.salvaged(as: copyName, map: mapName, lost: lostCount)
        // An earlier run has made it, which ends with the map.
        if try vault.lookUp(mapName, in: here.directory) != nil || isDryRun { return outcome }
        if let unfinished = try vault.lookUp(copyName, in: here.directory) {
            // Of a run that was broken off, unless it is somebody's own.
            guard unfinished.isFile else { return .failed(.fileExists) }
            try vault.removeFile(unfinished, in: here.directory)
        }
        try make(copyName, entry, in: here) { contents throws(VaultError) in
            try copy(source, lostRanges, to: contents)
        }
        let text =
            "Of \(String(decoding: entry.name, as: UTF8.self)), \(source.size) bytes, these do not verify and are zeros in \(String(decoding: copyName, as: UTF8.self)):\n"
            + lostRanges.map { "\($0.lowerBound)-\($0.upperBound - 1)\n" }.joined()
        let map = Array(text.utf8)
        try make(mapName, entry, in: here) { contents throws(VaultError) in
            try map.withUnsafeBytes { bytes in
                Result { () throws(VaultError) in
                    if let base = bytes.baseAddress {
                        try contents.write(base, count: bytes.count, at: 0, scratch)
                    }
                }
            }.get()
        }
        return outcome
    }

    private static func name(_ name: [UInt8], _ suffix: [UInt8]) -> [UInt8] {
        Array(name.prefix(NameCodec.maximumPlainCount - suffix.count)) + suffix
    }

    /// The plaintext bytes that cannot be read.
    private func lostRanges(of source: TreeFile) throws(VaultError) -> [Range<Int>] {
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: Self.partCount, alignment: 4096)
        defer { buffer.deallocate() }
        var lost: [Range<Int>] = []
        var offset = 0
        func reads(_ count: Int) throws(VaultError) -> Bool {
            do throws(VaultError) {
                return try source.read(into: buffer, count: count, at: offset) == count
            } catch {
                switch error {
                case .damaged, .system(.ioError): return false
                default: throw error
                }
            }
        }
        while offset < source.size {
            let part = min(Self.partCount, source.size - offset)
            if try reads(part) {
                offset += part
                continue
            }
            let end = offset + part
            while offset < end {
                let count = min(BlockGeometry.plainCount, end - offset)
                if try !reads(count) {
                    if let last = lost.last, last.upperBound == offset {
                        lost[lost.count - 1] = last.lowerBound..<(offset + count)
                    } else {
                        lost.append(offset..<(offset + count))
                    }
                }
                offset += count
            }
        }
        return lost
    }

    private func copy(_ source: TreeFile, _ lost: [Range<Int>], to target: FileContents) throws(VaultError) {
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: Self.partCount, alignment: 4096)
        defer { buffer.deallocate() }
        var start = 0
        for hole in lost + [source.size..<source.size] {
            while start < hole.lowerBound {
                let count = min(Self.partCount, hole.lowerBound - start)
                let got = try source.read(into: buffer, count: count, at: start)
                guard got == count else { throw .damaged(Damage(.changed)) }
                try target.write(buffer, count: count, at: start, scratch)
                start += count
            }
            start = hole.upperBound
        }
        try target.resize(to: source.size, scratch)
    }

    /// A new file with the mode, owner and times of another.
    private func make(
        _ name: [UInt8], _ like: TreeEntry, in here: TreeDirectory,
        _ body: (FileContents) throws(VaultError) -> Void
    ) throws(VaultError) {
        let (descriptor, stored) = try vault.makeFile(name, in: here.directory, mode: 0o600)
        do throws(VaultError) {
            let contents = try vault.newContents(of: descriptor, making: nil, scratch)
            try body(contents)
            try contents.sync(dataOnly: false, scratch)
            let object = try system { () throws(Errno) in
                try disk.open(
                    at: here.directory.descriptor, stored.entry.cString, flags: Disk.pathOnly | O_NOFOLLOW)
            }
            defer { disk.close(object) }
            try system { () throws(Errno) in
                if geteuid() == 0 {
                    try disk.setOwner(object, user: like.backing.st_uid, group: like.backing.st_gid)
                }
                try disk.setMode(object, like.backing.st_mode & 0o777)
                try disk.setTimes(object, access: like.backing.st_atim, modification: like.backing.st_mtim)
            }
        } catch {
            try vault.removeQuietly(stored.entry, in: here.directory)
            try vault.removeCompanions(of: stored, in: here.directory)
            throw error
        }
    }
}
