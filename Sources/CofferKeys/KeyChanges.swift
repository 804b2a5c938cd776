import CofferCrypto
public import CofferFormat

/// Changes of a vault's slots. Each replaces coffer.json at once: a power cut or a full disk leaves the old file or the new one.
public struct KeyChanges {
    private let store: ConfigStore
    /// The vault as it is by now.
    public private(set) var vault: UnlockedVault

    /// For a vault that was opened from the store's configuration.
    public init(_ store: ConfigStore, _ vault: UnlockedVault) {
        self.store = store
        self.vault = vault
    }

    /// The slot that a person means: by its id, the first digits of one, or its whole label.
    public static func find(_ name: String, in slots: [KeySlot]) throws(KeysError) -> KeySlot {
        let found = slots.filter { slot in
            if slots.contains(where: { $0.id == name }) { return slot.id == name }
            return name.count >= 4 && slot.id.hasPrefix(name.lowercased()) || !name.isEmpty && slot.label == name
        }
        guard found.count == 1, let slot = found.first else { throw .noSuchSlot(name) }
        return slot
    }

    /// Adds a slot.
    @discardableResult
    public mutating func add(_ maker: some SlotMaker, label: String) throws(KeysError) -> KeySlot {
        guard vault.config.slots.count < VaultConfig.slotLimit else { throw .tooManySlots }
        let slot = try maker.makeSlot(holding: vault.ringKey, label: label, created: KeyTime.now())
        try change { $0.slots.append(slot) }
        return slot
    }

    /// Removes a slot, from the version before too. Unless told otherwise not the last one that a person could use; the very last one never.
    public mutating func remove(_ slot: KeySlot, evenIfLast: Bool = false) throws(KeysError) {
        let left = vault.config.slots.filter { $0.id != slot.id }
        let isLast = SlotTypes.isUsable(slot) && !left.contains { SlotTypes.isUsable($0) }
        if left.isEmpty || isLast && !evenIfLast { throw .lastSlot }
        try change(keepingOld: false) { $0.slots = left }
    }

    /// Gives a slot another label.
    public mutating func label(_ slot: KeySlot, _ text: String) throws(KeysError) {
        try change { config in
            for index in config.slots.indices where config.slots[index].id == slot.id {
                config.slots[index].set("name", to: .text(text))
            }
        }
    }

    /// Puts a new secret in a slot's place, in the version before too; the label stays.
    @discardableResult
    public mutating func replace(_ slot: KeySlot, with maker: some SlotMaker) throws(KeysError) -> KeySlot {
        let new = try maker.makeSlot(
            holding: vault.ringKey, label: slot.label, created: KeyTime.now())
        try change(keepingOld: false) { config in
            config.slots = config.slots.map { $0.id == slot.id ? new : $0 }
        }
        return new
    }

    // MARK: Rotation

    /// Whether a rotation of the vault's key was begun and not ended.
    public var isRotating: Bool { vault.ring.epochsNewestFirst.count > 1 }

    /// Gives the vault another key, beside the one it has, and every slot another ring key. From here on the vault's new data is sealed under it; what was removed
    /// before, or stands in older copies of the configuration, opens nothing of it.
    public mutating func beginRotation() throws(KeysError) {
        let ringKey: SecretKey
        let ring: KeyRing
        var slots: [KeySlot] = []
        var unrenewed: [String] = []
        do throws(CryptoError) {
            ringKey = try SecretKey.random()
            guard let more = try vault.ring.withAnotherEpoch() else { throw .notAuthentic }
            ring = more
            for slot in vault.config.slots {
                if let renewed = try SlotTypes.type(of: slot)?.renewing(slot, holding: ringKey) {
                    slots.append(renewed)
                } else {
                    unrenewed.append(slot.id)
                }
            }
        } catch {
            throw error == .notAuthentic ? .noEpochLeft : KeysError(error)
        }
        guard unrenewed.isEmpty else { throw .unrenewable(unrenewed) }
        try change(keepingOld: false, ring: ring, ringKey: ringKey) { $0.slots = slots }
    }

    /// Drops all of the vault's keys but the newest, once nothing is sealed under the others any more.
    public mutating func endRotation() throws(KeysError) {
        let ring: KeyRing
        do {
            ring = try vault.ring.newestOnly()
        } catch {
            throw KeysError(error)
        }
        try change(keepingOld: false, ring: ring) { _ in }
    }

    private mutating func change(
        keepingOld: Bool = true, ring newRing: KeyRing? = nil, ringKey newRingKey: SecretKey? = nil,
        _ body: (inout VaultConfig) -> Void
    ) throws(KeysError) {
        var config = vault.config
        body(&config)
        config.counter += 1
        let ring = newRing ?? vault.ring
        let ringKey = newRingKey ?? vault.ringKey
        let file: ConfigFile
        if newRing != nil {
            do {
                config.ring = try ring.wrapped(under: ringKey, vaultID: config.vaultID)
            } catch {
                throw KeysError(error)
            }
        }
        do {
            file = try ConfigFile(sealing: config, with: ring)
        } catch {
            throw .config(error)
        }
        // What would be refused when it is read must not be written.
        let opened = try VaultUnlocker.open(file, with: ringKey)
        for type in SlotTypes.all where config.slots.contains(where: { $0.type == type.typeName }) {
            try VaultUnlocker.requireAffordable(config, type)
        }
        try store.replace(vault.file, with: file, keepingOld: keepingOld)
        vault = opened
    }
}
