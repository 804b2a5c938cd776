import FoundationEssentials
import Randomness
import Testing

@testable import CofferFormat

/// One text for each byte string, and no other.
struct Base64URLTests {
    private let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    @Test func everyShortByteString() {
        #expect(Base64URL.encode([]) == [] && Base64URL.decode([UInt8]()) == [])
        for first in UInt8.min...UInt8.max {
            expectRoundTrip([first])
            for second in stride(from: UInt8(0), through: 255, by: 5) { expectRoundTrip([first, second]) }
        }
    }

    @Test func everyShortTextIsCanonicalOrRefused() {
        var accepted = 0
        for first in UInt8.min...UInt8.max {
            #expect(Base64URL.decode([first]) == nil)
            for second in UInt8.min...UInt8.max {
                let text = [first, second]
                guard let bytes = Base64URL.decode(text) else { continue }
                accepted += 1
                if Base64URL.encode(bytes) != text { Issue.record("\(text) is taken for \(bytes)") }
            }
        }
        // As many as there are single bytes: each has one text.
        #expect(accepted == 256)
        accepted = 0
        for first in alphabet {
            for second in alphabet {
                for third in alphabet where Base64URL.decode([first, second, third]) != nil { accepted += 1 }
            }
        }
        #expect(accepted == 65_536)
    }

    @Test func randomBytesAgreeWithAnotherEncoder() {
        var random = SeededRandom(seed: 1)
        for count in 0...300 {
            let bytes = random.anyBytes(count)
            expectRoundTrip(bytes)
            let other = Data(bytes).base64EncodedString().filter { $0 != "=" }.map {
                $0 == "+" ? "-" : $0 == "/" ? "_" : $0
            }
            #expect(Base64URL.text(bytes) == String(other))
        }
    }

    @Test func randomTextsAreCanonicalOrRefused() {
        var random = SeededRandom(seed: 2)
        for _ in 0..<3000 {
            var text = (0..<random.below(20)).map { _ in alphabet[random.below(64)] }
            if random.below(4) == 0, !text.isEmpty { text[random.below(text.count)] = UInt8(random.below(256)) }
            if let bytes = Base64URL.decode(text), Base64URL.encode(bytes) != text {
                Issue.record("\(text) is taken for \(bytes), seed 2")
            }
        }
    }

    private func expectRoundTrip(_ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation) {
        let text = Base64URL.encode(bytes)
        if text.count != Base64URL.encodedCount(bytes.count) || Base64URL.decodedCount(text.count) != bytes.count
            || Base64URL.decode(text) != bytes
        {
            Issue.record("\(bytes) becomes \(text)", sourceLocation: sourceLocation)
        }
    }
}
