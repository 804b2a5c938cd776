import CofferDisk
import CofferFormat
import Glibc
import Testing

@testable import CofferKeys

/// What a machine remembers of vaults.
struct KnownVaultsTests {
    private let state: TemporaryDirectory
    private let known: KnownVaults

    init() throws {
        state = try TemporaryDirectory()
        known = KnownVaults(stateDirectory: state.path + "/deep/coffer")
    }

    private func sighting(
        _ id: String = "aa", keys: [UInt8: String] = [0: "k0"], counter: UInt64 = 5, at location: String = "/here"
    ) -> KnownVaults.Sighting {
        .init(vaultID: id, fingerprints: keys, counter: counter, location: location)
    }

    private func change(_ sighting: KnownVaults.Sighting, accepting: Bool = false) throws -> VaultChange? {
        do {
            #expect(try known.meet(sighting, acceptingChange: accepting) == nil)
            return nil
        } catch KeysError.vaultChanged(let change) {
            return change
        }
    }

    private var memoryPath: String { state.path + "/deep/coffer/known-vaults.json" }

    @Test func theFirstSightIsBelieved() throws {
        #expect(try change(sighting()) == nil)
        #expect(try change(sighting()) == nil)
        #expect(state.contents("deep/coffer/known-vaults.json") != nil)
        #expect(state.contents("deep/coffer/known-vaults.json.new") == nil)
    }

    @Test func theSameVaultElsewhereIsRemembered() throws {
        #expect(try change(sighting()) == nil)
        #expect(try change(sighting(at: "/there")) == nil)
        #expect(try change(sighting("bb", keys: [0: "other"], at: "/there")) != nil)
    }

    @Test func swappedKeysAreRefused() throws {
        #expect(try change(sighting()) == nil)
        #expect(try change(sighting(keys: [0: "other"])) == .keys(vaultID: "aa"))
        #expect(try change(sighting(keys: [0: "other"], counter: 9, at: "/there")) == .keys(vaultID: "aa"))
        // No epoch in common shows nothing.
        #expect(try change(sighting(keys: [1: "k1"], counter: 9)) == .keys(vaultID: "aa"))
        // What was refused was not remembered.
        #expect(try change(sighting()) == nil)
    }

    @Test func rotationIsFollowed() throws {
        #expect(try change(sighting()) == nil)
        #expect(try change(sighting(keys: [0: "k0", 1: "k1"], counter: 6)) == nil)
        #expect(try change(sighting(keys: [1: "k1"], counter: 7)) == nil)
        // Whoever has the keys of before cannot undo it: neither with the old ones alone, nor with others beside them.
        #expect(try change(sighting(counter: 9)) == .keys(vaultID: "aa"))
        #expect(try change(sighting(keys: [0: "k0", 2: "k2"], counter: 9)) == .keys(vaultID: "aa"))
        // The dropped epoch is still known.
        #expect(try change(sighting(keys: [0: "other", 1: "k1"], counter: 8)) == .keys(vaultID: "aa"))
    }

    @Test func aKnownPlaceWithANewVaultIsRefused() throws {
        #expect(try change(sighting()) == nil)
        let expected = VaultChange.vault(location: "/here", knownID: "aa", foundID: "bb")
        #expect(try change(sighting("bb")) == expected)
        // Even one that is known from elsewhere.
        #expect(try change(sighting("bb", at: "/there")) == nil)
        #expect(try change(sighting("bb")) == expected)
        #expect(try change(sighting("bb"), accepting: true) == nil)
        #expect(try change(sighting("bb")) == nil)
    }

    @Test func anOlderCounterIsRefused() throws {
        #expect(try change(sighting(counter: 5)) == nil)
        #expect(try change(sighting(counter: 7)) == nil)
        #expect(try change(sighting(counter: 6)) == .older(knownCounter: 7, foundCounter: 6))
        #expect(try change(sighting(counter: 6, at: "/copy")) == .older(knownCounter: 7, foundCounter: 6))
        #expect(try change(sighting(counter: 6), accepting: true) == nil)
        #expect(try change(sighting(counter: 6)) == nil)
    }

    @Test func acceptingReplacesWhatWasKnown() throws {
        #expect(try change(sighting()) == nil)
        #expect(try change(sighting(keys: [0: "other"], counter: 1), accepting: true) == nil)
        #expect(try change(sighting(keys: [0: "other"], counter: 1)) == nil)
        #expect(try change(sighting()) == .keys(vaultID: "aa"))
    }

    // MARK: - The file

    @Test(arguments: [
        "", "{", "[]", "{\"version\": 1}", "{\"version\": 2, \"vaults\": {}, \"locations\": {}}", "\0\0\0\0",
    ])
    func damageIsAnErrorThatNamesTheFile(text: String) throws {
        #expect(try change(sighting()) == nil)
        state.put("deep/coffer/known-vaults.json", Array(text.utf8))
        let error = #expect(throws: KeysError.self) { try known.meet(sighting(), acceptingChange: false) }
        guard case .damagedMemory(memoryPath, _)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        // Accepting a changed vault is not accepting a lost memory.
        #expect(throws: KeysError.self) { try known.meet(sighting(), acceptingChange: true) }
        #expect(state.contents("deep/coffer/known-vaults.json") == Array(text.utf8))
    }

    /// A file in the way of the directory stands for every reason that nothing can be written, for the superuser too.
    @Test func anUnwritablePlaceIsAWarning() throws {
        state.put("file", [])
        let blocked = KnownVaults(stateDirectory: state.path + "/file/coffer")
        #expect(try blocked.meet(sighting(), acceptingChange: false)?.contains("known-vaults.json") == true)
        let nowhere = KnownVaults(stateDirectory: "/proc/coffer")
        #expect(
            try nowhere.meet(sighting(), acceptingChange: false)?.contains("/proc/coffer/known-vaults.json") == true)
        let none = KnownVaults(stateDirectory: nil)
        #expect(try none.meet(sighting(), acceptingChange: false) != nil)
    }

    /// Where the lock cannot be had, what is remembered still counts.
    @Test func anUnwritableMemoryStillCounts() throws {
        #expect(try change(sighting()) == nil)
        unlink(state.path + "/deep/coffer/known-vaults.lock")
        mkdir(state.path + "/deep/coffer/known-vaults.lock", 0o700)
        #expect(try change(sighting(keys: [0: "other"])) == .keys(vaultID: "aa"))
        #expect(try known.meet(sighting(), acceptingChange: false) == nil)
        #expect(try known.meet(sighting(counter: 6), acceptingChange: false) != nil)
    }

    @Test func manyAtOnceLoseNothing() async throws {
        let known = known
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<40 {
                let sighting = sighting("id\(number)", keys: [0: "k\(number)"], at: "/place\(number)")
                group.addTask { _ = try known.meet(sighting, acceptingChange: false) }
            }
            try await group.waitForAll()
        }
        for number in 0..<40 {
            #expect(try change(sighting("id\(number)", keys: [0: "other"], at: "/x")) == .keys(vaultID: "id\(number)"))
        }
    }

    @Test func theEnvironmentSaysWhere() throws {
        let path = state.path
        for (environment, file) in [
            (["COFFER_STATE_DIR": path + "/one", "XDG_STATE_HOME": "/proc"], "one/known-vaults.json"),
            (["XDG_STATE_HOME": path + "/two", "HOME": "/proc"], "two/coffer/known-vaults.json"),
            (["XDG_STATE_HOME": "relative", "HOME": path], ".local/state/coffer/known-vaults.json"),
            (["HOME": path + "/three", "COFFER_STATE_DIR": ""], "three/.local/state/coffer/known-vaults.json"),
        ] {
            #expect(try KnownVaults.standard(environment: environment).meet(sighting(), acceptingChange: false) == nil)
            #expect(state.contents(file) != nil)
        }
    }

    // MARK: - Opening

    @Test func openingChecksTheMemoryLast() throws {
        let place = try TemporaryDirectory()
        let store = ConfigStore(disk: Disk(), directory: place.descriptor)
        let vault = try TestVault()
        let newer = try vault.sealed { $0.counter = 2 }
        try store.create(newer)
        let opening = VaultOpening(known: known, acceptingChange: false)
        let secret = PassphraseSlot(vault.passphrase)
        func open(_ opening: VaultOpening, _ secret: PassphraseSlot) throws -> UInt64 {
            try opening.open(disk: Disk(), directory: place.descriptor, location: place.path, secret: secret)
                .vault.config.counter
        }
        #expect(throws: KeysError.wrongSecret(type: "passphrase")) {
            try open(opening, PassphraseSlot(Passphrase("wrong")))
        }
        #expect(try open(opening, secret) == 2)
        place.put("coffer.json", vault.made.file.bytes)
        #expect(throws: KeysError.vaultChanged(.older(knownCounter: 2, foundCounter: 1))) { try open(opening, secret) }
        #expect(try open(VaultOpening(known: known, acceptingChange: true), secret) == 1)
        // Another vault with the same passphrase, put in the place of the first.
        place.put("coffer.json", try TestVault().made.file.bytes)
        #expect(throws: KeysError.self) { try open(opening, secret) }
    }
}
