import CofferCrypto
import CofferDisk
import CofferFormat
import FoundationEssentials
import Glibc
import Testing

@testable import CofferKeys

/// Slots of every kind, alone and together.
struct SlotTests {
    /// A vault in a directory, and a secret of every kind.
    struct Fixture {
        let directory: TemporaryDirectory
        var changes: KeyChanges
        let openers: [any SlotType]
        let makers: [any SlotMaker]

        init() throws {
            let vault = try TestVault("first")
            directory = try TemporaryDirectory()
            let store = ConfigStore(disk: Disk(), directory: directory.descriptor)
            try store.create(vault.made.file)
            changes = KeyChanges(store, vault.made)
            let passphrase = try Passphrase("second")
            var strong = (0..<64).map { UInt8($0) }
            var typed = Array("a key that was typed\n".utf8)
            let (strongFile, typedFile) = (try KeyFile(consuming: &strong), try KeyFile(consuming: &typed))
            let code = try RecoveryCode.random()
            let identity = try Identity.random()
            let pieces = try NewShares(threshold: 2, count: 3)
            openers = [
                PassphraseSlot(passphrase), KeyFileSlot(strongFile), KeyFileSlot(typedFile), RecoverySlot(code),
                RecipientSlot(identity), try SharesSlot([pieces.shares[2], pieces.shares[0]]),
            ]
            makers = [
                NewPassphrase(passphrase, cost: .least), NewKeyFile(strongFile, cost: .least),
                NewKeyFile(typedFile, cost: .least), RecoverySlot(code), NewRecipient(identity.recipient),
                pieces,
            ]
        }

        /// Which of the secrets open what is on the disk.
        func opening() throws -> [Bool] {
            let file = try ConfigStore(disk: Disk(), directory: directory.descriptor).load()
            return try openers.map { opener in
                do {
                    let opened = try VaultUnlocker.unlock(file, with: opener)
                    #expect(opened.fingerprints == changes.vault.fingerprints)
                    return true
                } catch let error as KeysError {
                    switch error {
                    case .wrongSecret, .noSlot: return false
                    default: throw error
                    }
                }
            }
        }

        mutating func add(_ index: Int) throws -> KeySlot { try changes.add(makers[index], label: "slot \(index)") }
    }

    @Test func everyKindOpensTheSameVault() throws {
        var fixture = try Fixture()
        for index in fixture.makers.indices {
            _ = try fixture.add(index)
            #expect(try fixture.opening() == fixture.makers.indices.map { $0 <= index })
        }
        // The one that it was made with opens it still.
        let file = try ConfigFile(parsing: #require(fixture.directory.contents(ConfigFile.name)))
        #expect(file.unverified.slots.count == 7 && file.unverified.counter == 7)
        _ = try VaultUnlocker.unlock(file, with: PassphraseSlot(Passphrase("first")))
    }

    /// Any two kinds, added and removed in every order, side by side with the others or not.
    @Test func everyPairOfAddingAndRemoving() throws {
        for first in 0..<6 {
            for second in 0..<6 where second != first {
                var fixture = try Fixture()
                let (one, two) = (try fixture.add(first), try fixture.add(second))
                #expect(try fixture.opening() == (0..<6).map { $0 == first || $0 == second })
                try fixture.changes.remove(one)
                #expect(try fixture.opening() == (0..<6).map { $0 == second })
                _ = try fixture.add(first)
                try fixture.changes.remove(two)
                #expect(try fixture.opening() == (0..<6).map { $0 == first })
                // The version before has neither of those that were removed.
                let previous = try ConfigFile(parsing: #require(fixture.directory.contents("coffer.json.previous")))
                #expect(!previous.unverified.slots.contains { $0.id == one.id || $0.id == two.id })
            }
        }
    }

    @Test func aLabelIsChangedWithoutTheSlotsSecret() throws {
        var fixture = try Fixture()
        for index in fixture.makers.indices {
            let slot = try fixture.add(index)
            try fixture.changes.label(slot, "another \u{1F511} \(index)")
            #expect(
                try KeyChanges.find("another \u{1F511} \(index)", in: fixture.changes.vault.config.slots).id == slot.id)
        }
        #expect(try fixture.opening() == [Bool](repeating: true, count: 6))
    }

    @Test func aChangedPassphrase() throws {
        var fixture = try Fixture()
        let slot = try fixture.add(0)
        let new = try Passphrase("third")
        try fixture.changes.replace(slot, with: NewPassphrase(new, cost: .least))
        #expect(try fixture.opening()[0] == false)
        for name in [ConfigFile.name, "coffer.json.previous"] {
            let file = try ConfigFile(parsing: #require(fixture.directory.contents(name)))
            let opened = try VaultUnlocker.unlock(file, with: PassphraseSlot(new))
            #expect(opened.openedSlot?.label == "slot 0")
            #expect(throws: KeysError.wrongSecret(type: "passphrase")) {
                try VaultUnlocker.unlock(file, with: fixture.openers[0] as? PassphraseSlot ?? PassphraseSlot(new))
            }
        }
    }

    @Test func theLastSlotStays() throws {
        var fixture = try Fixture()
        let only = fixture.changes.vault.config.slots[0]
        for force in [false, true] {
            #expect(throws: KeysError.lastSlot) { try fixture.changes.remove(only, evenIfLast: force) }
        }
        // One that this version cannot use does not count, unless somebody knows better.
        try fixture.changes.add(NewToken(), label: "")
        #expect(throws: KeysError.lastSlot) { try fixture.changes.remove(only) }
        try fixture.changes.remove(only, evenIfLast: true)
        #expect(fixture.changes.vault.config.slots.map(\.type) == ["token"])
    }

    /// A later kind of slot is a type that opens, and one that makes.
    private struct NewToken: SlotMaker, SlotType {
        typealias Slot = NewToken
        static let typeName = "token"
        static func check(_ slot: KeySlot, path: String) throws(ConfigError) -> UInt64 { 0 }
        func key(for slot: KeySlot) throws(KeysError) -> SecretKey { throw .wrongSecret(type: "token") }
        func newMembers() throws(KeysError) -> (members: [KeySlot.Member], key: SecretKey) {
            do {
                return ([], try SecretKey.random())
            } catch {
                throw KeysError(error)
            }
        }
    }

    @Test func slotsAreFoundByIDAndLabel() throws {
        func slot(_ id: String, _ label: String) -> KeySlot {
            KeySlot(members: [
                .init(name: "id", value: .text(id)), .init(name: "label", value: .text(label)),
            ])
        }
        let slots = [slot("0123456789abcdef", "a"), slot("0123ffff00000000", "b"), slot("ffff000011112222", "b")]
        #expect(try KeyChanges.find("01234", in: slots).id == "0123456789abcdef")
        #expect(try KeyChanges.find("FFFF", in: slots).id == "ffff000011112222")
        #expect(try KeyChanges.find("a", in: slots).id == "0123456789abcdef")
        for name in ["0123", "b", "", "fff", "9999"] {
            #expect(throws: KeysError.noSuchSlot(name)) { try KeyChanges.find(name, in: slots) }
        }
    }

    @Test func somebodyElsesChangeIsNotOverwritten() throws {
        var fixture = try Fixture()
        var other = KeyChanges(
            ConfigStore(disk: Disk(), directory: fixture.directory.descriptor), fixture.changes.vault)
        _ = try fixture.add(1)
        #expect(throws: KeysError.changedMeanwhile) {
            try other.add(NewPassphrase(Passphrase("x"), cost: .least), label: "")
        }
        #expect(try fixture.opening()[1])
    }

    /// Many changes at random (10,000 where COFFER_SOAK is 1) of a configuration with a slot of every kind: none opens, none brings the program down, none makes a derivation cost more than it may.
    @Test func randomMutationsOpenNothing() throws {
        var fixture = try Fixture()
        for index in fixture.makers.indices { _ = try fixture.add(index) }
        let original = try #require(fixture.directory.contents(ConfigFile.name))
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed of the mutations of a configuration with all slots: \(seed)")
        var random = SeededGenerator(seed: seed)
        var (parsed, refusedByMAC) = (0, 0)
        let count = ProcessInfo.processInfo.environment["COFFER_SOAK"] == "1" ? 10_000 : 2_000
        for _ in 0..<count {
            var bytes = original
            for _ in 0..<Int.random(in: 1...2, using: &random) { mutate(&bytes, using: &random) }
            if bytes == original { continue }
            do {
                let file = try ConfigFile(parsing: bytes)
                parsed += 1
                // What a mutation may ask for is bounded by what the test can wait for.
                let isCheap = file.unverified.slots.allSatisfy {
                    ($0.number("memlimit") ?? 0) <= 64 << 20 && ($0.number("opslimit") ?? 0) < 8
                }
                let opener = fixture.openers[Int.random(in: 0..<fixture.openers.count, using: &random)]
                if !isCheap && (opener is PassphraseSlot || opener is KeyFileSlot) { continue }
                _ = try VaultUnlocker.unlock(file, with: opener)
                Issue.record("opened: \(String(decoding: bytes, as: UTF8.self))")
            } catch KeysError.config(.macMismatch) {
                refusedByMAC += 1
            } catch {
                #expect(error is ConfigError || error is KeysError)
            }
        }
        #expect(parsed > count / 10 && refusedByMAC > count / 100)
    }
}

extension SlotTests {
    /// Two programs that change slots at once: one of them is told so, or both changes are there.
    @Test func changesAtTheSameTime() async throws {
        let fixture = try Fixture()
        let directory = fixture.directory.descriptor
        let vault = fixture.changes.vault
        let made = await withTaskGroup(of: String?.self) { group in
            for number in 0..<8 {
                group.addTask {
                    // A description of its own, as another program has, for locks are that's.
                    var changes = KeyChanges(ConfigStore(disk: Disk(), directory: directory), vault)
                    do {
                        return try changes.add(NewPassphrase(Passphrase("\(number)"), cost: .least), label: "").id
                    } catch {
                        if case KeysError.changedMeanwhile = error { return nil }
                        Issue.record("\(error)")
                        return nil
                    }
                }
            }
            return await group.reduce(into: [String]()) { if let id = $1 { $0.append(id) } }
        }
        let file = try ConfigStore(disk: Disk(), directory: directory).load()
        #expect(made.count == 1 && file.unverified.slots.map(\.id).contains(made))
    }

    /// Who could read coffer.json before can read it after.
    @Test func ownerAndModeStay() throws {
        var fixture = try Fixture()
        let path = fixture.directory.path + "/coffer.json"
        chmod(path, 0o640)
        if geteuid() == 0 { chown(path, 1234, 1235) }
        _ = try fixture.add(3)
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o640)
        if geteuid() == 0 { #expect(status.st_uid == 1234 && status.st_gid == 1235) }
    }
}
