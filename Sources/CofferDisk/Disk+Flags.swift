import CLinux
import Glibc
import SystemPackage

/// Flags of open(2) that Swift's C library module does not offer.
extension Disk {
    /// `O_PATH`: a descriptor that only names its object, for which no permission on the object is needed.
    public static let pathOnly: Int32 = COFFER_O_PATH
    /// `O_NOATIME`.
    private static let noAccessTime: Int32 = COFFER_O_NOATIME

    /// As ``open(at:_:flags:mode:)`` for what is there; with `withoutAccessTime` reading leaves no trace, where the object is this user's own.
    public func open(
        at directory: Int32, _ name: UnsafePointer<CChar>, flags: Int32, withoutAccessTime: Bool
    ) throws(Errno) -> Int32 {
        if withoutAccessTime {
            do throws(Errno) {
                return try open(at: directory, name, flags: flags | Self.noAccessTime)
            } catch {
                guard error == .notPermitted else { throw error }
            }
        }
        return try open(at: directory, name, flags: flags)
    }

    /// As ``reopen(_:flags:)``, likewise.
    public func reopen(_ descriptor: Int32, flags: Int32, withoutAccessTime: Bool) throws(Errno) -> Int32 {
        if withoutAccessTime {
            do throws(Errno) {
                return try reopen(descriptor, flags: flags | Self.noAccessTime)
            } catch {
                guard error == .notPermitted else { throw error }
            }
        }
        return try reopen(descriptor, flags: flags)
    }

    /// Reads a byte for the time of access's sake, also where reading by this descriptor leaves no trace otherwise. Whether the time changes is the mount's to say.
    public func noteAccess(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer) throws(Errno) {
        let flags = try check { coffer_fcntl_int(descriptor, F_GETFL, 0) }
        let isQuiet = flags & COFFER_O_NOATIME != 0
        if isQuiet { try check { coffer_fcntl_int(descriptor, F_SETFL, flags & ~COFFER_O_NOATIME) } }
        let read: Result<Int, Errno> = Result { () throws(Errno) in
            try self.read(descriptor, into: buffer, count: 1, at: 0)
        }
        if isQuiet { try check { coffer_fcntl_int(descriptor, F_SETFL, flags) } }
        _ = try read.get()
    }
}
