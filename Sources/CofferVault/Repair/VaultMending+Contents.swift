import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Files that do not verify.
extension VaultMending {
    private static let copySuffix = Array(".salvaged".utf8)
    private static let mapSuffix = Array(".txt".utf8)
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
        let text =
            "Of \(String(decoding: entry.name, as: UTF8.self)) (file id \(Base64URL.text(source.fileID))), \(source.size) bytes, these do not verify and are zeros in the copy:\n"
            + lostRanges.map { "\($0.lowerBound)-\($0.upperBound - 1)\n" }.joined()
        let map = Array(text.utf8)
        // What is there under these names is somebody's, unless it is what an earlier run has made of the same.
        for number in 1..<1000 {
            let suffix = number == 1 ? [] : Array(".\(number)".utf8)
            let copyName = Self.name(entry.name, Self.copySuffix + suffix)
            let mapName = Self.name(entry.name, Self.copySuffix + suffix + Self.mapSuffix)
            let outcome = Outcome.salvaged(as: copyName, map: mapName, lost: lostCount)
            let (copy, earlier) = (
                try vault.lookUp(copyName, in: here.directory), try vault.lookUp(mapName, in: here.directory)
            )
            if let earlier {
                if copy != nil, earlier.isFile, try holds(mapName, map, in: here) { return outcome }
                continue
            }
            if isDryRun {
                if copy != nil { continue }
                return outcome
            }
            if copy == nil {
                try make(copyName, entry, in: here) { contents throws(VaultError) in
                    try self.copy(source, lostRanges, to: contents)
                }
            } else if try !isCopy(copyName, of: source, without: lostRanges, in: here) {
                continue
            }
            // Last: where it is missing, a run was broken off.
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
        return .failed(.fileExists)
    }

    /// Whether a file is what would be made.
    private func isCopy(
        _ name: [UInt8], of source: TreeFile, without lost: [Range<Int>], in here: TreeDirectory
    ) throws(VaultError) -> Bool {
        let room = 2 * Self.partCount
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: room, alignment: 4096)
        defer { buffer.deallocate() }
        let other = buffer + Self.partCount
        do throws(VaultError) {
            let file = try Tree(vault).read(try Tree(vault).entry(name, in: here), in: here, scratch)
            guard file.size == source.size else { return false }
            var start = 0
            for hole in lost + [source.size..<source.size] {
                while start < hole.upperBound {
                    let isLost = start >= hole.lowerBound
                    let count = min(Self.partCount, (isLost ? hole.upperBound : hole.lowerBound) - start)
                    guard try file.read(into: buffer, count: count, at: start) == count else { return false }
                    if isLost {
                        (other).initializeMemory(as: UInt8.self, repeating: 0, count: count)
                    } else {
                        guard try source.read(into: other, count: count, at: start) == count else { return false }
                    }
                    guard memcmp(buffer, other, count) == 0 else { return false }
                    start += count
                }
            }
            return true
        } catch {
            if case .damaged = error { return false }
            throw error
        }
    }

    /// Whether a file has these bytes, and no others.
    private func holds(_ name: [UInt8], _ bytes: [UInt8], in here: TreeDirectory) throws(VaultError) -> Bool {
        do throws(VaultError) {
            let file = try Tree(vault).read(try Tree(vault).entry(name, in: here), in: here, scratch)
            guard file.size == bytes.count else { return false }
            let buffer = UnsafeMutableRawPointer.allocate(byteCount: bytes.count, alignment: 16)
            defer { buffer.deallocate() }
            let got = try file.read(into: buffer, count: bytes.count, at: 0)
            return got == bytes.count && UnsafeRawBufferPointer(start: buffer, count: got).elementsEqual(bytes)
        } catch {
            if case .damaged = error { return false }
            throw error
        }
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

    /// A new file with the mode, owner and times of another. It gets its name when it is whole.
    private func make(
        _ name: [UInt8], _ like: TreeEntry, in here: TreeDirectory,
        _ body: (FileContents) throws(VaultError) -> Void
    ) throws(VaultError) {
        let making = ReservedName.making(random: DirectoryID.random().bytes)
        let descriptor = try system { () throws(Errno) in
            try disk.open(
                at: here.directory.descriptor, making.cString, flags: O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW,
                mode: 0o600)
        }
        do throws(VaultError) {
            let contents = try vault.newContents(of: descriptor, making: nil, scratch)
            try body(contents)
            try contents.sync(dataOnly: false, scratch)
            try contents.withDescriptor { (object) throws(VaultError) in
                try system { () throws(Errno) in
                    if geteuid() == 0 {
                        try disk.setOwner(object, user: like.backing.st_uid, group: like.backing.st_gid)
                    }
                    try disk.setMode(object, like.backing.st_mode & 0o777)
                    try disk.setTimes(object, access: like.backing.st_atim, modification: like.backing.st_mtim)
                }
            }
            let encoding = try vault.newName(name, in: here.directory).name
            try vault.withCompanions(of: encoding, in: here.directory) { () throws(Errno) in
                try disk.rename(
                    from: here.directory.descriptor, making.cString, to: here.directory.descriptor,
                    encoding.entry.cString, mode: .noReplace)
            }
        } catch {
            _ = Result { () throws(VaultError) in try vault.removeQuietly(making, in: here.directory) }
            throw error
        }
    }
}
