import CLinux

/// Flags of open(2) that Swift's C library module does not offer.
extension Disk {
    /// `O_PATH`: a descriptor that only names its object, for which no permission on the object is needed.
    public static let pathOnly: Int32 = COFFER_O_PATH
}
