import CofferCrypto
import Testing

@testable import CofferFormat

/// Directory ids and coffer.dir against the vectors.
struct DirectoryVectorTests {
    private struct Vectors: Decodable {
        struct Child: Decodable {
            let parent: HexBytes
            let name: HexBytes
            let id: HexBytes
        }
        struct Identity: Decodable {
            let derived: HexBytes
            let pins: [HexBytes]
            let marked: Bool
            let closed: Bool

            var identity: DirectoryIdentity {
                DirectoryIdentity(
                    derived: DirectoryID(bytes: derived.bytes), pins: pins.map { DirectoryID(bytes: $0.bytes) },
                    isMarked: marked, isClosed: closed)
            }
        }
        struct File: Decodable {
            let identities: [Identity]
            let file: HexBytes
        }
        struct PassedOver: Decodable {
            let whyText: String
            let file: HexBytes
        }
        struct Invalid: Decodable {
            let errorText: String
            let file: HexBytes
        }
        struct Records: Decodable {
            let vaultKey: HexBytes
            let epoch: UInt8
            let place: HexBytes
            let files: [File]
            let passedOver: [PassedOver]
            let invalid: [Invalid]
        }
        let vaultId: HexBytes
        let root: HexBytes
        let children: [Child]
        let records: Records
    }

    private let vectors: Vectors
    private let records: DirectoryRecords
    private let place: DirectoryID

    init() throws {
        vectors = try loadVector("directories")
        let key = try SecretKey(copying: vectors.records.vaultKey.bytes)
        // An older key beside it: records are tried under every epoch and written under the newest.
        let ring = try KeyRing(keys: [vectors.records.epoch: key, 0: SecretKey.random()])
        records = DirectoryRecords(ring: ring)
        place = DirectoryID(bytes: vectors.records.place.bytes)
    }

    @Test func ids() {
        #expect(DirectoryID.root(vaultID: vectors.vaultId.bytes).bytes == vectors.root.bytes)
        for child in vectors.children {
            #expect(DirectoryID(bytes: child.parent.bytes).child(child.name.bytes).bytes == child.id.bytes)
        }
    }

    @Test func recordsBothWays() throws {
        for file in vectors.records.files {
            #expect(try records.encode(file.identities.map(\.identity)) == file.file.bytes)
            for identity in file.identities.map(\.identity) {
                #expect(try records.decode(file.file.bytes, derived: identity.derived) == identity)
            }
            let stranger = DirectoryID.random()
            #expect(try records.decode(file.file.bytes, derived: stranger) == DirectoryIdentity(derived: stranger))
        }
    }

    @Test func recordsThatDoNotCountArePassedOver() throws {
        for vector in vectors.records.passedOver {
            let identity = try records.decode(vector.file.bytes, derived: place)
            #expect(identity == DirectoryIdentity(derived: place), "\(vector.whyText)")
        }
    }

    @Test func whatIsNoRecordsFile() {
        for vector in vectors.records.invalid {
            let error: FormatError = vector.errorText == "malformed" ? .malformed : .unsupported
            #expect(throws: error) { try records.decode(vector.file.bytes, derived: place) }
        }
    }

    @Test func tooManyRecordsAreRefused() {
        let pins = (0...DirectoryRecords.maximumCount).map { _ in DirectoryID.random() }
        #expect(throws: FormatError.malformed) {
            try records.encode([DirectoryIdentity(derived: place, pins: pins)])
        }
    }

    @Test func identitiesCreateUnderThePin() {
        let pins = [DirectoryID.random(), DirectoryID.random()]
        #expect(DirectoryIdentity(derived: place).creating == place)
        #expect(DirectoryIdentity(derived: place).accepted == [place])
        #expect(DirectoryIdentity(derived: place, pins: pins).creating == pins[0])
        #expect(DirectoryIdentity(derived: place, pins: pins).accepted == pins + [place])
        #expect(DirectoryIdentity(derived: place, pins: [place, pins[0]]).accepted == [place, pins[0]])
    }
}
