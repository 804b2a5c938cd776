import CofferCrypto
import CofferFormat

/// One thread's room for block work: ciphertext, a few single blocks, nonces and cipher contexts. Made once, so that no block read or
/// written allocates. Not shared between threads.
public final class Scratch {
    /// Blocks that one pass over a file handles: 1 MiB and the two edges of a request that is not aligned.
    static let blockLimit = 258

    /// Ciphertext of up to `blockLimit` blocks.
    let cipherText: UnsafeMutableRawPointer
    /// Ciphertext for looking at blocks outside the request.
    let probe: UnsafeMutableRawPointer
    /// Blocks that `probe` holds.
    static let probeLimit = 64
    /// One stored block as it was before it is rewritten.
    let oldImage: UnsafeMutableRawPointer
    /// Plaintext of a request's first block.
    let headBlock: UnsafeMutableRawPointer
    /// Plaintext of a request's last block.
    let tailBlock: UnsafeMutableRawPointer
    /// Plaintext of a block that is looked at for its info word only.
    let spareBlock: UnsafeMutableRawPointer
    /// Zeros, as many as a block has.
    let zeros: UnsafeRawPointer
    /// Random nonces for one pass.
    let nonces: UnsafeMutableRawPointer
    /// Associated data of one block.
    let associatedData: UnsafeMutableRawPointer

    /// What a record says of the blocks before it, for one pass.
    let predecessors: UnsafeMutableRawPointer
    /// The first bytes of a block that is to be replaced.
    let prefix: UnsafeMutableRawPointer

    /// What `cipherText` has of blocks that are still to be stored.
    var ahead: FileContents.SealedAhead?

    private let aes: BlockCipher
    private let chacha: BlockCipher
    private let aesContexts: BlockContexts
    private let chachaContexts: BlockContexts
    private let all: UnsafeMutableRawPointer
    private let byteCount: Int

    /// Room for one thread, about 1.3 MiB.
    public init() throws(CryptoError) {
        aes = try BlockCipher(.aes256GCM)
        chacha = try BlockCipher(.chacha20Poly1305)
        aesContexts = aes.contexts
        chachaContexts = chacha.contexts
        let page = 4096
        let cipherCount = (Self.blockLimit * BlockGeometry.storedCount / page + 1) * page
        let probeCount = (Self.probeLimit * BlockGeometry.storedCount / page + 1) * page
        byteCount = cipherCount + probeCount + 10 * page
        all = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: page)
        cipherText = all
        probe = all + cipherCount
        let blocks = probe + probeCount
        oldImage = blocks
        headBlock = blocks + 2 * page
        tailBlock = blocks + 3 * page
        spareBlock = blocks + 4 * page
        let zeroPage = blocks + 5 * page
        zeroPage.initializeMemory(as: UInt8.self, repeating: 0, count: page)
        zeros = UnsafeRawPointer(zeroPage)
        nonces = blocks + 6 * page
        associatedData = blocks + 7 * page
        prefix = associatedData + 64
        predecessors = blocks + 8 * page
    }

    deinit {
        // Plaintext passed through here.
        wipe(all, count: byteCount)
        all.deallocate()
    }

    /// Keeps the beginning of the block in `probe`.
    func keepPrefix() {
        prefix.copyMemory(from: probe, byteCount: BlockGeometry.prefixCount)
    }

    /// The contexts for a suite; as long as this is there.
    @inline(__always)
    func cipher(_ suite: CipherSuite) -> BlockContexts {
        switch suite {
        case .aes256GCM: aesContexts
        case .chacha20Poly1305: chachaContexts
        }
    }
}
