import CofferFormat
import CofferVault
import Logging
import Synchronization

/// What a person is told about damage: one line for each damaged thing, with the path they know and the one on disk.
final class MountLog: Sendable {
    /// Things that were told already. Bounded, so that a vault full of damage does not fill memory; what is forgotten may be told again.
    private static let limit = 10_000

    private let logger: Logger
    private let told = Mutex<Set<String>>([])

    init(_ logger: Logger) {
        self.logger = logger
    }

    /// Damage met at a path.
    func damage(_ damage: Damage, plain: String, stored: String) {
        let place = damage.block.map { ", block \($0)" } ?? ""
        once("\(stored)\(damage.kind.rawValue)\(place)") {
            logger.error("damaged: '\(plain)' (\(damage.kind.rawValue)\(place)), stored as '\(stored)'")
        }
    }

    /// A name that does not verify in its directory.
    func unreadableName(plain: String, stored: String) {
        once(stored) {
            logger.error("damaged: '\(plain)' (name does not verify in this directory), stored as '\(stored)'")
        }
    }

    /// Anything else that a person should know.
    func warning(_ message: String) {
        logger.warning("\(message)")
    }

    /// What happened, without alarm.
    func notice(_ message: String) {
        logger.notice("\(message)")
    }

    private func once(_ key: String, _ body: () -> Void) {
        let isNew = told.withLock { told in
            if told.count >= Self.limit { told.removeAll() }
            return told.insert(key).inserted
        }
        if isNew { body() }
    }
}
