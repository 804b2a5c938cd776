import SystemPackage

/// The same calls over byte arrays, for what is small and not a block.
extension Disk {
    /// Writes all of `bytes`, at the file's beginning unless told otherwise.
    public func write(_ descriptor: Int32, bytes: [UInt8], at offset: Int = 0) throws(Errno) {
        try bytes.withUnsafeBytes { buffer -> Result<Void, Errno> in
            guard let base = buffer.baseAddress else { return .success(()) }
            return Result { () throws(Errno) in try write(descriptor, base, count: buffer.count, at: offset) }
        }.get()
    }

    /// Whether there is an entry of this name.
    public func isThere(_ name: UnsafePointer<CChar>, at directory: Int32) throws(Errno) -> Bool {
        do throws(Errno) {
            _ = try status(at: directory, name)
            return true
        } catch {
            if error == .noSuchFileOrDirectory { return false }
            throw error
        }
    }

    /// At most `limit` bytes, the file's first ones unless told otherwise.
    public func readBytes(_ descriptor: Int32, limit: Int, at offset: Int = 0) throws(Errno) -> [UInt8] {
        try bytes(room: limit) { buffer throws(Errno) in
            guard let base = buffer.baseAddress else { return 0 }
            return try read(descriptor, into: base, count: buffer.count, at: offset)
        }
    }

    /// The text of a symbolic link.
    public func linkBytes(at directory: Int32, _ name: UnsafePointer<CChar>) throws(Errno) -> [UInt8] {
        try bytes(room: 4096) { buffer throws(Errno) in
            try readLink(at: directory, name, into: buffer.bindMemory(to: CChar.self))
        }
    }

    /// The value of an extended attribute, at most `limit` bytes.
    public func attributeBytes(
        _ descriptor: Int32, _ name: UnsafePointer<CChar>, limit: Int
    ) throws(Errno) -> [UInt8] {
        try bytes(room: limit) { buffer throws(Errno) in try attribute(descriptor, name, into: buffer) }
    }

    /// The list of NUL-terminated attribute names, at most `limit` bytes.
    public func attributeListBytes(_ descriptor: Int32, limit: Int) throws(Errno) -> [UInt8] {
        // Most have none, and then neither the kernel nor anybody here needs room for them.
        let count = try listAttributes(descriptor, into: UnsafeMutableBufferPointer(start: nil, count: 0))
        if count == 0 { return [] }
        for room in [min(limit, count), limit] {
            do throws(Errno) {
                return try bytes(room: room) { buffer throws(Errno) in
                    try listAttributes(descriptor, into: buffer.bindMemory(to: CChar.self))
                }
            } catch {
                // More by now.
                guard error == .outOfRange, room < limit else { throw error }
            }
        }
        throw .outOfRange
    }

    /// Sets an extended attribute.
    public func setAttribute(
        _ descriptor: Int32, _ name: UnsafePointer<CChar>, bytes: [UInt8], flags: Int32
    ) throws(Errno) {
        try bytes.withUnsafeBytes { buffer -> Result<Void, Errno> in
            Result { () throws(Errno) in try setAttribute(descriptor, name, buffer, flags: flags) }
        }.get()
    }

    /// What `body` puts into a buffer of `room` bytes.
    private func bytes(
        room: Int, _ body: (UnsafeMutableRawBufferPointer) throws(Errno) -> Int
    ) throws(Errno) -> [UInt8] {
        var failure: Errno?
        let bytes = [UInt8](unsafeUninitializedCapacity: room) { buffer, count in
            do throws(Errno) {
                count = try body(UnsafeMutableRawBufferPointer(buffer))
            } catch {
                failure = error
                count = 0
            }
        }
        if let failure { throw failure }
        return bytes
    }
}
