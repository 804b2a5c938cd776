import CofferCrypto
import Testing

struct SecretKeyTests {
    @Test func copiesAndCompares() throws {
        let bytes = Random.bytes(32)
        let key = try SecretKey(copying: bytes)
        #expect(key.withBytes { Array($0) } == bytes)
        #expect(key.isEqual(to: try SecretKey(copying: bytes)))
        #expect(!key.isEqual(to: try .random()))
        for count in [0, 31, 33] {
            #expect(throws: CryptoError.invalidParameter) { try SecretKey(copying: Random.bytes(count)) }
        }
    }

    @Test func aFillingThatFailsIsPassedOn() {
        #expect(throws: CryptoError.notAuthentic) {
            try SecretKey { (_) throws(CryptoError) in throw .notAuthentic }
        }
    }

    @Test func subkeysDiffer() throws {
        let key = try SecretKey.random()
        let subkeys = try KeyPurpose.allCases.map { purpose in try key.subkey(purpose).withBytes { Array($0) } }
        #expect(Set(subkeys).count == KeyPurpose.allCases.count)
        #expect(KeyPurpose.allCases.map(\.rawValue) == Array(1...12))
        let other = try SecretKey.random()
        #expect(try other.subkey(.contents).withBytes { Array($0) } != subkeys[0])
    }

    @Test func wiping() {
        var bytes = Random.bytes(40)
        wipe(&bytes)
        #expect(bytes == [UInt8](repeating: 0, count: 40))
        var empty: [UInt8] = []
        wipe(&empty)
        #expect(empty.isEmpty)
    }

    @Test func comparing() {
        #expect(constantTimeEqual([], []) && constantTimeEqual([1, 2], [1, 2]))
        #expect(!constantTimeEqual([1, 2], [1, 3]) && !constantTimeEqual([1], [1, 0]) && !constantTimeEqual([], [0]))
    }

    @Test func randomBytesDiffer() {
        #expect(Set((0..<100).map { _ in Random.bytes(16) }).count == 100)
        #expect(Random.bytes(0).isEmpty)
    }

    @Test func argon2idRefusesWhatItCannotDo() throws {
        let salt = [UInt8](repeating: 1, count: Argon2id.saltCount)
        let one = try Argon2id.key(passphrase: [1], salt: salt, operationsLimit: 1, memoryLimit: 8 << 20)
        let same = try Argon2id.key(passphrase: [1], salt: salt, operationsLimit: 1, memoryLimit: 8 << 20)
        let other = try Argon2id.key(passphrase: [2], salt: salt, operationsLimit: 1, memoryLimit: 8 << 20)
        #expect(one.isEqual(to: same) && !one.isEqual(to: other))
        #expect(throws: CryptoError.invalidParameter) {
            try Argon2id.key(passphrase: [], salt: salt, operationsLimit: 1, memoryLimit: 8 << 20)
        }
        #expect(throws: CryptoError.invalidParameter) {
            try Argon2id.key(passphrase: [1], salt: [1], operationsLimit: 1, memoryLimit: 8 << 20)
        }
    }
}
