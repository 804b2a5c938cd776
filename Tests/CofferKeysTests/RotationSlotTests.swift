import CofferCrypto
import CofferDisk
import CofferFormat
import FoundationEssentials
import Glibc
import Testing

@testable import CofferKeys

/// What a rotation does to the configuration.
struct RotationSlotTests {
    private func load(_ fixture: SlotTests.Fixture, _ name: String = ConfigFile.name) throws -> ConfigFile {
        try ConfigFile(parsing: #require(fixture.directory.contents(name)))
    }

    @Test func everySlotOpensAfterwardsWithoutHavingBeenAsked() throws {
        var fixture = try SlotTests.Fixture()
        for index in fixture.makers.indices { _ = try fixture.add(index) }
        let before = try load(fixture)
        let (ringKey, fingerprint) = (fixture.changes.vault.ringKey, fixture.changes.vault.fingerprints[0])
        for round in 1...3 {
            try fixture.changes.beginRotation()
            #expect(fixture.changes.isRotating)
            #expect(Set(fixture.changes.vault.fingerprints.keys) == [UInt8(round - 1), UInt8(round)])
            #expect(try fixture.opening() == fixture.makers.indices.map { _ in true })
            try fixture.changes.endRotation()
            #expect(!fixture.changes.isRotating && Array(fixture.changes.vault.fingerprints.keys) == [UInt8(round)])
            #expect(try fixture.opening() == fixture.makers.indices.map { _ in true })
        }
        #expect(fixture.changes.vault.fingerprints[3] != fingerprint)
        // What was known before opens neither the file nor the version before it.
        for name in [ConfigFile.name, "coffer.json.previous"] {
            let file = try load(fixture, name)
            #expect(throws: KeysError.self) { try VaultUnlocker.open(file, with: ringKey) }
            #expect(file.unverified.ring != before.unverified.ring)
        }
        // The slots are the same ones, and can still be changed.
        #expect(fixture.changes.vault.config.slots.map(\.id) == before.unverified.slots.map(\.id))
        try fixture.changes.remove(fixture.changes.vault.config.slots[1])
        #expect(try fixture.opening() == [false, true, true, true, true, true])
    }

    @Test func whatWasRemovedOpensNothingOfIt() throws {
        var fixture = try SlotTests.Fixture()
        let slot = try fixture.add(1)
        let old = try load(fixture)
        try fixture.changes.remove(slot)
        try fixture.changes.beginRotation()
        // Its holder has the old file, and so the ring key of then, and the vault's key.
        let held = try VaultUnlocker.unlock(old, with: fixture.openers[1] as? KeyFileSlot ?? #require(nil))
        let new = try load(fixture)
        #expect(throws: KeysError.self) { try VaultUnlocker.open(new, with: held.ringKey) }
        #expect(throws: ConfigError.self) { try new.verified(with: held.ring) }
        #expect(throws: KeysError.self) {
            try VaultUnlocker.open(try load(fixture, "coffer.json.previous"), with: held.ringKey)
        }
    }

    /// A slot of a version without public keys would be lost, and is not.
    @Test func slotsThatCannotBeRenewedAreNamed() throws {
        var fixture = try SlotTests.Fixture()
        let slot = try fixture.add(0)
        try fixture.changes.add(Unrenewable(), label: "")
        let bytes = try #require(fixture.directory.contents(ConfigFile.name))
        let ids = fixture.changes.vault.config.slots.map(\.id).filter { $0 != slot.id }
        #expect(throws: KeysError.unrenewable([try #require(ids.last)])) { try fixture.changes.beginRotation() }
        #expect(!fixture.changes.isRotating && fixture.directory.contents(ConfigFile.name) == bytes)
    }

    private struct Unrenewable: SlotMaker, SlotType {
        typealias Slot = Unrenewable
        static let typeName = "future"
        static func check(_ slot: KeySlot, path: String) throws(ConfigError) -> UInt64 { 0 }
        static func renewal(for key: SecretKey) throws(CryptoError) -> KeySlot.Member? { nil }
        func key(for slot: KeySlot) throws(KeysError) -> SecretKey { throw .wrongSecret(type: "future") }
        func newMembers() throws(KeysError) -> (members: [KeySlot.Member], key: SecretKey) {
            do {
                return ([], try SecretKey.random())
            } catch {
                throw KeysError(error)
            }
        }
    }

    @Test func theLastEpoch() throws {
        let directory = try TemporaryDirectory()
        let store = ConfigStore(disk: Disk(), directory: directory.descriptor)
        let made = try TestVault("one").made
        let ring = try KeyRing(keys: [254: SecretKey.random()])
        var config = made.config
        config.ring = try ring.wrapped(under: made.ringKey, vaultID: config.vaultID)
        let file = try ConfigFile(sealing: config, with: ring)
        try store.create(file)
        var changes = KeyChanges(store, try VaultUnlocker.open(file, with: made.ringKey))
        try changes.beginRotation()
        try changes.endRotation()
        #expect(changes.vault.ring.newest == 255)
        #expect(throws: KeysError.noEpochLeft) { try changes.beginRotation() }
        let opened = try VaultUnlocker.unlock(try store.load(), with: PassphraseSlot(try Passphrase("one")))
        #expect(Array(opened.fingerprints.keys) == [255])
    }

    /// A public key that somebody put in the place of another's does not open, and is noticed.
    @Test func anExchangedPublicKeyIsNoticed() throws {
        var fixture = try SlotTests.Fixture()
        _ = try fixture.add(3)
        let other = try XWing.publicKey(of: SecretKey.random())
        let file = try load(fixture)
        var config = file.unverified
        config.slots[1].set("renewal", to: .text(Base64URL.text(other)))
        let changed = try ConfigFile(sealing: config, with: fixture.changes.vault.ring)
        // Its holder finds that the slot was changed, though the MACs are right.
        #expect(throws: KeysError.wrongSecret(type: "recovery")) {
            try VaultUnlocker.unlock(changed, with: fixture.openers[3] as? RecoverySlot ?? #require(nil))
        }
    }
}
