import Testing

@testable import CofferFormat

/// The reader of coffer.json's subset of JSON.
struct ConfigParserTests {
    private func parse(_ text: String) throws -> [(name: String, value: ConfigParser.Value)] {
        try ConfigParser.parse(Array(text.utf8))
    }

    @Test func readsEveryKindOfMember() throws {
        let members = try parse(#" { "a" : 0 , "b":"x", "c":[], "d":[{},{"e":9007199254740992}] } "#)
        #expect(members.map(\.name) == ["a", "b", "c", "d"])
        guard case .scalar(.number(0)) = members[0].value, case .scalar(.text("x")) = members[1].value,
            case .list(let none) = members[2].value, case .list(let two) = members[3].value
        else {
            Issue.record("members are of other kinds: \(members)")
            return
        }
        #expect(none.isEmpty)
        #expect(two == [[], [KeySlot.Member(name: "e", value: .number(1 << 53))]])
    }

    @Test(arguments: [
        (#""\" \\ \/ \b \f \n \r \t""#, "\" \\ / \u{8} \u{c} \n \r \t"),
        (#""\u00e9 \u20AC \ud83d\ude00 \u0000""#, "é € 😀 \u{0}"),
        (#""Käse ключ 😀""#, "Käse ключ 😀"),
    ])
    func readsStrings(text: String, expected: String) throws {
        guard case .scalar(.text(let found)) = try parse("{\"a\":\(text)}")[0].value else {
            Issue.record("no text")
            return
        }
        #expect(Array(found.utf8) == Array(expected.utf8))
    }

    @Test(arguments: [
        "", " ", "[]", "{", "}", "{}x", "{}{}", "{,}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\":1 \"b\":2}",
        "{a:1}", "{\"a\":01}", "{\"a\":-1}", "{\"a\":1.0}", "{\"a\":1e3}", "{\"a\":9007199254740993}",
        "{\"a\":99999999999999999999999999}", "{\"a\":true}", "{\"a\":null}", "{\"a\":{}}", "{\"a\":[1]}",
        "{\"a\":[{\"b\":[]}]}", "{\"a\":[{\"b\":{}}]}", "{\"a\":[{},]}", "{\"a\":[{}", "{\"a\":\"x}", "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}", "{\"a\":\"\\u12\"}", "{\"a\":\"\\ud800\"}", "{\"a\":\"\\ud800\\u0041\"}",
        "{\"a\":\"\\udc00\"}", "{\"a\":\"\\", "{\"a\":1,\"a\":1}", "{\"a\":1,\"\\u0061\":1}",
        "{\"a\":[{\"b\":1,\"b\":2}]}", "\u{feff}{}", "{\"a\":+1}", "{\"a\": 0x1}", "//\n{}",
    ])
    func refuses(text: String) {
        #expect(throws: ConfigError.self) { try parse(text) }
    }

    @Test(
        arguments: [[0xff], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82]] as [[UInt8]])
    func refusesWhatIsNotUTF8(bytes: [UInt8]) {
        let text = Array("{\"a\":\"".utf8) + bytes + Array("\"}".utf8)
        #expect(throws: ConfigError.malformed(offset: 5, reason: "string that is not UTF-8")) {
            try ConfigParser.parse(text)
        }
    }

    @Test func namesTheOffset() {
        #expect(throws: ConfigError.malformed(offset: 7, reason: "a second member of the same name")) {
            try parse(#"{"a":1,"a":2}"#)
        }
    }

    /// A million brackets neither overflow the stack nor take long.
    @Test func deepNestingIsRefusedAtOnce() {
        let text = [UInt8](repeating: UInt8(ascii: "["), count: 1 << 20)
        #expect(throws: ConfigError.self) { try ConfigParser.parse(Array("{\"a\":".utf8) + text) }
        #expect(throws: ConfigError.self) {
            try ConfigParser.parse([UInt8](repeating: UInt8(ascii: "{"), count: 1 << 20))
        }
    }

    /// Random texts made of JSON's own pieces: whatever happens, it is a value or an error.
    @Test func randomTextsNeverTrap() {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed of the random JSON texts: \(seed)")
        var random = SeededGenerator(seed: seed)
        let pieces = [
            "{", "}", "[", "]", ":", ",", "\"", "\"a\"", "\"b\":1", "\\", "\\u", "d800", "\\ud83d\\ude00", "0", "12",
            ".", "e",
            "-", " ", "\n", "true", "é",
        ]
        for _ in 0..<20_000 {
            var text = Bool.random(using: &random) ? "{\"a\":[{" : "{"
            for _ in 0..<Int.random(in: 0..<12, using: &random) {
                text += pieces[Int.random(in: 0..<pieces.count, using: &random)]
            }
            var bytes = Array(text.utf8)
            if Int.random(in: 0..<4, using: &random) == 0 {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            do {
                _ = try ConfigParser.parse(bytes)
            } catch {
                #expect(error.description.isEmpty == false)
            }
            _ = ConfigParser.leadingFormat(bytes)
        }
    }
}

/// SplitMix64: a test that fails can be run again with the seed that it printed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
