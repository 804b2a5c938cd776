import CofferCrypto
import CofferDisk
import CofferFormat
import Foundation
import Glibc
import Logging
import Synchronization
import SystemPackage

@testable import CofferMount
@testable import CofferVault

/// A vault that this process itself has mounted, so that its calls to the system can be made to fail.
final class FaultMount {
    /// What did not end in time, or ended wrong.
    struct Wrong: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }

    /// What the driver has logged.
    final class Lines: Sendable {
        private let lines = Mutex<[String]>([])

        func add(_ line: String) { lines.withLock { $0.append(line) } }
        var all: [String] { lines.withLock { $0 } }
        /// A call that fails is no damage, and must never be told as such.
        var damage: [String] { all.filter { $0.hasPrefix("damaged") } }
    }

    private struct Handler: LogHandler {
        let lines: Lines
        var logLevel: Logger.Level = .info
        var metadata: Logger.Metadata = [:]

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) { lines.add("\(event.message)") }
    }

    private final class Ending: Sendable {
        let isReady = DispatchSemaphore(value: 0)
        let isOver = DispatchSemaphore(value: 0)
        let failure = Mutex<MountError?>(nil)
    }

    /// Seconds that anything may take.
    static let patience = 30
    /// libfuse's umount2(2) flag that ends the connection: whoever waits for the driver gets an error.
    private static let force: Int32 = 1

    /// A driver leaves the descriptors of directories to the end of its process, and this one serves many mounts: so it has few, which also makes it close some.
    private static let descriptorLimit = 64

    let path: String
    let lines = Lines()
    /// Why there is no intent log.
    let trouble: VaultError?
    /// What was recovered.
    let report: LogRecovery.Report?
    private let ending = Ending()
    private var isMounted = true

    /// Mounts `home`/vault on `home`/mount.
    init(_ home: String, disk: Disk) throws {
        path = "\(home)/mount"
        let source = "\(home)/vault"
        let root = Glibc.open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard root >= 0 else { throw Errno(rawValue: errno) }
        let ring: KeyRing
        let opening: LogDirectory.Opening
        do {
            ring = try KeyRing(keys: [0: try SecretKey(copying: (0..<32).map { UInt8($0) &* 7 })])
            opening = try LogDirectory.open(
                disk: disk, ring: ring, rootDescriptor: root, cipher: .aes256GCM, capacity: 3 << 20,
                scratch: try Scratch())
        } catch {
            close(root)
            throw error
        }
        (trouble, report) = (opening.trouble, opening.report)
        let vault = Vault(
            disk: disk, rootDescriptor: root, ring: ring, vaultID: Array(0..<16), cipher: .aes256GCM, nameMax: 255,
            log: opening.directory?.log)
        let lines = lines
        let session: Session
        do {
            session = try Session(
                vault: vault, intents: opening.directory, options: MountOptions(source: source, mountpoint: path),
                logger: Logger(label: "coffer") { _ in Handler(lines: lines) }, descriptorLimit: Self.descriptorLimit)
        } catch {
            // As the command does.
            do { try opening.directory?.close() } catch { lines.add("left: \(error)") }
            throw error
        }
        let ending = ending
        Thread {
            do throws(MountError) {
                try session.run { ending.isReady.signal() }
            } catch {
                ending.failure.withLock { $0 = error }
            }
            ending.isOver.signal()
        }.start()
        guard ending.isReady.wait(timeout: .now() + .seconds(Self.patience)) == .success else {
            abort()
            throw Wrong("the mount was not ready in time: \(String(describing: ending.failure.withLock { $0 }))")
        }
    }

    deinit {
        if isMounted { abort() }
    }

    /// Unmounts and waits for the driver's end.
    func unmount() throws {
        // A program that another test starts has all descriptors for a moment.
        var isDetached = false
        for _ in 0..<500 where !isDetached {
            isDetached = Unmounting.detach(path, lazily: false)
            if !isDetached { usleep(10_000) }
        }
        guard isDetached else {
            abort()
            throw Wrong("the mount stays busy")
        }
        isMounted = false
        guard ending.isOver.wait(timeout: .now() + .seconds(Self.patience)) == .success else {
            throw Wrong("the driver does not end")
        }
        if let failure = ending.failure.withLock({ $0 }) { throw failure }
    }

    /// Ends the connection, so that whoever waits for the driver gets an error, and the mount.
    func abort() {
        if geteuid() == 0 { _ = umount2(path, Self.force) }
        _ = Unmounting.detach(path, lazily: true)
        isMounted = false
    }
}

/// Ends a mount on which something takes too long: a system call that waits for the driver can be freed in no other way.
final class FaultWatch: Sendable {
    private let path: String
    private let deadline = Atomic<Int>(0)
    private let hasHung = Atomic<Bool>(false)
    private let isStopped = Atomic<Bool>(false)

    init(_ mount: FaultMount) {
        path = mount.path
        Thread { [self] in
            while !isStopped.load(ordering: .acquiring) {
                usleep(100_000)
                let end = deadline.load(ordering: .acquiring)
                if end == 0 || time(nil) < end { continue }
                hasHung.store(true, ordering: .releasing)
                if geteuid() == 0 { _ = umount2(path, 1) }
                _ = Unmounting.detach(path, lazily: true)
                return
            }
        }.start()
    }

    /// Runs what must end in time.
    func timing<Result>(_ what: String, _ body: () throws -> Result) throws -> Result {
        deadline.store(time(nil) + FaultMount.patience, ordering: .releasing)
        defer { deadline.store(0, ordering: .releasing) }
        let result = Swift.Result { try body() }
        if hasHung.load(ordering: .acquiring) { throw FaultMount.Wrong("\(what) hung") }
        return try result.get()
    }

    /// Whether something took too long, and the mount is gone.
    var isOver: Bool { hasHung.load(ordering: .acquiring) }

    /// Ends the watch.
    func stop() { isStopped.store(true, ordering: .releasing) }
}
