import CFuse
import CofferFormat
import CofferVault
import Glibc

/// libfuse's values in Coffer's terms, and replies.
enum FuseRequest {
    /// The mounted file system that a request is for.
    @inline(__always)
    static func fileSystem(_ request: fuse_req_t?) -> FileSystem {
        guard let pointer = fuse_req_userdata(request) else { preconditionFailure("a request without a file system") }
        let fileSystem = Unmanaged<FileSystem>.fromOpaque(pointer).takeUnretainedValue()
        fileSystem.requests.add(1, ordering: .relaxed)
        return fileSystem
    }

    /// As ``fileSystem(_:)``, lent without counting references.
    @inline(__always)
    static func withFileSystem(_ request: fuse_req_t?, _ body: (FileSystem) -> Void) {
        guard let pointer = fuse_req_userdata(request) else { preconditionFailure("a request without a file system") }
        Unmanaged<FileSystem>.fromOpaque(pointer)._withUnsafeGuaranteedRef { fileSystem in
            fileSystem.requests.add(1, ordering: .relaxed)
            body(fileSystem)
        }
    }

    /// A C string's bytes.
    static func bytes(_ text: UnsafePointer<CChar>?) -> [UInt8] {
        guard let text else { return [] }
        return Array(UnsafeRawBufferPointer(start: text, count: strlen(text)))
    }

    /// Who asks.
    static func caller(_ request: fuse_req_t?) -> FileSystem.Caller {
        guard let context = fuse_req_ctx(request) else { return FileSystem.Caller(user: 0, group: 0, mask: 0) }
        return FileSystem.Caller(
            user: context.pointee.uid, group: context.pointee.gid, mask: context.pointee.umask)
    }

    /// Whether the caller is in a group, or may do what takes that all the same.
    static func belongs(_ request: fuse_req_t?, to group: gid_t) -> Bool {
        guard let context = fuse_req_ctx(request) else { return false }
        if context.pointee.uid == 0 || context.pointee.gid == group { return true }
        let count = fuse_req_getgroups(request, 0, nil)
        guard count > 0 else { return false }
        var groups = [gid_t](repeating: 0, count: Int(count))
        let got = fuse_req_getgroups(request, count, &groups)
        return groups.prefix(Int(max(0, min(got, count)))).contains(group)
    }

    /// Answers with an error, or success where it is 0.
    @inline(__always)
    static func reply(_ request: fuse_req_t?, error: Int32) {
        fuse_reply_err(request, error)
    }

    /// An entry as libfuse wants it. A zero node id means that there is none, which the kernel may believe as long as any answer.
    static func entry(_ found: FileSystem.Found?, _ fileSystem: FileSystem) -> fuse_entry_param {
        var entry = fuse_entry_param()
        entry.entry_timeout = fileSystem.timeout
        entry.attr_timeout = fileSystem.timeout
        if let found {
            entry.ino = found.nodeID
            entry.attr = found.status
        }
        return entry
    }

    /// Answers with an entry. Where the kernel did not take it (the caller was interrupted), the look-up is taken back.
    static func reply(_ request: fuse_req_t?, _ found: FileSystem.Found?, _ fileSystem: FileSystem) {
        var entry = entry(found, fileSystem)
        if fuse_reply_entry(request, &entry) != 0, let found {
            fileSystem.forget(fileSystem.table.inode(found.nodeID), 1)
        }
    }

    /// Answers with bytes.
    static func reply(_ request: fuse_req_t?, _ bytes: [UInt8]) {
        bytes.withUnsafeBytes { _ = coffer_reply_bytes(request, $0.baseAddress, $0.count) }
    }

    /// Runs a request's body and answers its error, told of damage at `inode`.
    @inline(__always)
    static func run(
        _ request: fuse_req_t?, _ fileSystem: FileSystem, _ inode: Inode, name: [UInt8]? = nil,
        _ body: () throws(VaultError) -> Void
    ) {
        do throws(VaultError) {
            try body()
        } catch {
            reply(request, error: fileSystem.report(error, inode, name: name))
        }
    }

    /// A handle that a request brings back.
    @inline(__always)
    static func file(_ info: UnsafeMutablePointer<fuse_file_info>?) -> Unmanaged<FileHandle>? {
        info.flatMap { UnsafeRawPointer(bitPattern: UInt($0.pointee.fh)) }.map { Unmanaged.fromOpaque($0) }
    }

    /// A directory handle that a request brings back.
    @inline(__always)
    static func directory(_ info: UnsafeMutablePointer<fuse_file_info>?) -> Unmanaged<DirectoryHandle>? {
        info.flatMap { UnsafeRawPointer(bitPattern: UInt($0.pointee.fh)) }.map { Unmanaged.fromOpaque($0) }
    }
}
