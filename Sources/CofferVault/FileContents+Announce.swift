import CofferFormat
import Synchronization

/// Changes that a record announces as a whole, with no image of what is to be there: punching, and cutting to nothing.
extension FileContents {
    /// Runs what a record announces, once that is durable. Without a log, or in a new file, at once. With `isPromiseEnding` the file is like a new one after. `oldHeader`: the one that
    /// the file has until then, where that is not ``header``. Without `hasWholeFile` what the log says that was given up is not made void first: that takes a lock on everything.
    func announcing(
        _ record: LogRecord, payload: UnsafeRawBufferPointer? = nil, isPromiseEnding: Bool = false,
        oldHeader: [UInt8]? = nil, hasWholeFile: Bool = true, _ body: () throws(VaultError) -> Void
    ) throws(VaultError) {
        guard let log, let file = logged else { return try body() }
        try drain()
        let header = oldHeader ?? header.bytes
        if let ticket = try coverNew(record, payload, header, log, file) {
            noteUnlogged(file, cuts: true)
            let outcome: Result<Void, VaultError> = Result { () throws(VaultError) in try body() }
            log.end(ticket)
            if case .failure = outcome {
                if case .empty(let old, _) = record {
                    noteUntrue(file, header: old, log)
                } else {
                    // Others may be writing elsewhere in the file.
                    file.newIn.store(0, ordering: .relaxed)
                    file.isUnsure.store(true, ordering: .releasing)
                }
            }
            return try outcome.get()
        }
        if file.isUnsure.load(ordering: .acquiring) {
            guard hasWholeFile else {
                noteCutOff()
                return try unlogged(body)
            }
            try makeSure(file)
        }
        noteUnlogged(file, cuts: true)
        guard let ticket = try log.append([record], payload: payload, for: file, header: header) else {
            return try body()
        }
        defer { log.end(ticket) }
        do throws(VaultError) {
            try commit(ticket, log, file)
            try body()
        } catch {
            // It was said, and is not so. Of an emptied file the log has a header that it does not get.
            if case .empty = record { log.introduceAnew(file) }
            file.isUnsure.store(true, ordering: .releasing)
            throw error
        }
        if isPromiseEnding {
            file.isCutInLog.store(true, ordering: .relaxed)
            file.newIn.store(ticket.order, ordering: .relaxed)
        }
    }

    /// Leave for what a record says of a new file, as ``cover(_:byteCount:firstBlock:isCut:before:within:_:_:_:)``: said where the log has records of it that would bring back
    /// what was there before.
    private func coverNew(
        _ record: LogRecord, _ payload: UnsafeRawBufferPointer?, _ header: [UInt8], _ log: IntentLog,
        _ file: LoggedFile
    ) throws(VaultError) -> IntentLog.Ticket? {
        let order = file.newIn.load(ordering: .relaxed)
        guard order != 0, !file.isUnsure.load(ordering: .acquiring) else { return nil }
        guard case .empty = record else {
            return try log.append([record], payload: payload, for: file, header: header, within: order)
        }
        if log.knows(file, in: order) {
            let ticket = try log.append([record], payload: payload, for: file, header: header, within: order)
            if ticket != nil { file.isCutInLog.store(true, ordering: .relaxed) }
            return ticket
        }
        return log.hold(order)
    }
}
