import CofferDisk
import CofferFormat
import CofferVault
import Glibc
import SystemPackage

/// Renaming.
extension FileSystem {
    /// Renames an entry, alone in the name space: ids and paths change under everything below a directory that moves.
    func rename(
        _ parent: Inode, _ name: [UInt8], to newParent: Inode, _ newName: [UInt8], mode: Disk.RenameMode
    ) throws(VaultError) {
        try changingNames(alone: true) { () throws(VaultError) in
            try withDirectory(parent) { source throws(VaultError) in
                try withDirectory(newParent) { target throws(VaultError) in
                    // In one directory both have the same descriptor, which is how the vault tells.
                    try rename(parent, name, source, to: newParent, newName, target, mode)
                }
            }
        }
    }

    private func rename(
        _ parent: Inode, _ name: [UInt8], _ source: VaultDirectory, to newParent: Inode, _ newName: [UInt8],
        _ target: VaultDirectory, _ mode: Disk.RenameMode
    ) throws(VaultError) {
        let old = try vault.find(name, in: source)
        let replaced = try vault.lookUp(newName, in: target)
        let newStored: StoredName
        if let replaced {
            newStored = replaced.name.entry
        } else {
            newStored = try vault.newName(newName, in: target).name.entry
        }
        try moving(old, parent, replaced, to: newStored, newParent, isExchange: mode == .exchange) {
            () throws(VaultError) in
            var orphan: Int32 = -1
            if let replaced, mode == .replace { orphan = try orphanDescriptor(replaced, target) }
            let outcome: Vault.RenameOutcome
            do throws(VaultError) {
                outcome = try vault.rename(name, in: source, to: newName, in: target, mode: mode)
            } catch {
                if orphan >= 0 { disk.close(orphan) }
                forgetIdentities(parent, newParent, old, replaced)
                throw error
            }
            note(outcome, old, parent, name, replaced, newParent, newName, orphan, isExchange: mode == .exchange)
        }
    }

    /// Puts a rename into the table.
    private func note(
        _ outcome: Vault.RenameOutcome, _ old: VaultEntry, _ parent: Inode, _ name: [UInt8], _ replaced: VaultEntry?,
        _ newParent: Inode, _ newName: [UInt8], _ orphan: Int32, isExchange: Bool
    ) {
        if outcome.isNothing {
            if orphan >= 0 { disk.close(orphan) }
            return
        }
        if outcome.isSourceMarked { mark(parent) }
        if outcome.isTargetMarked { mark(newParent) }
        if let replaced, !isExchange {
            noteRemoved(replaced, newParent, orphan)
        }
        move(
            old, from: parent, old.name.entry,
            to: Link(parent: newParent, stored: outcome.newName.entry, name: newName),
            outcome.moved)
        if isExchange, let replaced {
            move(
                replaced, from: newParent, outcome.newName.entry,
                to: Link(parent: parent, stored: outcome.oldName.entry, name: name), outcome.exchanged)
        }
    }

    private func move(
        _ entry: VaultEntry, from parent: Inode, _ stored: StoredName, to link: Link, _ identity: DirectoryIdentity?
    ) {
        guard let inode = table.known(entry.status) else { return }
        table.remove(stored, in: parent, from: inode)
        var link = link
        link.derived = identity?.derived
        table.add(link, to: inode)
        if let identity {
            inode.directory?.derived.withLock { $0 = identity.derived }
            inode.directory?.identity.withLock { $0 = identity }
        }
    }

    /// Remembers that a directory is marked on disk now.
    func mark(_ directory: Inode) {
        directory.directory?.identity.withLock { $0 = $0?.marked }
    }

    /// After a rename or removal that failed half-way, records on disk may say something else than what is remembered: read them again.
    func forgetIdentities(_ parent: Inode, _ newParent: Inode, _ old: VaultEntry, _ replaced: VaultEntry?) {
        var touched = [parent, newParent]
        if let inode = table.known(old.status) { touched.append(inode) }
        if let replaced, let inode = table.known(replaced.status) { touched.append(inode) }
        for inode in touched { inode.directory?.identity.withLock { $0 = nil } }
    }
}
