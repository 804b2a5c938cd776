import ArgumentParser
import CofferCrypto
import CofferFormat
import Glibc

/// `coffer speed`.
struct Speed: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show how fast this machine encrypts.",
        discussion: """
            Seals and opens blocks of 4 KiB, as they are in a vault's files, with each cipher that 'coffer init --cipher' takes, by one processor and without any disk. Takes \
            two seconds.

            Examples:
              coffer speed
              coffer speed --json
            """)

    @Flag(help: "Print JSON.")
    var json = false

    private struct Rate: Encodable {
        let cipher: String
        let sealMBPerSecond: Int
        let openMBPerSecond: Int
    }

    func run() throws {
        var rates: [Rate] = []
        for choice in CipherChoice.allCases {
            let (seal, open) = try Self.measure(choice.suite)
            rates.append(Rate(cipher: choice.rawValue, sealMBPerSecond: seal, openMBPerSecond: open))
        }
        if json { return try Report.line(try JSONText.pretty(rates)) }
        for rate in rates {
            let name = rate.cipher + String(repeating: " ", count: 17 - rate.cipher.count)
            try Report.line("\(name)  seals \(rate.sealMBPerSecond) MB/s, opens \(rate.openMBPerSecond) MB/s")
        }
    }

    /// Plaintext that is sealed, and opened, in a second of the processor's time: in MB.
    private static func measure(_ suite: CipherSuite) throws(CommandError) -> (Int, Int) {
        let cipher: BlockCipher
        do throws(CryptoError) {
            cipher = try BlockCipher(suite)
        } catch {
            throw CommandError(.inputOutput, "the cipher cannot be had")
        }
        defer { withExtendedLifetime(cipher) {} }
        let contexts = cipher.contexts
        let (key, plain) = (Random.bytes(32), Random.bytes(BlockGeometry.plainCount))
        var (nonce, tag) = (Random.bytes(BlockCipher.nonceCount), [UInt8](repeating: 0, count: BlockCipher.tagCount))
        var (sealed, opened) = (plain, plain)
        contexts.setSealingKey(key)
        contexts.setOpeningKey(key)
        let seal = rate {
            nonce[0] &+= 1
            contexts.seal(
                plain, count: plain.count, nonce: nonce, associatedData: nonce, associatedDataCount: nonce.count,
                output: &sealed, tag: &tag)
        }
        var isOpen = true
        let open = rate {
            isOpen =
                contexts.open(
                    sealed, count: plain.count, nonce: nonce, associatedData: nonce, associatedDataCount: nonce.count,
                    tag: tag, output: &opened) && isOpen
        }
        guard isOpen, opened == plain else {
            throw CommandError(.inputOutput, "the cipher does not give back what it got")
        }
        return (seal, open)
    }

    /// MB in a second, of blocks that `body` handles one of.
    private static func rate(_ body: () -> Void) -> Int {
        let begin = processorTime()
        var count = 0
        var spent = 0
        repeat {
            for _ in 0..<1000 { body() }
            count += 1000
            spent = processorTime() - begin
        } while spent < 500_000_000
        return count * BlockGeometry.plainCount * 1000 / spent
    }

    /// The calling thread's, in nanoseconds.
    private static func processorTime() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }
}
