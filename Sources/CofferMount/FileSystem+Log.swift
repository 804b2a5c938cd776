import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import Synchronization
import SystemPackage

/// What the intent log is told of places. The caller holds `names`.
extension FileSystem {
    /// An inode's place: stored names from the vault's root. Nil once it has no name, or none that is known.
    func place(of inode: Inode) -> [StoredName]? {
        var place: [StoredName] = []
        var current = inode
        while current !== table.root {
            guard let link = table.links(of: current).first else { return nil }
            place.append(link.stored)
            current = link.parent
        }
        return place.reversed()
    }

    /// Lends leave to make entries in directories, or to bring others there that may be new.
    func making<Result>(
        in directories: [Inode], _ body: (IntentLog.Making?) throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        guard let intents = vault.log else { return try body(nil) }
        let making = try intents.making(
            in: directories.map { directory in
                IntentLog.Directory(known: directory.directory?.makingIn.load(ordering: .relaxed) ?? 0) {
                    self.place(of: directory)
                }
            })
        defer { intents.end(making.ticket) }
        for directory in directories { directory.directory?.makingIn.store(making.order, ordering: .relaxed) }
        return try body(making)
    }

    /// Runs a rename, of which the log is told first: what it says of files leads to wherever they are after a power cut.
    func moving<Result>(
        _ old: VaultEntry, _ parent: Inode, _ replaced: VaultEntry?, to newName: StoredName, _ newParent: Inode,
        isExchange: Bool, _ body: () throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        guard let intents = vault.log else { return try body() }
        return try intents.changingPlaces { () throws(VaultError) in
            if let source = place(of: parent), let target = place(of: newParent) {
                let from = source + [old.name.entry]
                let to = target + [newName]
                try intents.announceMove(
                    from: from, to: to, isDurable: old.isDirectory || intents.follows(old.status))
                if isExchange, let replaced {
                    try intents.announceMove(
                        from: to, to: from, isDurable: replaced.isDirectory || intents.follows(replaced.status))
                }
            }
            if !isExchange, let replaced { try keepTrack(of: replaced, newParent) }
            let isLast = !isExchange && replaced.map { $0.isFile && $0.status.st_nlink == 1 } ?? false
            let gone = isLast ? replaced.flatMap { intents.known($0.status) } : nil
            let result = try making(in: isExchange ? [newParent, parent] : [newParent]) { _ throws(VaultError) in
                try body()
            }
            intents.forget(gone)
            return result
        }
    }

    /// Runs what gives a file another name, of which the log is told first.
    func linking<Result>(
        _ entry: VaultEntry, _ parent: Inode, to newName: StoredName, _ newParent: Inode,
        _ body: () throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        guard let intents = vault.log, entry.isFile else { return try body() }
        return try intents.changingPlaces { () throws(VaultError) in
            if let source = place(of: parent), let target = place(of: newParent) {
                try intents.announceMove(
                    from: source + [entry.name.entry], to: target + [newName],
                    isDurable: intents.follows(entry.status))
            }
            return try making(in: [newParent]) { _ throws(VaultError) in try body() }
        }
    }

    /// Runs what takes a name away, of which the log is told first where the file has others.
    func unlinking<Result>(
        _ entry: VaultEntry, _ parent: Inode, _ body: () throws(VaultError) -> Result
    ) throws(VaultError) -> Result {
        guard let intents = vault.log, entry.isFile else { return try body() }
        if entry.status.st_nlink == 1 {
            let known = intents.known(entry.status)
            let result = try body()
            intents.forget(known)
            return result
        }
        return try intents.changingPlaces { () throws(VaultError) in
            try keepTrack(of: entry, parent)
            return try body()
        }
    }

    /// Before a file of several names loses one: the log learns of another, or else has nothing to say of the file by then.
    private func keepTrack(of entry: VaultEntry, _ parent: Inode) throws(VaultError) {
        guard let intents = vault.log, entry.isFile, entry.status.st_nlink > 1, intents.follows(entry.status) else {
            return
        }
        let others = table.known(entry.status).map { table.links(of: $0) }?.filter {
            $0.stored != entry.name.entry || $0.parent !== parent
        }
        if let other = others?.first, let source = place(of: parent), let target = place(of: other.parent) {
            try intents.announceMove(
                from: source + [entry.name.entry], to: target + [other.stored], isDurable: true)
        } else {
            try intents.checkpoint()
        }
    }
}
