import Foundation
import Glibc
import Testing

/// `coffer key` and `coffer keygen`, as a person uses them.
@Suite(.enabled(if: CofferProgram.path != nil, "needs the coffer program (COFFER_BINARY)"))
struct KeyCommandTests {
    private let directory: TemporaryDirectory

    init() throws {
        directory = try TemporaryDirectory()
        _ = try sh("printf 'one\\n' > one; printf 'two\\n' > two; head -c 40 /dev/urandom > file")
        try expect("init --kdf interactive --passphrase-file one v")
    }

    private func coffer(_ words: String, input: String = "") throws -> Outcome {
        try CofferProgram.run(words.split(separator: " ").map(String.init), in: directory.path, input: input)
    }

    private func sh(_ script: String) throws -> String { try shell(script, in: directory.path) }

    @discardableResult
    private func expect(
        _ words: String, _ status: Int32 = 0, input: String = "", sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> String {
        let outcome = try coffer(words, input: input)
        #expect(outcome.status == status, "\(words): \(outcome)", sourceLocation: sourceLocation)
        return outcome.output
    }

    /// The ids of the slots, in order.
    private func slots() throws -> [String] {
        _ = try sh("cat > slots.json <<'END'\n\(try expect("key list --json v"))\nEND")
        return try sh("python3 -c 'import json; print(*[s[\"id\"] for s in json.load(open(\"slots.json\"))])'")
            .split(separator: " ").map(String.init)
    }

    @Test func everyWayInOpensTheVault() throws {
        let recipient = try expect("keygen identity")
        #expect(recipient.hasPrefix("coffer-recipient-1:") && recipient.split(separator: "\n").count == 1)
        #expect(try sh("stat -c %a identity") == "600")
        _ = try sh("cat > pub <<'END'\n\(recipient)\nEND")
        try expect("keygen identity", 11)
        try expect("key add --passphrase-file one --label Ada v recipient pub")
        try expect("key add --identity identity v key-file file")
        try expect("key add --key-file file v passphrase --new-passphrase-file - --kdf interactive", input: "two\n")
        let shown = try expect("key add --passphrase-file two v recovery-code")
        let code = try #require(
            shown.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
                .first { $0.count == 53 && $0.split(separator: "-").count == 9 })
        let ids = try slots()
        #expect(ids.count == 5)
        for (index, way) in [
            "--passphrase-file one", "--identity identity", "--key-file file", "--passphrase-file two",
        ].enumerated() {
            #expect(try expect("key check \(way) v").contains(ids[index]))
        }
        #expect(try expect("key check --recovery-code-file - v", input: code.lowercased() + "\n").contains(ids[4]))
        #expect(try expect("key check --key-file - v", 4, input: "something else").isEmpty)
        // A mistake is pointed at.
        let wrong = try coffer(
            "key check --recovery-code-file - v", input: (code.hasPrefix("2") ? "3" : "2") + code.dropFirst())
        #expect(wrong.status == 4 && wrong.errors.contains("group 1"))
        // Two ways at once are one too many; what is missing is told.
        try expect("key check --passphrase-file one --key-file file v", 2)
        try expect("key check --key-file none v", 12)
        try expect("key add --passphrase-file one v key-file", 2)
        try expect("key add --passphrase-file one v recipient coffer-recipient-1:AAAA", 2)
        #expect(try sh("grep -c coffer-recipient identity") == "1")
    }

    @Test func piecesOpenTheVaultTogether() throws {
        let shown = try expect("key add --passphrase-file one --threshold 2 --count 3 v shares")
        let pieces = shown.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
            .filter { $0.split(separator: "-").count == 11 }
        try #require(pieces.count == 3)
        for (index, piece) in pieces.enumerated() { _ = try sh("echo '\(piece)' > p\(index)") }
        let id = try slots()[1]
        for pair in ["p0 p1", "p2 p0", "p1 p2"] {
            let files = pair.split(separator: " ").map { "--share-file \($0)" }.joined(separator: " ")
            #expect(try expect("key check \(files) v").contains(id))
        }
        let one = try coffer("key check --share-file p0 v")
        #expect(one.status == 4 && one.errors.contains("it takes 2"))
        let wrong = try coffer("key check --share-file p0 --share-file - v", input: "0" + pieces[1].dropFirst())
        #expect(wrong.status == 4 && wrong.errors.contains("group 1"))
        #expect(try expect("key list v").contains("any 2 of 3 pieces of set"))
        try expect("init --kdf interactive --passphrase-file two w")
        let other = try coffer("key check --share-file p0 --share-file p1 w")
        #expect(other.status == 4)
        for words in ["--threshold 1", "--threshold 4", "--count 256 --threshold 2"] {
            try expect("key add --passphrase-file one \(words) v shares", 2)
        }
    }

    @Test func thePublicKeyOfSeals() throws {
        let one = try expect("key export-public --passphrase-file one v")
        #expect(one.split(separator: "\n").contains { $0.hasPrefix("coffer-seal-1:") })
        #expect(try expect("key export-public --passphrase-file one v") == one)
        #expect(try expect("key rotate --passphrase-file one v").contains("another key"))
        #expect(try expect("key export-public --passphrase-file one v") != one)
        try expect("key export-public --passphrase-file two v", 4)
    }

    @Test func slotsAreRemovedRelabelledAndReplaced() throws {
        try expect("key add --passphrase-file one --label usb v key-file file")
        try expect("key label --passphrase-file one v usb drawer")
        #expect(try expect("key list v").contains("\"drawer\""))
        let old = try slots()[0]
        try expect("key change-passphrase --passphrase-file one --new-passphrase-file two --kdf interactive v")
        try expect("key check --passphrase-file one v", 4)
        try expect("key check --passphrase-file two v")
        #expect(try !slots().contains(old))
        #expect(
            try sh("grep -c \(old) v/coffer.json v/coffer.json.previous || true").split(separator: "\n") == [
                "v/coffer.json:0", "v/coffer.json.previous:0",
            ])
        try expect("key remove --passphrase-file two v drawer")
        try expect("key check --key-file file v", 4)
        // Not the last one.
        let last = try slots()[0]
        let refused = try coffer("key remove --passphrase-file two v \(last)")
        #expect(refused.status == 1 && refused.errors.contains("last slot"))
        try expect("key remove --passphrase-file two v nothing", 1)
        try expect("key remove --passphrase-file one v \(last)", 4)
        #expect(try slots() == [last])
    }

    /// The version before is good for going back by hand.
    @Test func theVersionBeforeOpens() throws {
        try expect("key add --passphrase-file one v key-file file")
        _ = try sh("cp -r v w; cp w/coffer.json.previous w/coffer.json")
        try expect("key check --passphrase-file one --accept-changed-vault w")
        try expect("key check --key-file file --accept-changed-vault w", 4)
    }

    @Test func aVaultWithoutAPassphrase() throws {
        _ = try sh("cat > pub <<'END'\n\(try expect("keygen identity"))\nEND")
        let made = try expect("init --recipient pub --recovery-code w")
        #expect(made.contains("recovery code"))
        try expect("key check --identity identity w")
        try expect("key check --passphrase-file one w", 4)
        try expect("init --key-file file x")
        try expect("key check --key-file file x")
        #expect(try expect("key list x").hasPrefix("keyfile"))
    }

    @Test func aLockedIdentity() throws {
        // The passphrase of an identity is asked for on a terminal; `script` is one.
        _ = try sh("cat > pub <<'END'\n\(try expect("keygen --passphrase-file two --kdf interactive identity"))\nEND")
        #expect(try sh("grep -c COFFER-LOCKED-IDENTITY-1: identity") == "1")
        try expect("key add --passphrase-file one v recipient pub")
        try expect("key check --identity identity v", 12)
    }

    /// Where there is no terminal, a program that asks does.
    @Test func aProgramThatAsks() throws {
        let program = try #require(CofferProgram.path)
        _ = try sh("printf '#!/bin/sh\\necho \"$1\" > asked; cat one\\n' > ask; chmod +x ask")
        #expect(
            try sh("COFFER_ASKPASS=./ask COFFER_STATE_DIR=$PWD/state setsid '\(program)' key check v < /dev/null")
                .hasPrefix("opens slot passphrase"))
        #expect(try sh("cat asked").contains("passphrase for 'v'"))
        #expect(
            try sh(
                "SSH_ASKPASS=./ask DISPLAY=:0 COFFER_STATE_DIR=$PWD/state setsid '\(program)' key check v < /dev/null"
            )
            .hasPrefix("opens slot"))
        #expect(
            try sh(
                "COFFER_ASKPASS=false COFFER_STATE_DIR=$PWD/state setsid '\(program)' key check v < /dev/null 2> errors || echo $?"
            ) == "12")
        #expect(try sh("cat errors").contains("'false' failed"))
    }
}
