import Foundation
import Synchronization

@testable import CofferVault

/// Runs `body` on threads of their own and throws what the first of them threw.
func run(threads: Int, _ body: @escaping @Sendable (Int, Scratch) throws -> Void) throws {
    let failures = Mutex<[any Error]>([])
    let group = DispatchGroup()
    for index in 0..<threads {
        group.enter()
        let thread = Thread {
            do {
                try body(index, try Scratch())
            } catch {
                failures.withLock { $0.append(error) }
            }
            group.leave()
        }
        thread.stackSize = 1 << 20
        thread.start()
    }
    group.wait()
    if let failure = failures.withLock({ $0.first }) { throw failure }
}
