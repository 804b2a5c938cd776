import CofferCrypto

extension VaultConfig {
    /// Reads a configuration's members: each must be there once, and no other.
    init(parsing bytes: [UInt8]) throws(ConfigError) {
        let members = try ConfigParser.parse(bytes)
        let known: Set<String> = ["format", "vault", "cipher", "name_max", "counter", "ring", "slots", "mac"]
        for member in members where !known.contains(member.name) {
            throw .field(member.name, problem: "is not a member of format 1")
        }

        // A later version is known by its first member, whatever else it changed.
        guard members.first?.name == "format" else { throw .field("format", problem: "is not the first member") }

        func scalar(_ name: String) -> KeySlot.Value? {
            guard case .scalar(let value)? = members.first(where: { $0.name == name })?.value else { return nil }
            return value
        }
        func number(_ name: String) throws(ConfigError) -> UInt64 {
            guard case .number(let number)? = scalar(name) else {
                throw .field(name, problem: "is missing or no number")
            }
            return number
        }
        func text(_ name: String) throws(ConfigError) -> String {
            guard case .text(let text)? = scalar(name) else { throw .field(name, problem: "is missing or no text") }
            return text
        }

        let format = try number("format")
        guard format == Self.currentFormat else {
            if format > Self.currentFormat { throw .newerFormat(Int(format)) }
            throw .field("format", problem: "is \(format), which no version had")
        }
        guard let vaultID = Hex.decode(try text("vault")) else {
            throw .field("vault", problem: "is not 32 hexadecimal digits")
        }
        guard let cipher = CipherSuite(name: try text("cipher")) else {
            throw .field("cipher", problem: "is not one that this version knows")
        }
        guard let ring = Base64URL.decode(try text("ring")) else { throw .field("ring", problem: "is not base64url") }
        guard case .list(let slots)? = members.first(where: { $0.name == "slots" })?.value else {
            throw .field("slots", problem: "is missing or no list")
        }
        self.init(
            vaultID: vaultID, cipher: cipher, nameMax: Int(try number("name_max")), counter: try number("counter"),
            ring: ring, slots: slots.map { KeySlot(members: $0) })
        try check()
    }

    /// The file's text up to where the 64 digits of its MAC go.
    ///
    ///     {
    ///       "format": 1,
    ///       …
    ///       "slots": [
    ///         {
    ///           "type": "passphrase",
    ///           …
    ///           "mac": "<64 hex digits>"
    ///         }
    ///       ],
    ///       "mac": "
    var textBeforeMAC: String {
        let slotTexts = slots.map { slot in
            let lines = slot.members.map { "      \(Self.quoted($0.name)): \(Self.written($0.value))" }
            return "    {\n" + lines.joined(separator: ",\n") + "\n    }"
        }
        return """
            {
              "format": \(format),
              "vault": \(Self.quoted(Hex.encode(vaultID))),
              "cipher": \(Self.quoted(cipher.name)),
              "name_max": \(nameMax),
              "counter": \(counter),
              "ring": \(Self.quoted(Base64URL.text(ring))),
              "slots": [
            \(slotTexts.joined(separator: ",\n"))
              ],
              "mac": "
            """
    }

    private static func written(_ value: KeySlot.Value) -> String {
        switch value {
        case .text(let text): quoted(text)
        case .number(let number): String(number)
        }
    }

    // Escapes what JSON requires and nothing else; control characters as \u00xx.
    private static func quoted(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": quoted += "\\" + String(scalar)
            case "\u{0}"..."\u{1f}": quoted += "\\u00" + Hex.encode([UInt8(scalar.value)])
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}
