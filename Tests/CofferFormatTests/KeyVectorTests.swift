import CofferCrypto
import Testing

@testable import CofferFormat

/// Sub-keys, headers, file keys and sizes against the vectors.
struct KeyVectorTests {
    private struct Keys: Decodable {
        struct Subkey: Decodable {
            let id: UInt64
            let key: HexBytes
        }
        let vaultKey: HexBytes
        let subkeys: [Subkey]
    }

    private struct Headers: Decodable {
        struct Valid: Decodable {
            let vaultKey: HexBytes
            let cipher: UInt8
            let epoch: UInt8
            let fileId: HexBytes
            let salt: HexBytes
            let header: HexBytes
            let fileKey: HexBytes
        }
        struct Invalid: Decodable {
            let header: HexBytes
            let errorText: String
        }
        let valid: [Valid]
        let invalid: [Invalid]
    }

    private struct Geometry: Decodable {
        struct Size: Decodable {
            let plain: Int
            let cipher: Int
        }
        let sizes: [Size]
        let damaged: [Int]
    }

    @Test func subkeys() throws {
        let vectors = try loadVector("keys", as: [Keys].self)
        #expect(vectors.count == 3)
        for vector in vectors {
            let key = try SecretKey(copying: vector.vaultKey.bytes)
            #expect(vector.subkeys.map(\.id) == KeyPurpose.allCases.map(\.rawValue))
            let ring = try KeyRing(keys: [5: key])
            for subkey in vector.subkeys {
                let purpose = try #require(KeyPurpose(rawValue: subkey.id))
                #expect(try key.subkey(purpose).withBytes { Array($0) } == subkey.key.bytes)
                #expect(ring.subkey(purpose, epoch: 5)?.withBytes { Array($0) } == subkey.key.bytes)
                #expect(ring.newestSubkey(purpose).withBytes { Array($0) } == subkey.key.bytes)
                #expect(ring.subkey(purpose, epoch: 4) == nil)
                #expect(ring.subkey(purpose, epoch: 255) == nil)
            }
        }
    }

    @Test func headersAndFileKeys() throws {
        let vectors = try loadVector("header", as: Headers.self)
        #expect(vectors.valid.count == 4)
        for vector in vectors.valid {
            let suite = try #require(CipherSuite(rawValue: vector.cipher))
            let made = FileHeader(
                cipher: suite, epoch: vector.epoch, fileID: vector.fileId.bytes, salt: vector.salt.bytes)
            #expect(made.bytes == vector.header.bytes)
            let parsed = try FileHeader(parsing: vector.header.bytes)
            #expect(parsed == made)
            #expect(parsed.cipher == suite && parsed.epoch == vector.epoch && parsed.fileID == vector.fileId.bytes)
            let contentsKey = try SecretKey(copying: vector.vaultKey.bytes).subkey(.contents)
            var key = [UInt8](repeating: 0, count: 32)
            key.withUnsafeMutableBytes { parsed.deriveKey(contentsKey: contentsKey, into: $0) }
            #expect(key == vector.fileKey.bytes)
        }
        for vector in vectors.invalid {
            let error: FormatError = vector.errorText == "malformed" ? .malformed : .unsupported
            #expect(throws: error, "\(vector.header)") { try FileHeader(parsing: vector.header.bytes) }
        }
    }

    @Test func anEmptiedFileKeepsItsIdAndNoMore() {
        let header = FileHeader(cipher: .aes256GCM, epoch: 0)
        let emptied = header.emptied(cipher: .chacha20Poly1305, epoch: 3)
        #expect(emptied.fileID == header.fileID)
        #expect(emptied.cipher == .chacha20Poly1305 && emptied.epoch == 3)
        #expect(Array(emptied.bytes[24...]) != Array(header.bytes[24...]))
    }

    @Test func sizes() throws {
        let vectors = try loadVector("geometry", as: Geometry.self)
        for size in vectors.sizes {
            #expect(BlockGeometry.cipherSize(plainSize: size.plain) == size.cipher)
            #expect(BlockGeometry.plainSize(cipherSize: size.cipher) == size.plain)
        }
        for size in vectors.damaged {
            #expect(BlockGeometry.plainSize(cipherSize: size) == nil, "\(size)")
            #expect(BlockGeometry.plausibleSize(cipherSize: size) >= 0)
        }
    }
}
