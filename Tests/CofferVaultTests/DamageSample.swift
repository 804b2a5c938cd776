import CofferCrypto
import CofferFormat
import Randomness

/// A small settled file in one of the states that programs leave files in, with what it holds.
struct DamageSample {
    let ring: KeyRing
    let cipher: CipherSuite
    /// The stored bytes.
    let stored: [UInt8]
    let model: ByteModel

    /// The ways in which the samples come about.
    static let names = [
        "empty", "one byte", "4095 bytes", "4096 bytes", "4097 bytes", "three blocks", "twenty blocks", "holes",
        "appends",
        "cuts", "punched", "emptied",
    ]

    /// Makes the sample called `name` in `directory`, where two of the same name differ in their bytes.
    init(_ name: String, cipher: CipherSuite, in directory: TemporaryDirectory, seed: UInt64 = 1) throws {
        ring = try fixedRing()
        self.cipher = cipher
        var random = SeededRandom(seed: seed)
        let path = directory.file("\(name) \(seed)")
        let file = try OpenContents(path, ring: ring, cipher: cipher)
        var model = ByteModel()
        for operation in Self.operations(name, using: &random) {
            try file.perform(operation)
            operation.apply(to: &model)
        }
        try file.settle()
        self.model = model
        stored = try rawBytes(path)
    }

    private static func operations(_ name: String, using random: inout SeededRandom) -> [FileOperation] {
        let block = 4096
        switch name {
        case "empty": return []
        case "one byte": return [.write(data: random.bytes(1), offset: 0)]
        case "4095 bytes": return [.write(data: random.bytes(4095), offset: 0)]
        case "4096 bytes": return [.write(data: random.bytes(4096), offset: 0)]
        case "4097 bytes": return [.write(data: random.bytes(4097), offset: 0)]
        case "three blocks": return [.write(data: random.bytes(3 * block - 1000), offset: 0)]
        case "twenty blocks": return [.write(data: random.bytes(20 * block), offset: 0)]
        case "holes":
            return [
                .write(data: random.bytes(2 * block), offset: 0),
                .write(data: random.bytes(block), offset: 6 * block),
                .write(data: random.bytes(100), offset: 10 * block),
                .write(data: random.bytes(block), offset: 8 * block),
            ]
        case "appends":
            return [1, 5000, 3191, 4096, 10, 9000].reduce(into: []) { operations, count in
                let offset = operations.reduce(0) { sum, operation in
                    if case .write(let data, _) = operation { sum + data.count } else { sum }
                }
                operations.append(.write(data: random.bytes(count), offset: offset))
            }
        case "cuts":
            return [
                .write(data: random.bytes(10 * block), offset: 0), .resize(5 * block + 2000), .resize(9 * block + 7),
                .resize(7 * block + 50), .write(data: random.bytes(10), offset: 7 * block + 50),
            ]
        case "punched":
            return [
                .write(data: random.bytes(9 * block), offset: 0), .punch(offset: 2 * block, count: 3 * block),
                .punch(offset: 6 * block - 10, count: block + 20), .write(data: random.bytes(block), offset: 3 * block),
            ]
        default:
            return [
                .write(data: random.bytes(3 * block), offset: 0), .resize(0),
                .write(data: random.bytes(2 * block + 5), offset: 0),
            ]
        }
    }

    /// How many blocks are stored.
    var blockCount: Int { (stored.count - 32 + 4127) / 4128 }

    /// Where block `index` lies in the stored bytes.
    func range(ofBlock index: Int) -> Range<Int> {
        (32 + 4128 * index)..<min(32 + 4128 * (index + 1), stored.count)
    }
}
