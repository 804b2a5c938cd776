import CofferDisk
import Glibc
import SystemPackage

/// A real disk on which one call, or every one from some call on, fails. One thread's.
final class CallFailingDisk: Disk, @unchecked Sendable {
    /// Which calls fail, and how; nil for none.
    struct Fault {
        let call: Int
        let lasts: Bool
        let code: Errno
    }

    var fault: Fault? {
        didSet { calls = 0 }
    }
    private(set) var calls = 0

    private func called() throws(Errno) {
        calls += 1
        if let fault, fault.lasts ? calls >= fault.call : calls == fault.call { throw fault.code }
    }

    override func open(
        at directory: Int32, _ name: UnsafePointer<CChar>, flags: Int32, mode: mode_t = 0
    ) throws(Errno) -> Int32 {
        try called()
        return try super.open(at: directory, name, flags: flags, mode: mode)
    }
    override func reopen(_ descriptor: Int32, flags: Int32) throws(Errno) -> Int32 {
        try called()
        return try super.reopen(descriptor, flags: flags)
    }
    override func duplicate(_ descriptor: Int32) throws(Errno) -> Int32 {
        try called()
        return try super.duplicate(descriptor)
    }
    override func read(
        _ descriptor: Int32, into buffer: UnsafeMutableRawPointer, count: Int, at offset: Int
    ) throws(Errno) -> Int {
        try called()
        return try super.read(descriptor, into: buffer, count: count, at: offset)
    }
    override func write(
        _ descriptor: Int32, _ buffer: UnsafeRawPointer, count: Int, at offset: Int
    ) throws(Errno) {
        try called()
        try super.write(descriptor, buffer, count: count, at: offset)
    }
    override func sync(_ descriptor: Int32, dataOnly: Bool = false) throws(Errno) {
        try called()
        try super.sync(descriptor, dataOnly: dataOnly)
    }
    override func syncFileSystem(_ descriptor: Int32) throws(Errno) {
        try called()
        try super.syncFileSystem(descriptor)
    }
    override func status(_ descriptor: Int32) throws(Errno) -> stat {
        try called()
        return try super.status(descriptor)
    }
    override func status(at directory: Int32, _ name: UnsafePointer<CChar>) throws(Errno) -> stat {
        try called()
        return try super.status(at: directory, name)
    }
    override func setMode(_ descriptor: Int32, _ mode: mode_t) throws(Errno) {
        try called()
        try super.setMode(descriptor, mode)
    }
    override func setTimes(_ descriptor: Int32, access: timespec, modification: timespec) throws(Errno) {
        try called()
        try super.setTimes(descriptor, access: access, modification: modification)
    }
    override func makeDirectory(at directory: Int32, _ name: UnsafePointer<CChar>, mode: mode_t) throws(Errno) {
        try called()
        try super.makeDirectory(at: directory, name, mode: mode)
    }
    override func makeLink(
        at directory: Int32, _ name: UnsafePointer<CChar>, target: UnsafePointer<CChar>
    ) throws(Errno) {
        try called()
        try super.makeLink(at: directory, name, target: target)
    }
    override func hardLink(
        from source: Int32, _ name: UnsafePointer<CChar>, to target: Int32, _ newName: UnsafePointer<CChar>
    ) throws(Errno) {
        try called()
        try super.hardLink(from: source, name, to: target, newName)
    }
    override func rename(
        from source: Int32, _ name: UnsafePointer<CChar>, to target: Int32, _ newName: UnsafePointer<CChar>,
        mode: RenameMode = .replace
    ) throws(Errno) {
        try called()
        try super.rename(from: source, name, to: target, newName, mode: mode)
    }
    override func remove(at parent: Int32, _ name: UnsafePointer<CChar>, directory: Bool = false) throws(Errno) {
        try called()
        try super.remove(at: parent, name, directory: directory)
    }
    override func readLink(
        at directory: Int32, _ name: UnsafePointer<CChar>, into buffer: UnsafeMutableBufferPointer<CChar>
    ) throws(Errno) -> Int {
        try called()
        return try super.readLink(at: directory, name, into: buffer)
    }
    override func readDirectory(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) throws(Errno) -> Int {
        try called()
        return try super.readDirectory(descriptor, into: buffer)
    }
    override func attribute(
        _ descriptor: Int32, _ name: UnsafePointer<CChar>, into buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int {
        try called()
        return try super.attribute(descriptor, name, into: buffer)
    }
    override func setAttribute(
        _ descriptor: Int32, _ name: UnsafePointer<CChar>, _ value: UnsafeRawBufferPointer, flags: Int32
    ) throws(Errno) {
        try called()
        try super.setAttribute(descriptor, name, value, flags: flags)
    }
    override func listAttributes(
        _ descriptor: Int32, into buffer: UnsafeMutableBufferPointer<CChar>
    ) throws(Errno) -> Int {
        try called()
        return try super.listAttributes(descriptor, into: buffer)
    }
    override func removeAttribute(_ descriptor: Int32, _ name: UnsafePointer<CChar>) throws(Errno) {
        try called()
        try super.removeAttribute(descriptor, name)
    }
}
