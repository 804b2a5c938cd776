import CofferDisk
import CofferFormat
import Glibc
import SystemPackage
import Testing

@testable import CofferKeys

/// Reading, making and replacing coffer.json.
struct ConfigStoreTests {
    private let directory: TemporaryDirectory
    private let store: ConfigStore
    private let vault: TestVault

    init() throws {
        directory = try TemporaryDirectory()
        store = ConfigStore(disk: Disk(), directory: directory.descriptor)
        vault = try TestVault()
    }

    @Test func makesAndLoads() throws {
        try store.create(vault.made.file)
        #expect(directory.names == ["coffer.json"])
        #expect(directory.contents("coffer.json") == vault.made.file.bytes)
        #expect(try store.load() == vault.made.file)
        var status = stat()
        stat(directory.path + "/coffer.json", &status)
        #expect(status.st_mode & 0o777 == 0o600)
    }

    @Test func refusesWhatIsNotEmpty() throws {
        directory.put("letter", [])
        #expect(throws: KeysError.notEmpty("letter")) { try store.create(vault.made.file) }
        #expect(directory.names == ["letter"])
        unlink(directory.path + "/letter")
        // What a new file system has and what an interrupted attempt left are nothing.
        mkdir(directory.path + "/lost+found", 0o700)
        directory.put(ConfigStore.newName, [1, 2, 3])
        try store.create(vault.made.file)
        #expect(directory.names == ["coffer.json", "lost+found"])
        #expect(throws: KeysError.alreadyAVault) { try store.create(try TestVault().made.file) }
        #expect(try store.load() == vault.made.file)
    }

    @Test func tellsWhatIsNotAVault() throws {
        #expect(throws: KeysError.notAVault) { try store.load() }
        directory.put(ConfigStore.previousName, vault.made.file.bytes)
        #expect(throws: KeysError.onlyOtherConfig(ConfigStore.previousName)) { try store.load() }
        directory.put(ConfigFile.name, [UInt8](repeating: 0x20, count: 1 << 20 + 5))
        #expect(throws: KeysError.config(.tooLarge)) { try store.load() }
        directory.put(ConfigFile.name, [])
        #expect(throws: KeysError.self) { try store.load() }
    }

    @Test func doesNotFollowOrHang() throws {
        directory.put("elsewhere", vault.made.file.bytes)
        symlink("elsewhere", directory.path + "/coffer.json")
        #expect(throws: KeysError.self) { try store.load() }
        unlink(directory.path + "/coffer.json")
        mkfifo(directory.path + "/coffer.json", 0o600)
        #expect(throws: KeysError.self) { try store.load() }
        unlink(directory.path + "/coffer.json")
        mkdir(directory.path + "/coffer.json", 0o700)
        #expect(throws: KeysError.self) { try store.load() }
    }

    @Test func replaces() throws {
        try store.create(vault.made.file)
        let second = try vault.sealed { $0.counter = 2 }
        try store.replace(vault.made.file, with: second)
        #expect(directory.names == ["coffer.json", "coffer.json.previous"])
        #expect(directory.contents("coffer.json") == second.bytes)
        #expect(directory.contents("coffer.json.previous") == vault.made.file.bytes)
        #expect(throws: KeysError.changedMeanwhile) { try store.replace(vault.made.file, with: second) }
        // A removed slot must not stay anywhere.
        let third = try vault.sealed { $0.counter = 3 }
        try store.replace(second, with: third, keepingOld: false)
        #expect(directory.contents("coffer.json") == third.bytes)
        #expect(directory.contents("coffer.json.previous") == third.bytes)
        #expect(directory.names.count == 2)
    }

    /// A disk that stops after a number of calls that change something, as a power cut or a full disk would.
    private final class FailingDisk: Disk, @unchecked Sendable {
        private var left: Int

        init(after count: Int) {
            left = count
        }

        private func step() throws(Errno) {
            if left == 0 { throw Errno.noSpace }
            left -= 1
        }

        override func write(
            _ descriptor: Int32, _ buffer: UnsafeRawPointer, count: Int, at offset: Int
        ) throws(Errno) {
            do throws(Errno) {
                try step()
            } catch {
                // Half of it arrives.
                try super.write(descriptor, buffer, count: count / 2, at: offset)
                throw error
            }
            try super.write(descriptor, buffer, count: count, at: offset)
        }

        override func sync(_ descriptor: Int32, dataOnly: Bool) throws(Errno) {
            try step()
            try super.sync(descriptor, dataOnly: dataOnly)
        }

        override func rename(
            from source: Int32, _ name: UnsafePointer<CChar>, to target: Int32, _ newName: UnsafePointer<CChar>,
            mode: Disk.RenameMode
        ) throws(Errno) {
            try step()
            try super.rename(from: source, name, to: target, newName, mode: mode)
        }

        override func remove(at parent: Int32, _ name: UnsafePointer<CChar>, directory: Bool) throws(Errno) {
            try step()
            try super.remove(at: parent, name, directory: directory)
        }
    }

    /// Wherever a change stops, coffer.json is the whole old or the whole new one, and the change can be made again.
    @Test func stoppingAnywhereLeavesOldOrNew() throws {
        let second = try vault.sealed { $0.counter = 2 }
        for keepingOld in [true, false] {
            var finished = false
            for count in 0..<20 where !finished {
                let directory = try TemporaryDirectory()
                let sound = ConfigStore(disk: Disk(), directory: directory.descriptor)
                try sound.create(vault.made.file)
                let failing = ConfigStore(disk: FailingDisk(after: count), directory: directory.descriptor)
                do {
                    try failing.replace(vault.made.file, with: second, keepingOld: keepingOld)
                    finished = true
                } catch {
                    // What is told is true: nothing was changed, or it was and may not stay.
                    let isChanged = try sound.load() == second
                    let deed =
                        isChanged
                        ? "make sure that the change, which was made, stays after a power cut" : "write coffer.json"
                    #expect(error == .system(deed, .noSpace))
                }
                let found = try sound.load()
                #expect(found == vault.made.file || found == second)
                // What is to be removed is not left in the version before.
                if found == second, !keepingOld {
                    #expect(directory.contents(ConfigStore.previousName) == second.bytes)
                }
                if found == vault.made.file { try sound.replace(found, with: second, keepingOld: keepingOld) }
                #expect(try sound.load() == second)
            }
            #expect(finished)
        }
    }

    @Test func stoppingWhileMakingLeavesNothingOrAll() throws {
        var finished = false
        for count in 0..<10 where !finished {
            let directory = try TemporaryDirectory()
            let failing = ConfigStore(disk: FailingDisk(after: count), directory: directory.descriptor)
            do {
                try failing.create(vault.made.file)
                finished = true
            } catch {
                #expect(error == .system("write coffer.json", .noSpace))
            }
            let sound = ConfigStore(disk: Disk(), directory: directory.descriptor)
            if directory.names.contains("coffer.json") {
                #expect(try sound.load() == vault.made.file)
            } else {
                try sound.create(vault.made.file)
            }
        }
        #expect(finished)
    }
}
