import CFuse
import Testing

@testable import CofferMount

/// What the driver reads of a request besides libfuse.
struct RawRequestTests {
    @Test func aHeaderIsTheLeast() {
        let request = RequestBytes(FUSE_WRITE, number: 10, node: 7)
        #expect(request.with(count: 39) { _ in true } == nil)
        #expect(request.with(count: 40) { $0.header.unique } == 10)
        #expect(RawRequest(nil, count: 128) == nil)
    }

    @Test func aWriteHasItsOffset() {
        var request = RequestBytes(FUSE_WRITE, number: 10, node: 7)
        request.put(UInt64(1 << 40), at: 48)
        #expect(request.with { $0.writeOffset } == .some(1 << 40))
        // Too short for one.
        #expect(request.with(count: 79) { $0.writeOffset } == .some(nil))
        #expect(RequestBytes(FUSE_READ, number: 10, node: 7).with { $0.writeOffset } == .some(nil))
    }

    @Test func setIDBitsGoWhereTheKernelSaysSo() {
        var write = RequestBytes(FUSE_WRITE, number: 10, node: 7)
        #expect(write.with { $0.takesSetID } == false)
        write.put(UInt32(FUSE_WRITE_CACHE | FUSE_WRITE_LOCKOWNER), at: 60)
        #expect(write.with { $0.takesSetID } == false)
        write.put(UInt32(FUSE_WRITE_KILL_SUIDGID), at: 60)
        #expect(write.with { $0.takesSetID } == true)
        #expect(write.with(count: 79) { $0.takesSetID } == false)
        var change = RequestBytes(FUSE_SETATTR, number: 10, node: 7)
        change.put(UInt32(FATTR_SIZE), at: 40)
        #expect(change.with { $0.takesSetID } == false)
        change.put(UInt32(FATTR_SIZE | FATTR_KILL_SUIDGID), at: 40)
        #expect(change.with { $0.takesSetID } == true)
        var read = RequestBytes(FUSE_READ, number: 10, node: 7)
        read.put(UInt32(FUSE_WRITE_KILL_SUIDGID), at: 60)
        #expect(read.with { $0.takesSetID } == false)
    }

    @Test func theHandshakeAddsWhatTheKernelOffers() {
        for offered in [true, false] {
            let handshake = Handshake()
            var request = RequestBytes(FUSE_INIT, number: 2, node: 0)
            request.put(UInt32(FUSE_ASYNC_READ | (offered ? FUSE_HANDLE_KILLPRIV_V2 : 0)), at: 52)
            _ = request.with { handshake.see($0) }
            var flags: [UInt32] = []
            // The answer to INIT, and another one that looks like it.
            for _ in 0..<2 {
                var header = fuse_out_header()
                var answer = fuse_init_out()
                answer.flags = UInt32(FUSE_ASYNC_READ)
                withUnsafeMutableBytes(of: &header) { header in
                    withUnsafeMutableBytes(of: &answer) { answer in
                        var parts = [
                            iovec(iov_base: header.baseAddress, iov_len: header.count),
                            iovec(iov_base: answer.baseAddress, iov_len: answer.count),
                        ]
                        parts.withUnsafeMutableBufferPointer { handshake.complete($0.baseAddress, 2) }
                    }
                }
                flags.append(answer.flags)
            }
            let added = UInt32(FUSE_ASYNC_READ | FUSE_HANDLE_KILLPRIV_V2)
            #expect(flags == [offered ? added : UInt32(FUSE_ASYNC_READ), UInt32(FUSE_ASYNC_READ)])
        }
    }
}
