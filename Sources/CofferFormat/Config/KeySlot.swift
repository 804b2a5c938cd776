import CofferCrypto

/// One way into a vault as coffer.json holds it: a flat, ordered list of named strings and whole numbers.
///
/// What the members mean is the business of the slot's type. A slot of an unknown type is kept as it is, so that an
/// older version neither loses nor trips over what a newer one added.
public struct KeySlot: Equatable, Sendable {
    /// What a member holds.
    public enum Value: Equatable, Sendable {
        /// Any text.
        case text(String)
        /// A whole number, 0 … 2⁵³.
        case number(UInt64)
    }

    /// A name and its value.
    public struct Member: Equatable, Sendable {
        /// Unique within the slot.
        public let name: String
        /// What it holds.
        public let value: Value

        /// A member.
        public init(name: String, value: Value) {
            self.name = name
            self.value = value
        }
    }

    /// The members, in the order of the text.
    public private(set) var members: [Member]

    /// A slot of these members, whose names the caller has made sure are unique.
    public init(members: [Member]) {
        self.members = members
    }

    /// What the slot is, such as `passphrase`.
    public var type: String { text("type") ?? "" }

    /// The slot's id, 16 hexadecimal digits.
    public var id: String { text("id") ?? "" }

    /// What a person calls the slot: the name that it was given, or the label that it was made with.
    public var label: String { text("name") ?? text("label") ?? "" }

    /// The text of a member, or nil where there is none or it is a number.
    public func text(_ name: String) -> String? {
        guard case .text(let text)? = value(name) else { return nil }
        return text
    }

    /// The number of a member, or nil where there is none or it is a text.
    public func number(_ name: String) -> UInt64? {
        guard case .number(let number)? = value(name) else { return nil }
        return number
    }

    /// Whether there is a member of this name.
    public func has(_ name: String) -> Bool { value(name) != nil }

    /// Sets a member in its place, or adds it at the end.
    public mutating func set(_ name: String, to value: Value) {
        let member = Member(name: name, value: value)
        if let index = members.firstIndex(where: { $0.name == name }) {
            members[index] = member
        } else {
            members.append(member)
        }
    }

    /// What the wrap's tag and the slot's MAC cover.
    ///
    ///     for every member but the excluded, in ascending byte order of the names:
    ///     u32(length of name) ‖ name ‖ u32(length of value) ‖ value
    public func canonicalBytes(without excluded: String...) -> [UInt8] {
        let included = members.filter { !excluded.contains($0.name) }
            .sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        var bytes: [UInt8] = []
        for member in included {
            let value =
                switch member.value {
                case .text(let text): text
                case .number(let number): String(number)
                }
            for part in [member.name, value] {
                withUnsafeBytes(of: UInt32(part.utf8.count).littleEndian) { bytes.append(contentsOf: $0) }
                bytes.append(contentsOf: part.utf8)
            }
        }
        return bytes
    }

    private func value(_ name: String) -> Value? {
        members.first { $0.name == name }?.value
    }

    /// Checks what every slot of whatever type must have; `path` names the slot in errors.
    func check(path: String) throws(ConfigError) {
        guard let type = text("type"), !type.isEmpty else {
            throw .field("\(path).type", problem: "is missing or no text")
        }
        guard let id = text("id"), Hex.decode(id)?.count == 8 else {
            throw .field("\(path).id", problem: "is not 16 hexadecimal digits")
        }
        guard let mac = text("mac"), Hex.decode(mac)?.count == 32 else {
            throw .field("\(path).mac", problem: "is not 64 hexadecimal digits")
        }
    }
}
