// swift-tools-version: 6.2

import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
]

// Data flows one way: each target may name only targets listed above it.
let package = Package(
    name: "coffer",
    products: [
        .executable(name: "coffer", targets: ["coffer"]),
        // For a test only, which puts it before the program.
        .library(name: "AllocationCount", type: .dynamic, targets: ["AllocationCount"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        // No newer minor version: the block ciphers are those of the BoringSSL inside it, which is no product of its own.
        .package(url: "https://github.com/apple/swift-crypto", .upToNextMinor(from: "4.5.2")),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    ],
    targets: [
        // C: system libraries and Linux calls, with static assertions and no logic.
        .target(name: "CLinux"),
        .systemLibrary(name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
        .systemLibrary(name: "CShares", pkgConfig: "libgfshare", providers: [.apt(["libgfshare-dev"])]),
        .systemLibrary(name: "CFuse", pkgConfig: "fuse3", providers: [.apt(["libfuse3-dev"])]),

        // Keys in locked memory, AEAD, KDF, random. No I/O, no format.
        .target(
            name: "CofferCrypto",
            dependencies: ["CSodium", "CShares", .product(name: "Crypto", package: "swift-crypto")],
            swiftSettings: strict),
        // Bytes <-> meaning. Pure.
        .target(
            name: "CofferFormat",
            dependencies: ["CofferCrypto"],
            swiftSettings: strict),
        // The one room for system calls that touch a vault.
        .target(
            name: "CofferDisk",
            dependencies: ["CLinux", .product(name: "SystemPackage", package: "swift-system")],
            swiftSettings: strict),
        // An unlocked vault over a directory, in plaintext terms. No FUSE.
        .target(
            name: "CofferVault",
            dependencies: [
                "CofferCrypto", "CofferFormat", "CofferDisk", .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        // What unlocks a vault; edits coffer.json; remembers known vaults.
        .target(
            name: "CofferKeys",
            dependencies: [
                "CofferCrypto", "CofferFormat", "CofferDisk", .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        // Seal, verify: a signed manifest of the ciphertext.
        .target(
            name: "CofferSeal",
            dependencies: [
                "CofferCrypto", "CofferFormat", "CofferDisk", "CofferVault",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        // The libfuse low-level session: inodes, handles, requests.
        .target(
            name: "CofferMount",
            dependencies: [
                "CFuse", "CLinux", "CofferCrypto", "CofferFormat", "CofferDisk", "CofferVault", "CofferSeal",
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        // The command line, thin.
        .executableTarget(
            name: "coffer",
            dependencies: [
                "CLinux", "CofferCrypto", "CofferFormat", "CofferDisk", "CofferVault", "CofferSeal", "CofferKeys",
                "CofferMount",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),

        // What tests draw from seeds, and how much of it.
        .target(name: "Randomness", path: "Tests/Randomness", swiftSettings: strict),
        // Counts a program's allocations.
        .target(name: "AllocationCount", path: "Tests/AllocationCount"),
        .testTarget(name: "CofferCryptoTests", dependencies: ["CofferCrypto"], swiftSettings: strict),
        .testTarget(
            name: "CofferFormatTests", dependencies: ["CofferFormat", "CofferCrypto", "Randomness"],
            exclude: ["Vectors"], swiftSettings: strict),
        .testTarget(
            name: "CofferVaultTests",
            dependencies: ["CofferVault", "CofferFormat", "CofferCrypto", "CofferDisk", "Randomness"],
            swiftSettings: strict),
        .testTarget(
            name: "CofferSealTests",
            dependencies: [
                "CofferSeal", "CofferVault", "CofferFormat", "CofferCrypto", "CofferDisk",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "CofferKeysTests", dependencies: ["CofferKeys", "CofferFormat", "CofferCrypto", "CofferDisk"],
            exclude: ["Corpus"],
            swiftSettings: strict),
        .testTarget(
            name: "CofferMountTests",
            dependencies: [
                "CofferMount", "CFuse", "CLinux", "CofferVault", "CofferFormat", "CofferCrypto", "CofferDisk",
                "Randomness",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "MountTests",
            dependencies: [
                "CLinux", "CofferVault", "CofferFormat", "CofferCrypto", "CofferDisk", "CofferKeys", "Randomness",
            ],
            swiftSettings: strict),
    ]
)
