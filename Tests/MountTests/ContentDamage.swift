/// One way in which a stored file can be damaged.
struct ContentDamage: Sendable {
    let name: String
    /// Whether the file has holes: a stored block, four holes, a stored block.
    let isSparse: Bool
    /// Changes the stored bytes; gets those of another file of the same length too.
    let apply: @Sendable (inout [UInt8], _ other: [UInt8]) -> Void

    init(_ name: String, isSparse: Bool = false, _ apply: @escaping @Sendable (inout [UInt8], [UInt8]) -> Void) {
        self.name = name
        self.isSparse = isSparse
        self.apply = apply
    }

    private static let header = 32
    private static let block = 4128

    private static func range(_ index: Int) -> Range<Int> {
        header + block * index..<header + block * (index + 1)
    }

    /// What is done to files of three blocks, 10,000 bytes, and to sparse ones.
    static let all: [ContentDamage] = flips + cuts + growths + zeros + exchanges + holes

    private static let flips: [ContentDamage] = {
        let places =
            [("magic", 0), ("version", 4), ("cipher", 5), ("epoch", 6), ("flags", 7), ("id", 8), ("salt", 31)]
            + (0..<3).flatMap { index in
                let start = header + index * block
                return [
                    ("nonce \(index)", start), ("gap \(index)", start + 12), ("final \(index)", start + 15),
                    ("text \(index)", start + 16), ("late text \(index)", start + 1500),
                ]
            } + [("tag 0", header + block - 1), ("tag 1", header + 2 * block - 1), ("tag 2", 10_127)]
        return places.map { name, place in
            // The top bit of the last byte of info is the mark of the last block.
            ContentDamage("flip \(name)") { bytes, _ in bytes[place] ^= 0x80 }
        }
    }()

    private static let cuts: [ContentDamage] =
        [0, 1, 31, 32, 63, 64, header + block, header + 2 * block, header + 2 * block + 32, 9000].map { count in
            ContentDamage("cut to \(count)") { bytes, _ in bytes.removeLast(bytes.count - count) }
        } + [ContentDamage("cut by 1") { bytes, _ in bytes.removeLast() }]

    private static let growths: [ContentDamage] =
        [1, 31, 32, 33, 1000, block, 2 * block].flatMap { count in
            [
                ContentDamage("grow by \(count)") { bytes, _ in bytes += pattern(count, seed: 77) },
                ContentDamage("grow by \(count) zeros") { bytes, _ in bytes += [UInt8](repeating: 0, count: count) },
            ]
        } + [
            ContentDamage("grow by its last block") { bytes, _ in bytes += bytes[(header + 2 * block)...] },
            ContentDamage("grow by a full block that is not the last") { bytes, _ in
                let last = Array(bytes[(header + 2 * block)...])
                bytes.replaceSubrange((header + 2 * block)..., with: bytes[range(1)] + last)
            },
        ]

    private static let zeros: [ContentDamage] =
        (0..<3).map { index in
            ContentDamage("zero block \(index)") { bytes, _ in
                for place in range(index) where place < bytes.count { bytes[place] = 0 }
            }
        } + [
            ContentDamage("zero all blocks") { bytes, _ in for place in header..<bytes.count { bytes[place] = 0 } },
            ContentDamage("zero everything") { bytes, _ in for place in bytes.indices { bytes[place] = 0 } },
            ContentDamage("zero a sector") { bytes, _ in for place in 4608..<5120 { bytes[place] = 0 } },
            ContentDamage("zero the end") { bytes, _ in for place in 4096..<bytes.count { bytes[place] = 0 } },
        ]

    private static let exchanges: [ContentDamage] = [
        ContentDamage("swap blocks") { bytes, _ in
            let first = Array(bytes[range(0)])
            bytes.replaceSubrange(range(0), with: Array(bytes[range(1)]))
            bytes.replaceSubrange(range(1), with: first)
        },
        ContentDamage("repeat a block") { bytes, _ in bytes.replaceSubrange(range(1), with: Array(bytes[range(0)])) },
        ContentDamage("drop a block") { bytes, _ in bytes.removeSubrange(range(1)) },
        ContentDamage("block of another file") { bytes, other in
            bytes.replaceSubrange(range(1), with: other[range(1)])
        },
        ContentDamage("end of another file") { bytes, other in
            bytes.replaceSubrange((header + 2 * block)..., with: other[(header + 2 * block)...])
        },
        ContentDamage("header of another file") { bytes, other in bytes.replaceSubrange(0..<32, with: other[0..<32]) },
        ContentDamage("blocks of another file") { bytes, other in bytes.replaceSubrange(32..., with: other[32...]) },
        ContentDamage("half of another file") { bytes, other in bytes.replaceSubrange(5000..., with: other[5000...]) },
        ContentDamage("garbage") { bytes, _ in bytes = pattern(bytes.count, seed: 99) },
    ]

    private static let holes: [ContentDamage] = [
        ContentDamage("zero the block before holes", isSparse: true) { bytes, _ in
            for place in range(0) { bytes[place] = 0 }
        },
        ContentDamage("zero the block behind holes", isSparse: true) { bytes, _ in
            for place in range(5) { bytes[place] = 0 }
        },
        ContentDamage("flip the block behind holes", isSparse: true) { bytes, _ in
            bytes[header + 5 * block + 100] ^= 1
        },
        ContentDamage("widen the gap", isSparse: true) { bytes, _ in bytes[header + 5 * block + 12] += 1 },
        ContentDamage("flip a hole", isSparse: true) { bytes, _ in bytes[header + 2 * block + 2000] = 1 },
        ContentDamage("fill a hole with a block", isSparse: true) { bytes, _ in
            bytes.replaceSubrange(range(2), with: Array(bytes[range(0)]))
        },
        ContentDamage("cut in the holes", isSparse: true) { bytes, _ in
            bytes.removeLast(bytes.count - range(3).upperBound)
        },
        ContentDamage("one hole more", isSparse: true) { bytes, _ in
            bytes.insert(contentsOf: [UInt8](repeating: 0, count: block), at: range(4).upperBound)
        },
        ContentDamage("one hole less", isSparse: true) { bytes, _ in bytes.removeSubrange(range(4)) },
    ]
}
