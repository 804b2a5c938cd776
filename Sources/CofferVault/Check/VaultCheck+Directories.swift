import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// What is in a ciphertext directory besides its entries.
extension VaultCheck {
    /// A directory's records, and what has no place in it.
    func look(at directory: TreeDirectory) {
        do throws(VaultError) {
            let place = directory.place
            let (descriptor, derived) = (directory.directory.descriptor, directory.directory.identity.derived)
            do throws(VaultError) {
                _ = try tree.vault.recordedIdentity(of: descriptor, derived: derived)
                if let bytes = try tree.vault.recordBytes(of: descriptor),
                    tree.vault.records.strangerCount(bytes, derived: derived) > 0
                {
                    report(CheckFinding(place, .strangeRecord))
                }
            } catch {
                report(error, at: place)
            }
            try lookForOthers(in: directory)
        } catch {
            report(error, at: directory.place)
        }
    }

    private func lookForOthers(in directory: TreeDirectory) throws(VaultError) {
        let disk = tree.vault.disk
        let descriptor = try system { () throws(Errno) in
            try disk.open(at: directory.directory.descriptor, ".", flags: O_RDONLY | O_DIRECTORY)
        }
        defer { disk.close(descriptor) }
        var longs: Set<[UInt8]> = []
        var companions: [(tag: [UInt8], name: [UInt8])] = []
        var foreign: [[UInt8]] = []
        var overflows: [[UInt8]] = []
        var links: Set<[UInt8]> = []
        var leftovers: [[UInt8]] = []
        try RawDirectory(disk: disk, descriptor: descriptor).forEach { bytes, type in
            switch NameCodec.kind(of: bytes) {
            case .dots: break
            case .short: if mayBeLink(type) { links.insert(bytes) }
            case .long(let tag):
                longs.insert(tag)
                if mayBeLink(type) { links.insert(bytes) }
            case .companion(let tag, _, _): companions.append((tag, bytes))
            case .foreign: foreign.append(bytes)
            case .reserved:
                if ReservedName.overflowCompanion(bytes) != nil { overflows.append(bytes) }
                if ReservedName.isMaking(StoredName(bytes)) { leftovers.append(bytes) }
            }
            return true
        }
        func report(_ name: [UInt8], _ kind: CheckFinding.Kind) {
            let shown = DirectoryStream.placeholder(for: name)
            self.report(CheckFinding(TreePlace(in: directory.place, name: shown, stored: name), kind))
        }
        for (tag, name) in companions where !longs.contains(tag) { report(name, .orphan) }
        for name in leftovers { report(name, .leftover) }
        for name in foreign where try isSealed(StoredName(name), in: descriptor) { report(name, .conflictCopy) }
        if !overflows.isEmpty {
            var named: Set<[UInt8]> = []
            for link in links {
                let status = try system { () throws(Errno) in try disk.status(at: descriptor, StoredName(link).cString)
                }
                guard status.st_mode & S_IFMT == S_IFLNK else { continue }
                let text = try tree.vault.linkText(at: descriptor, StoredName(link))
                if let overflow = LinkCodec.parseOverflow(text) { named.insert(overflow.file.bytes) }
            }
            for name in overflows where !named.contains(name) { report(name, .orphan) }
        }
    }

    /// Some file systems do not say in a listing what an entry is.
    private func mayBeLink(_ type: UInt8) -> Bool { type == UInt8(DT_LNK) || type == UInt8(DT_UNKNOWN) }

    /// Whether a file of another name begins as those of a vault do.
    private func isSealed(_ name: StoredName, in directory: Int32) throws(VaultError) -> Bool {
        let disk = tree.vault.disk
        do throws(Errno) {
            guard try disk.status(at: directory, name.cString).st_mode & S_IFMT == S_IFREG else { return false }
            let file = try disk.open(at: directory, name.cString, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            defer { disk.close(file) }
            let raw = try disk.readBytes(file, limit: FileHeader.byteCount)
            do throws(FormatError) {
                _ = try FileHeader(parsing: raw)
                return true
            } catch {
                return false
            }
        } catch {
            // Whoever keeps it from being read knows what it is.
            return false
        }
    }
}
