import CofferCrypto
import CofferFormat
import Glibc
import SystemPackage

/// Regular files.
extension TreeExtraction {
    private static let salvageSuffix: [UInt8] = Array(".damaged".utf8)
    private static let temporaryPrefix: [UInt8] = Array(".coffer-extract.".utf8)

    /// Brings a file out: under a name of its own first, under its true one when all of it is there.
    func extractFile(
        _ entry: TreeEntry, names: [ListedEntry], in source: TreeDirectory, _ place: TreePlace, into target: Int32
    ) throws(Failure) {
        let file = try fromVault { () throws(VaultError) in
            try tree.read(entry, in: source, salvaging: options.salvages, scratch)
        }
        let temporary = StoredName(Self.temporaryPrefix + Base64URL.encode(Random.bytes(12)))
        let descriptor = try toDestination { () throws(Errno) in
            try disk.open(
                at: target, temporary.cString, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
        }
        defer { disk.close(descriptor) }
        do throws(Failure) {
            var name = entry.name
            var problem: TreeProblem.Reason?
            do throws(Failure) {
                try copy(file, to: descriptor)
            } catch {
                guard options.salvages, case .source(.damaged(let damage)) = error else { throw error }
                name = Self.salvageName(for: entry.name, besides: names)
                problem = .salvaged(damage, name: name, lost: try salvage(file, to: descriptor))
            }
            let attributes = attributes(of: file.backing, entry.backing, place) { () throws(VaultError) in
                file.fileID
            }
            try finish(descriptor, entry.backing, attributes, place)
            try giveName(name, to: temporary, in: target)
            change { $0.files += 1 }
            if let problem { report(place, problem) }
            remember(entry, as: name, in: source.place, problem)
        } catch {
            try toDestination { () throws(Errno) in try disk.remove(at: target, temporary.cString) }
            throw error
        }
    }

    /// The contents, with holes where there are holes.
    private func copy(_ file: TreeFile, to descriptor: Int32) throws(Failure) {
        var offset = 0
        while offset < file.size {
            guard let data = try fromVault({ () throws(VaultError) in try file.nextData(from: offset) }) else { break }
            let end = try fromVault { () throws(VaultError) in try file.nextHole(from: data) ?? file.size }
            let filled = try withoutEdges(data..<end, of: file, isAfterHole: data > offset)
            var position = filled.lowerBound
            while position < filled.upperBound {
                let got = try fromVault { () throws(VaultError) in
                    try file.read(
                        into: buffer, count: min(Self.bufferCount, filled.upperBound - position), at: position)
                }
                // Cut by somebody meanwhile.
                if got == 0 { break }
                try toDestination { () throws(Errno) in
                    try disk.write(descriptor, UnsafeRawPointer(buffer), count: got, at: position)
                }
                wrote(got)
                position += got
            }
            // Never back, whatever a file that changes says.
            offset = max(end, offset + 1)
        }
        try toDestination { () throws(Errno) in try disk.truncate(descriptor, to: file.size) }
    }

    /// A run of data without the block of zeros that the vault stores where a program only made the file longer: beside a hole, that is one again. Zeros
    /// elsewhere are kept, because a program may have wanted the space.
    private func withoutEdges(
        _ run: Range<Int>, of file: TreeFile, isAfterHole: Bool
    ) throws(Failure) -> Range<Int> {
        var (start, end) = (run.lowerBound, run.upperBound)
        if isAfterHole, try isZero(file, start) { start = min(start + BlockGeometry.plainCount, end) }
        if start < end, end < file.size, try isZero(file, end - BlockGeometry.plainCount) {
            end = max(end - BlockGeometry.plainCount, start)
        }
        return start..<end
    }

    /// Whether the block at `offset` is plaintext zeros.
    private func isZero(_ file: TreeFile, _ offset: Int) throws(Failure) -> Bool {
        let got = try fromVault { () throws(VaultError) in
            try file.read(into: buffer, count: BlockGeometry.plainCount, at: offset)
        }
        return memcmp(buffer, scratch.zeros, got) == 0
    }

    /// Every block that verifies, holes for the others. Returns how many bytes did not.
    private func salvage(_ file: TreeFile, to descriptor: Int32) throws(Failure) -> Int {
        let blockCount = BlockGeometry.plainCount
        try toDestination { () throws(Errno) in
            try disk.truncate(descriptor, to: 0)
            try disk.truncate(descriptor, to: file.size)
        }
        var lost = 0
        var offset = 0
        while offset < file.size {
            let data = try verifying { () throws(VaultError) in try file.nextData(from: offset) ?? file.size }
            if let data, data > offset {
                offset = data
                continue
            }
            // A megabyte at once while all is well, else block by block over it.
            let end = min(offset + Self.bufferCount, file.size)
            if try copyPiece(file, offset, end - offset, to: descriptor) == nil {
                offset = end
                continue
            }
            while offset < end {
                let count = min(blockCount, end - offset)
                let damage = try copyPiece(file, offset, count, to: descriptor)
                offset += count
                guard let damage else { continue }
                lost += count
                // Zeros that nothing vouches for are all lost together: looking for a voucher of each of them would take for ever.
                if damage.kind == .hole {
                    let next = try verifying { () throws(VaultError) in try file.nextStored(from: offset) } ?? file.size
                    lost += next - offset
                    offset = next
                }
            }
        }
        return lost
    }

    /// Copies a piece that verifies, or tells why it does not.
    private func copyPiece(
        _ file: TreeFile, _ offset: Int, _ count: Int, to descriptor: Int32
    ) throws(Failure) -> Damage? {
        let got: Int
        do throws(VaultError) {
            got = try file.read(into: buffer, count: count, at: offset)
        } catch {
            if case .damaged(let damage) = error { return damage }
            throw .source(error)
        }
        for start in stride(from: 0, to: got, by: BlockGeometry.plainCount) {
            let length = min(BlockGeometry.plainCount, got - start)
            if memcmp(buffer + start, scratch.zeros, length) == 0 { continue }
            try toDestination { () throws(Errno) in
                try disk.write(descriptor, UnsafeRawPointer(buffer + start), count: length, at: offset + start)
            }
            wrote(length)
        }
        return nil
    }

    /// Nil for damage.
    private func verifying<Result>(_ body: () throws(VaultError) -> Result) throws(Failure) -> Result? {
        do throws(VaultError) {
            return try body()
        } catch {
            if case .damaged = error { return nil }
            throw .source(error)
        }
    }

    /// `NAME.damaged`, shortened to fit, and numbered where the directory has an entry of that name itself.
    static func salvageName(for name: [UInt8], besides entries: [ListedEntry]) -> [UInt8] {
        var number = 1
        while true {
            let suffix = salvageSuffix + (number == 1 ? [] : Array(".\(number)".utf8))
            let candidate = Array(name.prefix(NameCodec.maximumPlainCount - suffix.count)) + suffix
            if !entries.contains(where: { $0.name == candidate }) { return candidate }
            number += 1
        }
    }

    /// Renames what is complete, and never over something that exists: on a file system that takes two names for one, the second must not replace the first.
    private func giveName(_ name: [UInt8], to temporary: StoredName, in target: Int32) throws(Failure) {
        let name = StoredName(name)
        try toDestination { () throws(Errno) in
            do throws(Errno) {
                try disk.rename(
                    from: target, temporary.cString, to: target, name.cString, mode: .noReplace)
            } catch {
                // Not every file system can tell by itself.
                guard error == .invalidArgument || error == .noFunction else { throw error }
                do throws(Errno) {
                    _ = try disk.status(at: target, name.cString)
                } catch {
                    guard error == .noSuchFileOrDirectory else { throw error }
                    return try disk.rename(from: target, temporary.cString, to: target, name.cString)
                }
                throw .fileExists
            }
        }
    }
}
