import CofferCrypto
import CofferFormat
import Testing

@testable import CofferKeys

/// Pieces of a recovery secret.
struct ShareTests {
    private func unlocked(_ file: ConfigFile, _ shares: [RecoveryShare]) throws -> Bool {
        do {
            _ = try VaultUnlocker.unlock(file, with: SharesSlot(shares))
            return true
        } catch KeysError.wrongSecret {
            return false
        }
    }

    /// Every choice of pieces, for several numbers of them: as many as are needed open the vault, fewer are told so.
    @Test func anyFewOfThemOpen() throws {
        for (threshold, count) in [(2, 2), (2, 3), (3, 5), (5, 5), (2, 255), (255, 255)] {
            let made = try NewShares(threshold: threshold, count: count)
            let file = try VaultCreation().make([(made, "")]).file
            #expect(made.shares.map { Int($0.number) } == Array(1...count))
            let choices: [[Int]] =
                count <= 5
                ? (1..<(1 << count)).map { mask in (0..<count).filter { mask >> $0 & 1 == 1 } }
                : [Array((count - threshold)..<count), Array(0..<threshold), Array(0..<(threshold - 1))]
            for choice in choices {
                let shares = choice.shuffled().map { made.shares[$0] }
                if choice.count >= threshold {
                    #expect(try unlocked(file, shares))
                } else {
                    #expect(throws: KeysError.self) { try SharesSlot(shares) }
                }
            }
        }
    }

    @Test func whatIsPrintedIsRead() throws {
        let made = try NewShares(threshold: 3, count: 7)
        for share in made.shares {
            let read = try RecoveryShare.parse(Array(share.text.lowercased().replacing("-", with: " ").utf8))
            #expect(read.number == share.number && read.threshold == 3 && read.set == share.set)
            #expect(read.piece.isEqual(to: share.piece) && read.text == share.text)
        }
        #expect(Set(made.shares.map(\.text)).count == 7)
    }

    /// Any wrong character, and any two neighbours exchanged, are pointed at.
    @Test func mistakesArePointedAt() throws {
        let text = Array(try NewShares(threshold: 2, count: 2).shares[1].text.utf8)
        let alphabet = Array("0123456789ABCDEFGHJKMNPQRSTVWXYZ".utf8)
        for index in text.indices where text[index] != UInt8(ascii: "-") {
            let group = index / 6 + 1
            for letter in alphabet where letter != text[index] {
                var wrong = text
                wrong[index] = letter
                #expect(throws: KeysError.unusableShare("group \(group) is not as it was printed")) {
                    try RecoveryShare.parse(wrong)
                }
            }
        }
        #expect(throws: KeysError.self) { try RecoveryShare.parse(Array(text.dropLast(6))) }
        #expect(throws: KeysError.self) { try RecoveryShare.parse([]) }
        // One for the other is told.
        let code = try RecoveryCode.random().text
        #expect { try RecoveryShare.parse(Array(code.utf8)) } throws: { "\($0)".contains("recovery code") }
        #expect { try RecoveryCode.parse(text) } throws: { "\($0)".contains("--shares") }
    }

    @Test func piecesThatDoNotGoTogether() throws {
        let one = try NewShares(threshold: 2, count: 3)
        let other = try NewShares(threshold: 2, count: 3)
        let third = try NewShares(threshold: 3, count: 3)
        let file = try VaultCreation().make([(one, "")]).file
        #expect(throws: KeysError.self) { try SharesSlot([one.shares[0], other.shares[1]]) }
        #expect(throws: KeysError.self) { try SharesSlot([one.shares[0], third.shares[1]]) }
        #expect(throws: KeysError.self) { try SharesSlot([]) }
        // The same one twice is one.
        #expect(throws: KeysError.self) { try SharesSlot([one.shares[0], one.shares[0]]) }
        #expect(try unlocked(file, [one.shares[0], one.shares[0], one.shares[2]]))
        // Those of another vault.
        #expect(try !unlocked(file, [other.shares[0], other.shares[1]]))
        // A set of the same name, which somebody made to confuse.
        var bytes = Random.bytes(22)
        let forged = try NewShares(threshold: 2, count: 3, set: one.shares[0].set, consuming: &bytes)
        #expect(throws: KeysError.self) { try SharesSlot([one.shares[0], forged.shares[0]]) }
        #expect(try !unlocked(file, [one.shares[0], forged.shares[1]]))
    }

    /// All pieces but one say nothing: with each possible last piece another secret comes out.
    @Test func tooFewSayNothing() throws {
        var secrets: Set<UInt8> = []
        let secret = try SecretKey.random()
        let pieces = try SecretSharing.split(secret, byteCount: 1, threshold: 2, count: 2)
        for byte in UInt8.min...UInt8.max {
            secrets.insert(try SecretSharing.join([(1, pieces[0]), (2, [byte])])[0])
        }
        #expect(secrets.count == 256)
        #expect(try SecretSharing.join([(1, pieces[0]), (2, pieces[1])])[0] == secret.withBytes { $0[0] })
        for (threshold, count) in [(1, 2), (0, 2), (3, 2), (2, 256)] {
            #expect(throws: CryptoError.invalidParameter) {
                try SecretSharing.split(secret, byteCount: 1, threshold: threshold, count: count)
            }
        }
    }
}
