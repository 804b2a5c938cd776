import CofferCrypto
import CofferVault
import Glibc
import Synchronization

/// What must happen though no request asks for it: permissions taken back within a second, and the end of a mount that nobody uses.
final class Maintenance: Sendable {
    private let fileSystem: FileSystem
    private let idleSeconds: Int?
    private let onIdle: @Sendable () -> Void
    private let isStopped = Atomic<Bool>(false)

    init(fileSystem: FileSystem, idleSeconds: Int?, onIdle: @escaping @Sendable () -> Void) {
        self.fileSystem = fileSystem
        self.idleSeconds = idleSeconds
        self.onIdle = onIdle
    }

    /// Runs until `stop`.
    func run() {
        let scratch: Scratch
        do throws(CryptoError) {
            scratch = try Scratch()
        } catch {
            fileSystem.log.warning("no memory for upkeep")
            return
        }
        var seen = -1
        var quietTicks = 0
        let ticksPerSecond = 4
        var tick = 0
        while !isStopped.load(ordering: .acquiring) {
            usleep(UInt32(1_000_000 / ticksPerSecond))
            tick += 1
            if tick % 2 == 0 {
                fileSystem.settleAll(scratch)
                fileSystem.retryUndone()
            }
            guard let idleSeconds else { continue }
            let now = fileSystem.requests.load(ordering: .relaxed)
            quietTicks = now == seen && fileSystem.handles.load(ordering: .relaxed) == 0 ? quietTicks + 1 : 0
            seen = now
            if quietTicks >= idleSeconds * ticksPerSecond {
                quietTicks = 0
                onIdle()
            }
        }
    }

    /// Ends `run` within a tick.
    func stop() {
        isStopped.store(true, ordering: .releasing)
    }
}
