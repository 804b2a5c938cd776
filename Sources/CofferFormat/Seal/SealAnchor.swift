import CofferCrypto

/// A seal on paper: enough to tell whether a copy is that state or a newer one, on a machine that knows nothing of the vault.
///
///     4 bits version (0) ‖ counter 40, big-endian ‖ the first 12 bytes of the root's hash        7 groups of 5 characters
public struct SealAnchor: Equatable, Sendable {
    /// Why a text is no anchor.
    public enum Problem: Error, Equatable, Sendable {
        /// So many groups, not seven.
        case count(Int)
        /// This group, from 1, is not what was written down.
        case group(Int)
        /// It is a code of another kind.
        case kind
    }

    private static let groupCount = 7
    private static let version: UInt8 = 0
    private static let rootCount = 12

    /// The seal's counter.
    public let counter: UInt64
    /// The first 12 bytes of its root's hash.
    public let root: [UInt8]

    /// The anchor of a seal.
    public init(_ head: SealHead) {
        counter = head.counter
        root = Array(head.root[..<Self.rootCount])
    }

    /// The anchor that somebody wrote down.
    public init(_ text: String) throws(Problem) {
        let bytes: [UInt8]
        do throws(CheckedGroups.Problem) {
            bytes = try CheckedGroups.bytes(Array(text.utf8), count: Self.groupCount, version: Self.version)
        } catch {
            switch error {
            case .count(let found, _): throw .count(found)
            case .group(let number): throw .group(number)
            case .version: throw .kind
            }
        }
        counter = bytes[..<5].reduce(0) { $0 << 8 | UInt64($1) }
        root = Array(bytes[5...])
    }

    /// The text: `XXXXX-XXXXX-…`.
    public var text: String {
        let number = (0..<5).map { UInt8(truncatingIfNeeded: counter >> (32 - 8 * $0)) }
        return CheckedGroups.text(CheckedGroups.groups(number + root, after: UInt64(Self.version), bits: 4))
    }

    /// Whether a seal is the one that was written down.
    public func isOf(_ head: SealHead) -> Bool { head.counter == counter && head.root.starts(with: root) }
}
