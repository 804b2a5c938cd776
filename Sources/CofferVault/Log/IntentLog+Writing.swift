import CofferDisk
import CofferFormat
import Glibc
import SystemPackage

/// Appending, waiting, ending.
extension IntentLog {
    /// Appends what is about to be done to `file`, whose header is `header`; nil where the file has no name any more, so that nothing needs to be recovered.
    /// The payload is the last record's. The segment will have room for
    /// `reserving` more bytes. With `growingFrom`, blocks will be added beyond that ciphertext size without a record of theirs. With `order`, nil
    /// also where the active segment is another. From here until `end` the segment stays.
    func append(
        _ records: [LogRecord], payload: UnsafeRawBufferPointer? = nil, growingFrom: Int? = nil,
        for file: LoggedFile, header: [UInt8], reserving: Int = 0, within order: UInt64? = nil
    ) throws(VaultError) -> Ticket? {
        lock()
        defer { unlock() }
        if let order, segments[active].order != order { return nil }
        if file.number?.order == segments[active].order,
            let ticket = try appendLocked(
                records, payload, growingFrom, file, header, path: nil, reserving: reserving, within: order)
        {
            return ticket
        }
        // A file that the segment does not know yet is introduced, and must not move meanwhile.
        let place = file.place
        unlock()
        lockPlaces()
        defer { unlockPlaces() }
        let path = place()
        lock()
        guard let path else { return nil }
        return try appendLocked(
            records, payload, growingFrom, file, header, path: path, reserving: reserving, within: order)
    }

    /// As above, of blocks of a file that the segment knows, and without allocating; nil where it does not, or is full. With `isGrowing`, it must
    /// also know that blocks are added; with `wanted`, it must be that segment.
    func appendBlocks(
        _ change: LogSegment.BlockChange, isGrowing: Bool, for file: LoggedFile, within wanted: UInt64? = nil
    ) throws(VaultError) -> Ticket? {
        lock()
        defer { unlock() }
        let order = segments[active].order
        guard !isClosed, wanted == nil || wanted == order, let number = file.number, number.order == order,
            segments[active].failure == nil,
            !isGrowing || file.growsIn.load(ordering: .relaxed) == order
        else { return nil }
        let start = segments[active].written
        let total = LogSegment.byteCount(of: change)
        guard extend(by: total),
            let bytes = LogSegment.put(
                change, file: number.file, at: start, generation: segments[active].generationBytes, key: recordKey,
                into: room),
            let base = bytes.baseAddress, let images = change.images.baseAddress
        else { return nil }
        do throws(Errno) {
            try disk.write(segments[active].descriptor, base, count: bytes.count, at: start)
            // What is large is not copied first.
            if bytes.count < total {
                try disk.write(
                    segments[active].descriptor, images, count: change.images.count, at: start + bytes.count)
            }
        } catch {
            throw .system(error)
        }
        if start == LogSegment.headerCount { noteBegun() }
        segments[active].written += total
        segments[active].users += 1
        note(file, in: order)
        return Ticket(segment: active, order: segments[active].order, end: segments[active].written)
    }

    /// A segment speaks of a file. What it says of a new one is no promise, which somebody would have to be led to wherever the file goes.
    private func note(_ file: LoggedFile, in order: UInt64) {
        if file.newIn.load(ordering: .relaxed) != order { file.isVoid = false }
        if file.lastOrder == order { return }
        file.lastOrder = order
        files[file.key] = file
    }

    /// Nil where the active segment does not know the file by now, and there is no path.
    private func appendLocked(
        _ records: [LogRecord], _ payload: UnsafeRawBufferPointer?, _ growingFrom: Int?, _ file: LoggedFile,
        _ header: [UInt8], path: [StoredName]?, reserving: Int, within wanted: UInt64?
    ) throws(VaultError) -> Ticket? {
        let ticket = try appendLocked(payload, reserving: reserving) { segment in
            if let wanted, segment.order != wanted { return nil }
            let isKnown = file.number?.order == segment.order
            guard isKnown || path != nil else { return nil }
            let number = isKnown ? file.number?.file ?? 0 : segment.files
            var all: [(UInt32, LogRecord)] = []
            if !isKnown { all.append((number, .file(header: header, path: path ?? []))) }
            if let growingFrom, file.growsIn.load(ordering: .relaxed) != segment.order {
                all.append((number, .grow(from: growingFrom)))
            }
            for record in records { all.append((number, record)) }
            return all
        }
        guard let ticket else { return nil }
        let order = segments[ticket.segment].order
        if file.number?.order != order {
            file.number = (order, segments[ticket.segment].files)
            segments[ticket.segment].files += 1
        }
        note(file, in: order)
        if case .synced = records.last { file.isVoid = true }
        return ticket
    }

    /// Appends the records that `make` has for the active segment, with the numbers of their files; nil where it has none. It is asked again where another
    /// segment becomes active meanwhile.
    func appendLocked(
        _ payload: UnsafeRawBufferPointer?, reserving: Int = 0, _ make: (Segment) -> [(UInt32, LogRecord)]?
    ) throws(VaultError) -> Ticket? {
        while true {
            while isClosed { wait() }
            let segment = segments[active]
            if segment.failure != nil {
                try makeRoomLocked()
                continue
            }
            guard let records = make(segment) else { return nil }
            var bytes: [UInt8] = []
            if let payload, payload.count <= Self.copyLimit { bytes.reserveCapacity(payload.count + 512) }
            for (index, (file, record)) in records.enumerated() {
                LogSegment.append(
                    record.encoded(file: file), payload: index == records.count - 1 ? payload : nil,
                    at: segment.written + bytes.count, generation: segment.generation, ring: ring, to: &bytes)
            }
            let total = bytes.count + (payload?.count ?? 0)
            if !extend(by: total + reserving) {
                guard segment.written > LogSegment.headerCount else { throw .system(.noSpace) }
                try makeRoomLocked()
                continue
            }
            if let payload, payload.count <= Self.copyLimit {
                bytes.append(contentsOf: payload)
                try put(bytes, nil, at: segment.written)
            } else {
                try put(bytes, payload, at: segment.written)
            }
            if segment.written == LogSegment.headerCount { noteBegun() }
            segments[active].written += total
            segments[active].users += 1
            return Ticket(segment: active, order: segments[active].order, end: segments[active].written)
        }
    }

    /// Payloads up to so many bytes are copied, so that they take no call of their own.
    private static let copyLimit = 32 << 10

    private func put(_ bytes: [UInt8], _ payload: UnsafeRawBufferPointer?, at offset: Int) throws(VaultError) {
        let descriptor = segments[active].descriptor
        try system { () throws(Errno) in
            try disk.write(descriptor, bytes: bytes, at: offset)
            if let payload, let data = payload.baseAddress {
                try disk.write(descriptor, data, count: payload.count, at: offset + bytes.count)
            }
        }
    }

    /// Returns when a record is on the disk. Those who wait at the same time share one sync.
    func commit(_ ticket: Ticket) throws(VaultError) {
        lock()
        defer { unlock() }
        let index = ticket.segment
        // Where the segment was begun anew, all that was in it is in its place, durably.
        while segments[index].order == ticket.order, segments[index].durable < ticket.end {
            if let failure = segments[index].failure { throw .system(failure) }
            if segments[index].isSyncing {
                wait()
                continue
            }
            segments[index].isSyncing = true
            let target = segments[index].written
            let descriptor = segments[index].descriptor
            unlock()
            let outcome: Result<Void, Errno> = Result { () throws(Errno) in
                try disk.sync(descriptor, dataOnly: true)
            }
            lock()
            segments[index].isSyncing = false
            switch outcome {
            case .success: segments[index].durable = max(segments[index].durable, target)
            // The system may take for written what it could not write: no later sync says anything of this one's records.
            case .failure(let error): segments[index].failure = error
            }
            signalWaiting()
        }
    }

    /// What the record said is done, or given up.
    public func end(_ ticket: Ticket) {
        lock()
        segments[ticket.segment].users -= 1
        // Only those wait for it who empty a segment or have closed the log.
        if segments[ticket.segment].users == 0, isEmptying || isClosed { signal() }
        unlock()
    }

    /// Keeps the active segment from ending, if it is `order`: for changes that a record of it covers. Nil where it is another by now.
    func hold(_ order: UInt64) -> Ticket? {
        if order == 0 { return nil }
        lock()
        defer { unlock() }
        while isClosed { wait() }
        guard segments[active].order == order else { return nil }
        segments[active].users += 1
        return Ticket(segment: active, order: segments[active].order, end: 0)
    }

    /// Keeps whoever stores files' images once more from meeting a change that no record covers.
    func enter() -> Ticket {
        lock()
        defer { unlock() }
        while isClosed { wait() }
        segments[active].users += 1
        return Ticket(segment: active, order: segments[active].order, end: 0)
    }

    /// Whether a segment has records of a file, by which it knows it still.
    func knows(_ file: LoggedFile, in order: UInt64) -> Bool {
        lock()
        defer { unlock() }
        return file.number?.order == order
    }

    /// The file of the segment that a ticket is for.
    func descriptor(of ticket: Ticket) -> Int32 {
        descriptors[ticket.segment]
    }
}
