import Glibc
import SystemPackage
import Testing

/// Damage to names, directories, links, attributes and the configuration.
@Suite(.mounts) struct TreeDamageTests {
    private let vault: TestVault

    init() throws {
        vault = try TestVault(["--cipher", "aes-256-gcm"])
    }

    /// Makes things in a mount, with `made` in the log's place of the last one; `s NAME` in later scripts is the stored path of NAME.
    private func make(_ script: String) throws {
        let mount = try vault.mount()
        try vault.shell(
            """
            (cd mnt; \(script))
            find mnt -mindepth 1 -printf '%i %P\\0' > shown; find vault -mindepth 1 -printf '%i %p\\0' > stored
            """)
        try mount.unmount()
    }

    /// Runs a script in the vault's directory that finds what `make` has made: `$(s NAME)` is where NAME is stored.
    private func damage(_ script: String) throws {
        try vault.shell(
            """
            s() { local i; i=$(grep -zF " $1" shown | tr '\\0' '\\n' | awk -v n="$1" 'substr($0, index($0, " ") + 1) == n { print $1 }')
                  grep -z "^$i " stored | tr -d '\\0' | cut -d' ' -f2-; }
            \(script)
            """)
    }

    private func stored(_ name: String) throws -> String {
        try damage("s '\(name)' > path")
        return String(try vault.shell("cat path").dropFirst("vault/".count))
    }

    private func expectLogged(_ plain: String, _ stored: String, sourceLocation: SourceLocation = #_sourceLocation)
        throws
    {
        let log = try vault.log()
        let lines = log.filter { $0.contains("'\(plain)'") && $0.contains("'\(stored)'") }
        #expect(lines.count == 1, "\(plain), \(stored): \(log)", sourceLocation: sourceLocation)
    }

    @Test func anEntryMovedToAnotherDirectory() throws {
        try make("mkdir one two; echo a > one/a; mkdir one/d; echo b > one/d/b; ln -s x one/l; echo c > two/c")
        let name = try stored("one/a").split(separator: "/")[1]
        let two = try stored("two")
        try damage("mv $(s one/a) $(s one/d) $(s one/l) $(s two)/")
        let mount = try vault.mount()
        #expect(try vault.shell("ls mnt/one") == "")
        #expect(try vault.shell("ls mnt/two | grep -c '^coffer.unreadable.'") == "3")
        #expect(try vault.shell("ls mnt/two | grep -v '^coffer.unreadable.'; cat mnt/two/c") == "c\nc")
        for name in ["a", "d", "l"] {
            #expect(throws: Errno.noSuchFileOrDirectory) { try status(of: mount.file("two/\(name)")) }
        }
        let placeholder = mount.file("two/coffer.unreadable.\(name)")
        #expect(throws: Errno.ioError) { try OpenFile(placeholder, O_RDONLY) }
        #expect(throws: Errno.ioError) { try OpenFile(placeholder, O_RDWR | O_CREAT) }
        #expect(throws: Errno.ioError) { try status(of: placeholder) }
        #expect(try vault.tryShell("cat mnt/two/coffer*/b").status != 0)
        try vault.shell("ls mnt/two; ls mnt/two")
        try expectLogged("two/coffer.unreadable.\(name)", "\(two)/\(name)")
        #expect(try vault.log().count == 3)
        // Back in its place it is what it was.
        try mount.unmount()
        try damage("mv $(s two)/\(name) $(s one)/")
        let second = try vault.mount()
        #expect(try contents(of: second.file("one/a")) == Array("a\n".utf8))
    }

    @Test func renamedAndCopiedStoredNames() throws {
        try make("echo a > a; echo b > b; mkdir d; echo c > d/c")
        let a = try stored("a")
        try damage(
            "cp $(s d/c) vault/; mv $(s a) $(s a | sed 's/.$//; s/$/-/'); cp -r $(s d) vault/cAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        )
        let mount = try vault.mount()
        #expect(try vault.shell("ls mnt | grep -v coffer.unreadable") == "b\nd")
        #expect(throws: Errno.noSuchFileOrDirectory) { try status(of: mount.file("a")) }
        let changed = a.dropLast() + "-"
        // A last letter that is not canonical, or another name: either way none of what was stored.
        #expect(try vault.shell("ls mnt | grep -c coffer.unreadable") >= "2")
        #expect(try vault.tryShell("cat mnt/coffer.unreadable*").output == "")
        #expect(try vault.log().contains { $0.contains("cAAAAAAA") }, "\(changed)")
    }

    @Test func aLongNameThatLostItsPieces() throws {
        let long = String(repeating: "long", count: 60)
        try make("echo x > \(long); mkdir other; echo y > y")
        try vault.shell("rm vault/coffer.long.*.00.*")
        let mount = try vault.mount()
        #expect(try vault.shell("ls mnt | grep -c '^coffer.unreadable.coffer.long.'") == "1")
        // Asked for by name it is still found: the hash is in its name.
        #expect(try contents(of: mount.file(long)) == Array("x\n".utf8))
        #expect(try vault.log().count == 1)
    }

    @Test func aNameThatLooksLikeAPlaceholderCanBeUsed() throws {
        try make("echo x > coffer.unreadable.mine; mkdir coffer.unreadable.dir; echo y > coffer.json")
        let mount = try vault.mount()
        #expect(
            try vault.shell("cat mnt/coffer.unreadable.mine mnt/coffer.json; rmdir mnt/coffer.unreadable.dir") == "x\ny"
        )
        #expect(try vault.shell("ls mnt") == "coffer.json\ncoffer.unreadable.mine")
        try mount.unmount()
        #expect(try vault.log() == [])
    }

    @Test func symbolicLinksWhoseTextWasEdited() throws {
        let target = String(repeating: "t", count: 4000)
        try make(
            "ln -s target short; ln -s other other; ln -s \(target) long; ln -s \(target) gone; ln -s target plain")
        let short = try stored("short")
        try damage(
            """
            edit() { local p t; p=$(s $1); t=$(readlink $p); rm $p; ln -s "$2" $p; }
            t=$(readlink $(s short)); edit short "$(tr A-Za-z B-ZAb-za <<< ${t:0:40})${t:40}"
            edit plain /etc/passwd
            c=$(readlink $(s long) | cut -d. -f1-3); printf x | dd of=vault/$c bs=1 seek=100 conv=notrunc status=none
            c=$(readlink $(s gone) | cut -d. -f1-3); rm vault/$c
            """)
        let mount = try vault.mount()
        for name in ["short", "long", "gone", "plain"] {
            #expect(try vault.tryShell("readlink mnt/\(name)").output == "", "\(name)")
            var buffer = [CChar](repeating: 0, count: 5000)
            #expect(readlink(mount.file(name), &buffer, 5000) == -1 && errno == EIO, "\(name)")
        }
        #expect(try vault.shell("readlink mnt/other") == "other")
        try expectLogged("short", short)
        #expect(try vault.log().count == 4)
        // A link that cannot be read can be removed and made anew.
        #expect(
            try vault.shell("cd mnt; rm short long gone plain; ln -s new short; readlink short; ls")
                == "new\nother\nshort")
        try mount.unmount()
    }

    @Test(.programs("setfattr", "getfattr")) func attributesThatWereEdited() throws {
        try make(
            "echo > a; setfattr -n user.one -v first a; setfattr -n user.two -v second a; echo > b; mkdir d; setfattr -n user.d -v dir d"
        )
        let a = try stored("a")
        try damage(
            """
            names() { getfattr --absolute-names -d -m user.coffer "$1" | grep -o '^user[^=]*'; }
            one=$(names $(s a) | head -1)
            setfattr -n $one -v 0x$(getfattr --absolute-names -e hex -n $one $(s a) | grep -o '=0x.*' | cut -c4- | sed 's/00$/01/;t;s/..$/00/') $(s a)
            two=$(names $(s a) | tail -1)
            setfattr -n $two -v $(getfattr --absolute-names -e hex -n $two $(s a) | grep -o '=0x.*' | cut -c2-) $(s b)
            setfattr -n user.planted -v x $(s b)
            d=$(names $(s d)); setfattr -x $d $(s d)
            setfattr -n ${d%????}AAAA -v 0x0011 $(s d)
            """)
        let mount = try vault.mount()
        let values = try vault.tryShell(
            "for n in one two; do getfattr --only-values -n user.$n mnt/a && echo || true; done"
        )
        .output
        #expect(values.split(separator: "\n").count == 1)
        #expect(values.contains("first") != values.contains("second"))
        #expect(try vault.shell("getfattr -d mnt/b; getfattr -d mnt/d") == "")
        let log = try vault.log()
        for (name, path) in try [("a", a), ("b", stored("b")), ("d", stored("d"))] {
            #expect(log.contains { $0.contains("'\(name)'") && $0.contains("'\(path)'") }, "\(name)")
        }
        #expect(mount.driver.poll() == nil)
    }

    @Test func directoryRecordsThatWereEdited() throws {
        try make(
            "mkdir a; echo 1 > a/1; mv a b; mkdir c; echo 2 > c/2; mv c d; mkdir e; echo 3 > e/3; mv e f; mkdir g; echo 4 > g/4; mv g h"
        )
        try damage(
            """
            printf x | dd of=$(s b)/coffer.dir bs=1 seek=30 conv=notrunc status=none
            rm $(s d)/coffer.dir
            cp $(s h)/coffer.dir $(s f)/
            """)
        let mount = try vault.mount()
        for (directory, name) in [("b", "1"), ("d", "2"), ("f", "3")] {
            #expect(throws: (any Error).self) { try contents(of: mount.file("\(directory)/\(name)")) }
            let listed = try vault.tryShell("ls mnt/\(directory)")
            #expect(listed.status != 0 || listed.output.hasPrefix("coffer.unreadable."), "\(directory): \(listed)")
        }
        #expect(try vault.shell("cat mnt/h/4; ls mnt/h") == "4\n4")
        #expect(try vault.log().count >= 3)
        #expect(mount.driver.poll() == nil)
    }

    @Test(arguments: [
        #"s/"vault": ".\{8\}/"vault": "deadbeef/"#, "s/aes-256-gcm/chacha20-poly1305/",
        #"s/"name_max": 255/"name_max": 254/"#,
        #"s/"counter": 1/"counter": 2/"#, #"s/"ring": "..../"ring": "AAAA/"#, #"s/"label": ""/"label": "x"/"#,
        #"s/"mac": ".../"mac": "000/"#, #"s/"opslimit": 2/"opslimit": 1/"#, #"s/"salt": "..../"salt": "AAAA/"#,
        "s/format/formal/",
        #"s/"type": "passphrase"/"type": "unknown"/"#, "1,3d", "$d", "s/$/ /",
    ])
    func aConfigurationThatWasEdited(_ edit: String) throws {
        try make("echo x > x")
        try vault.shell(
            "cp vault/coffer.json before; sed -i '\(edit)' vault/coffer.json; ! cmp -s before vault/coffer.json")
        let outcome = try vault.coffer("mount", "--passphrase-file", "key", "vault", "mnt")
        // An edited slot or key ring may look like a wrong passphrase.
        #expect([4, 5].contains(outcome.status), "\(outcome)")
        #expect(outcome.errors.hasPrefix("coffer: ") && outcome.errors.split(separator: "\n").count == 1)
        #expect(!isMounted(vault.directory + "/mnt"))
        try vault.shell("cp before vault/coffer.json")
        let mount = try vault.mount()
        #expect(try contents(of: mount.file("x")) == Array("x\n".utf8))
    }
}
