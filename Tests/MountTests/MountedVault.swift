import Dispatch
import Glibc
import SystemPackage
import Testing

/// A mount of a vault, served by a `coffer` in the foreground that belongs to the test.
///
/// Taken away when the test lets go of it, whatever state it is in.
final class MountedVault: Sendable {
    /// The mountpoint.
    let path: String
    let driver: RunningProgram
    private let name: String
    private let mountpoint: String
    private let vault: TestVault

    /// Mounts and waits until the mount answers.
    ///
    /// Throws the outcome of a `coffer mount` that fails.
    init(
        _ name: String, at mountpoint: String, options: [String], in vault: TestVault,
        environment: [String: String] = [:], unlockedBy: [String] = ["--passphrase-file", "key"]
    ) throws {
        self.name = name
        self.mountpoint = mountpoint
        self.vault = vault
        path = "\(vault.directory)/\(mountpoint)"
        let before = try status(of: path)
        driver = try CofferProgram.start(
            ["mount", "--foreground", "--log-file", "log"] + unlockedBy + options + [name, mountpoint],
            in: vault.directory, environment: environment)
        for _ in 0..<30_000 {
            if let ended = driver.poll() { throw driver.outcome(ended) }
            // Once the mount is there this waits for the driver's first answer.
            if try status(of: path).st_dev != before.st_dev { break }
            usleep(2000)
        }
        guard isMounted(path) else { throw Hang(description: "\(path) was not mounted within a minute") }
        // A system call of the test itself that hangs can only be freed by the end of the driver.
        DispatchQueue.global().asyncAfter(deadline: .now() + 900) { [weak driver] in
            if let driver, driver.poll() == nil {
                print("a mount took longer than 900 s; its driver \(driver.id) is killed")
                driver.signal(SIGKILL)
            }
        }
    }

    deinit {
        if driver.poll() == nil {
            driver.signal(SIGTERM)
            if driver.wait(seconds: 20) == nil {
                driver.signal(SIGKILL)
                _ = driver.wait(seconds: 20)
            }
        }
        guard isMounted(path) else { return }
        do {
            _ = try run(Machine.isRoot ? ["umount", "-l", path] : ["fusermount3", "-uz", path], seconds: 20)
        } catch {
            print("\(path) stays mounted: \(error)")
        }
    }

    /// The path of an entry of the mount.
    func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Unmounts with `coffer unmount`, which must succeed, and so must the driver.
    func unmount(sourceLocation: SourceLocation = #_sourceLocation) throws {
        let outcome = try CofferProgram.run(["unmount", path], in: vault.directory)
        #expect(outcome.status == 0, "\(outcome)", sourceLocation: sourceLocation)
        try expectEnd(sourceLocation: sourceLocation)
    }

    /// The driver ends by itself, without complaint, and the mount is gone.
    func expectEnd(sourceLocation: SourceLocation = #_sourceLocation) throws {
        guard let ended = driver.wait(seconds: 60) else { throw Hang(description: "the driver did not end") }
        #expect(ended == 0, "\(driver.outcome(ended))", sourceLocation: sourceLocation)
        #expect(!isMounted(path), sourceLocation: sourceLocation)
    }

    /// Unmounts and mounts again, so that what follows is read from the vault and not from what the kernel keeps.
    func remount(_ options: [String] = []) throws -> MountedVault {
        try unmount()
        return try MountedVault(name, at: mountpoint, options: options, in: vault)
    }
}

/// Whether something is mounted on a path without symbolic links.
func isMounted(_ path: String) -> Bool {
    guard let table = fopen("/proc/self/mounts", "re") else { return false }
    defer { fclose(table) }
    var line: UnsafeMutablePointer<CChar>?
    var room = 0
    defer { free(line) }
    while getline(&line, &room, table) > 0 {
        guard let line else { break }
        let words = String(cString: line).split(separator: " ")
        if words.count > 1 && words[1] == path { return true }
    }
    return false
}

/// Waits until `condition` holds; the test fails where it never does.
func eventually(
    _ what: Comment, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () throws -> Bool
) throws {
    for _ in 0..<3000 {
        if try condition() { return }
        usleep(10_000)
    }
    Issue.record("never: \(what)", sourceLocation: sourceLocation)
}
