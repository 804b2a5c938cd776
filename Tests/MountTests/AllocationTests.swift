import Foundation
import Glibc
import Testing

/// The driver's heap.
@Suite(
    .mounts,
    .enabled(if: CofferProgram.builtBesideTests("libAllocationCount.so") != nil, "needs libAllocationCount.so"))
struct AllocationTests {
    /// How often the driver has asked for memory so far, in a page that it shares.
    private final class Count {
        private let page: UnsafeMutablePointer<UInt64>

        init(_ path: String) throws {
            let file = try OpenFile(path, O_RDWR | O_CREAT)
            try file.truncate(to: 4096)
            let page = mmap(nil, 4096, PROT_READ, MAP_SHARED, file.descriptor, 0)
            try #require(page != MAP_FAILED)
            self.page = try #require(page).assumingMemoryBound(to: UInt64.self)
        }

        deinit { munmap(page, 4096) }

        /// What `body` makes the driver ask for, when it is done for the second time: the first one may ask for what is kept.
        func during(_ body: () throws -> Void) throws -> Int {
            try body()
            let before = page.pointee
            try body()
            return Int(page.pointee - before)
        }
    }

    /// libfuse asks once for each request. Coffer does not ask at all, neither for a block nor for a request, wherever blocks are read or written; some hundred, and a
    /// hundredth, are for what the log's upkeep does now and then.
    @Test func blocksAreReadAndWrittenWithoutAllocating() throws {
        let vault = try TestVault()
        let count = try Count(vault.directory + "/count")
        let mount = try MountedVault(
            "vault", at: "mnt", options: [], in: vault,
            environment: [
                "LD_PRELOAD": try #require(CofferProgram.builtBesideTests("libAllocationCount.so")),
                "COFFER_ALLOCATIONS": vault.directory + "/count",
            ])
        do {
            let (blocks, calls) = (8192, 4000)
            let file = try OpenFile(mount.file("a"), O_RDWR | O_CREAT)
            let megabyte = pattern(1 << 20)
            let block = pattern(4096, seed: 1)
            func place(_ call: Int) -> Int { call * 7919 % blocks * 4096 }
            func forget() { posix_fadvise(file.descriptor, 0, 0, POSIX_FADV_DONTNEED) }

            // A megabyte is at most eight requests, and 256 blocks.
            let sequential = (blocks / 256 * 8) + blocks / 100
            let stored = try count.during {
                for start in 0..<(blocks / 256) { try file.write(megabyte, at: start << 20) }
                try file.sync()
            }
            #expect(stored <= sequential + 700, "writing \(blocks) blocks in a row")
            let read = try count.during {
                forget()
                for start in 0..<(blocks / 256) { _ = try file.read(1 << 20, at: start << 20) }
            }
            #expect(read <= sequential, "reading \(blocks) blocks in a row")

            posix_fadvise(file.descriptor, 0, 0, POSIX_FADV_RANDOM)
            let singles = try count.during {
                forget()
                for call in 0..<calls { _ = try file.read(4096, at: place(call)) }
            }
            #expect((calls / 2...calls + calls / 100).contains(singles), "reading single blocks")
            let overwritten = try count.during {
                for call in 0..<calls { try file.write(block, at: place(call)) }
                try file.sync()
            }
            #expect(overwritten <= calls + calls / 100 + 300, "overwriting single blocks")
            // Three requests each: the block, the times, the sync.
            let synced = try count.during {
                for call in 0..<(calls / 4) {
                    try file.write(Array(block[..<100]), at: place(call) + 11)
                    fdatasync(file.descriptor)
                }
            }
            #expect(synced <= calls / 4 * 3 + calls / 100 + 300, "overwriting parts of blocks")
        }
        try mount.unmount()
    }
}
