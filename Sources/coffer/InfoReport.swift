import CofferFormat
import CofferKeys
import CofferVault

/// What `coffer info` tells.
struct InfoReport: Encodable {
    /// A slot without its secrets.
    struct Slot: Encodable {
        let type: String
        let id: String
        let label: String?
        let created: String?
        let kdf: String?
        let opslimit: UInt64?
        let memlimit: UInt64?
        /// How many of how many pieces, and of which set.
        let threshold: UInt64?
        let count: UInt64?
        let set: String?
        /// Whom it is for: an identity's fingerprint.
        let recipient: String?

        init(_ slot: KeySlot) {
            type = slot.type
            id = slot.id
            label = slot.label.isEmpty ? nil : slot.label
            created = slot.text("created")
            kdf = slot.text("kdf")
            opslimit = slot.number("opslimit")
            memlimit = slot.number("memlimit")
            threshold = slot.number("threshold")
            count = slot.number("count")
            set = slot.text("set")
            recipient = RecipientSlot.recipient(of: slot)?.fingerprint
        }
    }

    let path: String
    let verified: Bool
    let format: Int
    let id: String
    let cipher: String
    let nameMax: Int
    let counter: UInt64
    let slots: [Slot]
    /// By epoch in decimal; only of a verified vault.
    let fingerprints: [String: String]?
    /// These, too, only of a verified vault.
    let foreignFiles: Int?
    let unreadableNames: Int?
    let emptyCiphertextFiles: Int?

    /// What to tell of `config`, which is verified if there are keys.
    init(_ config: VaultConfig, path: String, keys: UnlockedVault?, census: TreeCensus?) {
        self.path = path
        verified = keys != nil
        format = config.format
        id = Hex.encode(config.vaultID)
        cipher = config.cipher.name
        nameMax = config.nameMax
        counter = config.counter
        slots = config.slots.map { Slot($0) }
        fingerprints = keys.map { keys in
            Dictionary(uniqueKeysWithValues: keys.fingerprints.map { (String($0.key), $0.value) })
        }
        foreignFiles = census?.foreign
        unreadableNames = census?.unreadable
        emptyCiphertextFiles = census?.empty
    }

    /// One object.
    func json() throws(CommandError) -> String { try JSONText.pretty(self) }

    /// A line for each fact.
    var text: String {
        var lines = [
            ("vault", printable(path)),
            ("format", String(format)),
            ("id", id),
            ("cipher", cipher),
            ("longest name", "\(nameMax) bytes"),
            ("counter", String(counter)),
        ]
        for slot in slots { lines.append(("slot", slot.text)) }
        for (epoch, fingerprint) in (fingerprints ?? [:]).sorted(by: { $0.key < $1.key }) {
            lines.append(("key \(epoch)", fingerprint))
        }
        for (name, count) in [
            ("foreign files", foreignFiles), ("unreadable", unreadableNames), ("without bytes", emptyCiphertextFiles),
        ] {
            if let count { lines.append((name, String(count))) }
        }
        lines.append(
            (
                "verified",
                verified
                    ? "yes"
                    : "no: this is what coffer.json says, not more; --verify checks it, for which it has to be unlocked"
            ))
        return lines.map { $0.0 + String(repeating: " ", count: 15 - $0.0.count) + $0.1 }.joined(separator: "\n")
    }
}

extension InfoReport.Slot {
    /// The slot in a line.
    var text: String {
        var parts = ["\(printable(type)) \(id)"]
        if let label, !label.isEmpty { parts.append("\"\(printable(label))\"") }
        if let threshold, let count, let set {
            parts.append("any \(threshold) of \(count) pieces of set \(printable(set))")
        }
        if let recipient { parts.append("for identity \(recipient)") }
        if let created { parts.append("made \(printable(created))") }
        if let kdf, let opslimit, let memlimit {
            parts.append("\(printable(kdf)) with \(memlimit >> 20) MiB, \(opslimit) times over")
        }
        return parts.joined(separator: ", ")
    }
}
