import CofferCrypto
import CofferFormat
import Glibc
import SystemPackage

/// A ciphertext file as the format document describes it, read without the code under test: numbers are written out here on purpose.
struct StoredFile {
    /// A block that is not all zeros.
    struct Block {
        let index: Int
        let isFinal: Bool
        let gap: Int
        /// Nil where it does not verify.
        let plaintext: [UInt8]?
    }

    let plainSize: Int
    let blocks: [Block]

    /// Why a file is not what it should be.
    struct Fault: Error, CustomStringConvertible {
        let description: String
    }

    init(_ path: String, ring: KeyRing) throws {
        let descriptor = try openFile(path, flags: O_RDONLY)
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw Errno(rawValue: errno) }
        let byteCount = Int(status.st_size)
        var header = [UInt8](repeating: 0, count: 32)
        guard byteCount >= 64, pread(descriptor, &header, 32, 0) == 32 else { throw Fault(description: "no header") }
        guard header[0..<4].elementsEqual("COFR".utf8), header[4] == 1, header[7] == 0,
            let suite = CipherSuite(rawValue: header[5]),
            let contentsKey = ring.subkey(.contents, epoch: header[6])
        else { throw Fault(description: "bad header") }
        var hash = Hash(key: contentsKey, outputCount: 32)
        hash.update(header)
        let key = hash.finish()
        let cipher = try BlockCipher(suite)
        key.withUnsafeBytes { bytes in
            if let base = bytes.baseAddress { cipher.contexts.setOpeningKey(base) }
        }
        let rest = (byteCount - 32) % 4128
        guard byteCount == 64 || rest == 0 || rest > 32 else { throw Fault(description: "size \(byteCount)") }
        let blockCount = (byteCount - 32 + 4127) / 4128
        plainSize = byteCount - 32 - 32 * blockCount
        blocks = try Self.readBlocks(descriptor, count: blockCount, byteCount: byteCount, cipher)
    }

    private static func readBlocks(
        _ descriptor: Int32, count: Int, byteCount: Int, _ cipher: BlockCipher
    ) throws -> [Block] {
        var blocks: [Block] = []
        var image = [UInt8](repeating: 0, count: 4128)
        let zeros = image
        var index = 0
        while index < count {
            // Where the backing file has a hole there is nothing to look at.
            let data = lseek(descriptor, 32 + 4128 * index, 3)
            if data < 0 { break }
            index = max(index, (data - 32) / 4128)
            let stored = min(4128, byteCount - 32 - 4128 * index)
            guard pread(descriptor, &image, stored, 32 + 4128 * index) == stored else {
                throw Fault(description: "short")
            }
            let isZero = memcmp(image, zeros, stored) == 0
            if !isZero { blocks.append(open(image, count: stored, index: index, cipher)) }
            index += 1
        }
        return blocks
    }

    private static func open(_ image: [UInt8], count: Int, index: Int, _ cipher: BlockCipher) -> Block {
        let info = (0..<4).reduce(UInt32(0)) { $0 | UInt32(image[12 + $1]) << (8 * UInt32($1)) }
        let associated = (0..<8).map { UInt8(truncatingIfNeeded: index >> (8 * $0)) } + image[12..<16]
        var plaintext = [UInt8](repeating: 0, count: 4096)
        let verifies = image.withUnsafeBytes { stored in
            plaintext.withUnsafeMutableBytes { plain in
                associated.withUnsafeBytes { data in
                    guard let stored = stored.baseAddress, let plain = plain.baseAddress, let data = data.baseAddress
                    else { return false }
                    return cipher.contexts.open(
                        stored + 16, count: count - 32, nonce: stored, associatedData: data, associatedDataCount: 12,
                        tag: stored + (count - 16), output: plain)
                }
            }
        }
        plaintext.removeLast(4096 - (count - 32))
        return Block(
            index: index, isFinal: info >> 31 == 1, gap: Int(info & 0x3FFF_FFFF), plaintext: verifies ? plaintext : nil)
    }

    /// What a settled file must keep: every block verifies, exactly the last is final, and every gap is exactly the run of holes
    /// before its block.
    func faults(isSettled: Bool) -> [String] {
        var faults: [String] = []
        let last = max(0, (plainSize + 4095) / 4096 - 1)
        var previous = -1
        for block in blocks {
            if block.plaintext == nil { faults.append("block \(block.index) does not verify") }
            if isSettled, block.isFinal != (block.index == last) {
                faults.append("block \(block.index) of \(last) has final \(block.isFinal)")
            }
            let run = block.index - previous - 1
            if isSettled ? block.gap != run : block.gap < run {
                faults.append("block \(block.index) has gap \(block.gap) after \(run) holes")
            }
            previous = block.index
        }
        if blocks.last?.index != last { faults.append("the last block is a hole") }
        if let end = blocks.last, !end.isFinal { faults.append("the end is not final") }
        return faults
    }
}
