import ArgumentParser
import CofferCrypto
import CofferFormat
import CofferVault

/// `coffer cat`.
struct Cat: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write a file of a vault to standard output, without mounting it.",
        discussion: """
            Only what verifies is written. At a damaged block it ends, with a message that says where, and exit status \
            \(ExitStatus.damaged.rawValue): what was written is then the file's beginning and no more. Symbolic links are not followed.

            Examples:
              coffer cat photos:2024/notes.txt
              coffer cat backup:home.tar | tar -t
            """)

    @Argument(help: ArgumentHelp("The vault's directory, and a file in it.", valueName: "vault:path"))
    var file: String

    @OptionGroup var unlock: UnlockOptions

    func run() throws {
        let target = try VaultPath(file)
        guard !target.path.names.isEmpty else {
            throw CommandError(.usage, "\(quoted(file)) names no file in the vault; write VAULT:PATH")
        }
        let reading = try VaultReading(target.directory, unlock)
        let path = target.path.bytes
        switch try reading.find(target.path) {
        case .directory: throw CommandError(.inputOutput, "\(quoted(path)) is a directory; 'coffer ls' lists it")
        case .entry(let entry, let parent):
            if entry.isLink {
                throw CommandError(.inputOutput, "\(quoted(path)) is a symbolic link; 'coffer ls -l' shows its target")
            }
            guard entry.isFile else { throw CommandError(.inputOutput, "\(quoted(path)) is no regular file") }
            try copy(entry, in: parent, of: reading)
        }
    }

    private func copy(
        _ entry: TreeEntry, in parent: TreeDirectory, of reading: VaultReading
    ) throws(CommandError) {
        let path = parent.place(of: entry).path
        let scratch = try CommandError.memory { () throws(CryptoError) in try Scratch() }
        let file = try CommandError.reading(path, vault: reading.path) { () throws(VaultError) in
            try reading.tree.read(entry, in: parent, scratch)
        }
        let output = Output()
        let room = 1 << 20
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 4096)
        defer { buffer.deallocate() }
        guard let base = buffer.baseAddress else { return }
        var offset = 0
        // Where a piece does not verify, its blocks are tried one by one, up to the one that is damaged.
        var count = room
        while offset < file.size {
            do throws(VaultError) {
                count = try file.read(into: base, count: count, at: offset)
            } catch {
                guard case .damaged = error, count > BlockGeometry.plainCount else {
                    throw CommandError(error, at: path, vault: reading.path)
                }
                count = BlockGeometry.plainCount
                continue
            }
            if count == 0 { break }
            try output.write(UnsafeRawBufferPointer(start: base, count: count))
            offset += count
            if count > BlockGeometry.plainCount { count = room }
        }
    }
}
