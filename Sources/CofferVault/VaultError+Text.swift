import CofferFormat

extension Damage: CustomStringConvertible {
    /// What is wrong and where: the end of a line that began with the file's name.
    public var description: String {
        guard let block else { return kind.rawValue }
        return "\(kind.rawValue), block \(block) at byte \(block * BlockGeometry.plainCount)"
    }
}
