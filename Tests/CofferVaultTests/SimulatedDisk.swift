import CofferDisk
import Glibc
import Randomness
import SystemPackage

/// A disk in memory that remembers what of a file's changes has been synced, and tells what a power cut may leave of it.
///
/// Flat: names are looked up in one directory, whatever the descriptor. Names are durable at once, which is the hard case: contents never are, until they are
/// synced. One thread's.
final class SimulatedDisk: Disk, @unchecked Sendable {
    static let pageCount = 4096

    private final class File {
        var pages: [Int: [UInt8]] = [:]
        var size = 0
        /// What each page that was changed since the last sync has held since then, the synced contents first.
        var versions: [Int: [[UInt8]]] = [:]
        /// Likewise.
        var sizes = [0]
        /// What the disk has of pages that the system takes for written, after a sync that failed.
        var lost: [Int: [UInt8]] = [:]
        var number: UInt = 0
        var born = time(nil)

        func page(_ index: Int) -> [UInt8] { pages[index] ?? [UInt8](repeating: 0, count: pageCount) }

        func put(_ index: Int, _ page: [UInt8]) {
            let durable = lost.removeValue(forKey: index) ?? self.page(index)
            versions[index, default: [durable]].append(page)
            pages[index] = page
        }

        func setSize(_ size: Int) {
            self.size = size
            sizes.append(size)
        }

        func failSync() {
            for (index, versions) in versions { lost[index] = versions[0] }
            versions = [:]
        }

        func sync() {
            versions = [:]
            sizes = [size]
        }
    }

    private var files: [String: File] = [:]
    private var open: [Int32: File] = [:]
    /// Directories that are being read: what is still to come.
    private var listings: [Int32: [String]] = [:]
    private var nextDescriptor: Int32 = 1000
    private var nextNumber: UInt = 0
    /// What stands for the directory.
    static let root: Int32 = 1
    /// Called before each change.
    var onChange: (() -> Void)?
    /// Called before each call that may fail; what it throws, the call throws. A write of which `part` says a number of bytes does so many first.
    var onCall: ((_ name: String, _ part: inout Int?) throws(Errno) -> Void)?

    /// Called before each write with its size and where it begins: of how many bytes of it a process that is killed in it leaves; nil where it is not.
    var onTear: ((_ count: Int, _ offset: Int) -> Int?)?

    /// Called before each sync of a file.
    var onSync: ((Int32) -> Void)?

    /// Where the last write went, or was to go.
    private(set) var lastWritten: Int32 = -1
    /// How many bytes it had, or was to have.
    private(set) var lastCount = 0
    /// Likewise of syncs.
    private(set) var lastSynced: Int32 = -1

    /// After a sync that fails, no later one stores what that was to, as long as it is not changed again: as Linux does it.
    var losesWhatItCannotSync = false
    /// Such a sync has failed, of the whole file system or of a file.
    private(set) var hasLost = false

    /// Runs something while nothing fails.
    func pausingCalls(_ body: () -> Void) {
        let hook = onCall
        onCall = nil
        body()
        onCall = hook
    }

    private func called(_ name: String) throws(Errno) {
        var part: Int?
        try onCall?(name, &part)
    }

    /// What may be left of a change that was not synced.
    enum Loss: CaseIterable {
        /// Each page holds any of its versions, the size is any that it was.
        case anything
        /// Nothing that was not synced.
        case all
        /// Everything came to the disk.
        case nothing
        /// The size did not, any of the pages may have.
        case sizes
        /// The size did, few of the pages.
        case mostPages
    }

    /// The disk after a power cut now.
    func crashed(_ loss: Loss, _ random: inout SeededRandom) -> SimulatedDisk {
        let other = SimulatedDisk()
        other.nextNumber = nextNumber
        for (name, file) in files.sorted(by: { $0.key < $1.key }) {
            let left = File()
            left.pages = file.pages.merging(file.lost) { $1 }
            for (index, versions) in file.versions.sorted(by: { $0.key < $1.key }) {
                switch loss {
                case .anything, .sizes: left.pages[index] = versions[random.below(versions.count)]
                case .all: left.pages[index] = versions[0]
                case .nothing: break
                case .mostPages: if !random.oneIn(5) { left.pages[index] = versions[0] }
                }
            }
            switch loss {
            case .anything: left.size = file.sizes[random.below(file.sizes.count)]
            case .all, .sizes: left.size = file.sizes[0]
            case .nothing, .mostPages: left.size = file.size
            }
            left.pages = left.pages.filter { $0.key * Self.pageCount < left.size }
            let end = left.size / Self.pageCount
            if let last = left.pages[end] {
                let kept = left.size % Self.pageCount
                left.pages[end] = Array(last[..<kept]) + [UInt8](repeating: 0, count: Self.pageCount - kept)
            }
            left.sizes = [left.size]
            left.number = file.number
            left.born = file.born
            other.files[name] = left
        }
        return other
    }

    /// Puts another disk's file, as it is there, in the place of this one's.
    func take(_ name: String, from other: SimulatedDisk) {
        let copy = makeFile()
        copy.pages = other.files[name]?.pages ?? [:]
        copy.size = other.files[name]?.size ?? 0
        copy.sync()
        files[name] = copy
    }

    private func makeFile() -> File {
        let file = File()
        nextNumber += 1
        file.number = nextNumber
        return file
    }

    /// Cuts a file off, as an attacker would.
    func cut(_ name: String, to size: Int) {
        guard let file = files[name], size < file.size else { return }
        file.pages = file.pages.filter { $0.key * Self.pageCount < size }
        file.size = size
        file.sync()
    }

    private func file(_ descriptor: Int32) throws(Errno) -> File {
        guard let file = open[descriptor] else { throw .badFileDescriptor }
        return file
    }

    override func open(
        at directory: Int32, _ name: UnsafePointer<CChar>, flags: Int32, mode: mode_t = 0
    ) throws(Errno) -> Int32 {
        try called("open")
        let name = String(cString: name)
        if name == "." {
            nextDescriptor += 1
            listings[nextDescriptor] = files.keys.sorted()
            return nextDescriptor
        }
        if files[name] == nil {
            guard flags & O_CREAT != 0 else { throw .noSuchFileOrDirectory }
            onChange?()
            files[name] = makeFile()
        }
        nextDescriptor += 1
        open[nextDescriptor] = files[name]
        return nextDescriptor
    }

    override func rename(
        from source: Int32, _ name: UnsafePointer<CChar>, to target: Int32, _ newName: UnsafePointer<CChar>,
        mode: RenameMode
    ) throws(Errno) {
        try called("rename")
        onChange?()
        guard let file = files.removeValue(forKey: String(cString: name)) else { throw .noSuchFileOrDirectory }
        files[String(cString: newName)] = file
    }

    override func close(_ descriptor: Int32) {
        open[descriptor] = nil
        listings[descriptor] = nil
    }

    override func birthTime(
        at directory: Int32, _ name: UnsafePointer<CChar>
    ) throws(Errno) -> (time: timespec, isExact: Bool) {
        try called("statx")
        let name = String(cString: name)
        guard let file = name.isEmpty ? open[directory] : files[name] else { throw .noSuchFileOrDirectory }
        return (timespec(tv_sec: file.born, tv_nsec: Int(file.number)), true)
    }

    override func seekDirectory(_ descriptor: Int32, to position: Int) throws(Errno) {}

    override func readDirectory(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) throws(Errno) -> Int {
        guard let names = listings[descriptor] else { throw .badFileDescriptor }
        listings[descriptor] = []
        var position = 0
        for name in names {
            position = putEntry(name, into: buffer, at: position) ?? position
        }
        return position
    }

    override func read(
        _ descriptor: Int32, into buffer: UnsafeMutableRawPointer, count: Int, at offset: Int
    ) throws(Errno) -> Int {
        try called("read")
        let file = try file(descriptor)
        let end = min(offset + count, file.size)
        var position = offset
        while position < end {
            let index = position / Self.pageCount
            let from = position % Self.pageCount
            let step = min(end - position, Self.pageCount - from)
            let target = buffer + (position - offset)
            if let page = file.pages[index] {
                page.withUnsafeBytes { if let base = $0.baseAddress { memcpy(target, base + from, step) } }
            } else {
                memset(target, 0, step)
            }
            position += step
        }
        return max(0, end - offset)
    }

    override func write(
        _ descriptor: Int32, _ buffer: UnsafeRawPointer, count: Int, at offset: Int
    ) throws(Errno) {
        (lastWritten, lastCount) = (descriptor, count)
        if let torn = onTear?(count, offset) {
            writeNow(try file(descriptor), buffer, min(torn, count), offset)
            throw .interrupted
        }
        var part: Int?
        do throws(Errno) {
            try onCall?("write", &part)
        } catch {
            if let part { writeNow(try file(descriptor), buffer, min(part, count), offset) }
            throw error
        }
        onChange?()
        writeNow(try file(descriptor), buffer, count, offset)
    }

    private func writeNow(_ file: File, _ buffer: UnsafeRawPointer, _ count: Int, _ offset: Int) {
        change(file, offset, offset + count) { page, from, step, position in
            page.withUnsafeMutableBytes {
                if let base = $0.baseAddress { memcpy(base + from, buffer + (position - offset), step) }
            }
        }
        if offset + count > file.size { file.setSize(offset + count) }
    }

    private func change(
        _ file: File, _ start: Int, _ end: Int, _ body: (inout [UInt8], Int, Int, Int) -> Void
    ) {
        var position = start
        while position < end {
            let from = position % Self.pageCount
            let step = min(end - position, Self.pageCount - from)
            var page = file.page(position / Self.pageCount)
            body(&page, from, step, position)
            file.put(position / Self.pageCount, page)
            position += step
        }
    }

    private func zero(_ file: File, _ start: Int, _ end: Int) {
        change(file, start, end) { page, from, step, _ in
            page.withUnsafeMutableBytes { if let base = $0.baseAddress { memset(base + from, 0, step) } }
        }
    }

    override func truncate(_ descriptor: Int32, to size: Int) throws(Errno) {
        try called("truncate")
        onChange?()
        let file = try file(descriptor)
        if size < file.size { zero(file, size, file.size) }
        file.setSize(size)
    }

    override func allocate(_ descriptor: Int32, mode: Int32, offset: Int, length: Int) throws(Errno) {
        try called("allocate")
        onChange?()
        let file = try file(descriptor)
        if mode & 2 != 0 { zero(file, offset, min(offset + length, file.size)) }
        if mode & 1 == 0, offset + length > file.size { file.setSize(offset + length) }
    }

    override func sync(_ descriptor: Int32, dataOnly: Bool = false) throws(Errno) {
        lastSynced = descriptor
        do throws(Errno) {
            try called("sync")
        } catch {
            if losesWhatItCannotSync {
                hasLost = true
                try file(descriptor).failSync()
            }
            throw error
        }
        onSync?(descriptor)
        onChange?()
        try file(descriptor).sync()
    }

    override func syncFileSystem(_ descriptor: Int32) throws(Errno) {
        do throws(Errno) {
            try called("syncfs")
        } catch {
            if losesWhatItCannotSync {
                hasLost = true
                for file in files.values { file.failSync() }
            }
            throw error
        }
        onChange?()
        for file in files.values { file.sync() }
    }

    override func status(_ descriptor: Int32) throws(Errno) -> stat {
        if descriptor == Self.root { return stat() }
        return status(try file(descriptor))
    }

    override func fileSystemStatus(_ descriptor: Int32) throws(Errno) -> statvfs {
        var status = statvfs()
        status.f_frsize = 4096
        status.f_bavail = 1 << 30
        return status
    }

    override func status(at directory: Int32, _ name: UnsafePointer<CChar>) throws(Errno) -> stat {
        guard let file = files[String(cString: name)] else { throw .noSuchFileOrDirectory }
        return status(file)
    }

    private func status(_ file: File) -> stat {
        var status = stat()
        status.st_size = file.size
        status.st_ino = file.number
        status.st_mode = S_IFREG | 0o600
        return status
    }

    override func setTimes(_ descriptor: Int32, access: timespec, modification: timespec) throws(Errno) {
        try called("utimens")
    }

    override func nextData(_ descriptor: Int32, from offset: Int) throws(Errno) -> Int? {
        try called("lseek")
        try called("utimens")
        let file = try file(descriptor)
        if offset >= file.size { return nil }
        let next = file.pages.keys.filter { ($0 + 1) * Self.pageCount > offset }.min()
        guard let next, next * Self.pageCount < file.size else { return nil }
        return max(offset, next * Self.pageCount)
    }
}
