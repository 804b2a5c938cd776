import Testing

/// Runs one script in a mount and in a directory of the file system behind the vault (or of the disk, where that is tmpfs): what it prints must be the same.
///
/// Scripts are Python with what `prelude` offers; they work in a directory of their own, which is the current one.
final class Comparison: Sendable {
    let vault: TestVault
    let mount: MountedVault

    init(_ options: [String] = []) throws {
        vault = try TestVault()
        mount = try vault.mount((Machine.isRoot ? ["--allow-other", "-o", "allow_suid"] : []) + options)
        // tmpfs itself does less than the mount: then it is compared with the disk's.
        try vault.shell(
            """
            chmod 755 . mnt
            if [ $(stat -f -c %T .) = tmpfs ]; then
              elsewhere=$(mktemp -d /var/tmp/coffer-mount-XXXXXX); chmod 755 $elsewhere; ln -s $elsewhere plain
            else mkdir -m 755 plain; fi
            """)
    }

    deinit {
        do {
            try vault.shell("if [ -L plain ]; then rm -rf $(readlink plain); fi")
        } catch {
            print("left behind: \(error)")
        }
    }

    /// Runs `script` in both places.
    func same(_ script: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        try vault.shell("cat > script.py << 'END OF SCRIPT'\n\(Self.prelude)\n\(script)\nEND OF SCRIPT")
        let there = try vault.shell(
            "script=$PWD/script.py; cd plain; timeout 100 python3 $script 2>&1 || echo ended with $?")
        let here = try vault.shell(
            "script=$PWD/script.py; cd mnt; timeout 100 python3 $script 2>&1 || echo ended with $?")
        #expect(!there.isEmpty, sourceLocation: sourceLocation)
        #expect(!there.contains("Traceback"), "\(there)", sourceLocation: sourceLocation)
        if here != there {
            let difference = try vault.tryShell(
                "diff -U3 <(cat <<'THERE'\n\(there)\nTHERE\n) <(cat <<'HERE'\n\(here)\nHERE\n)"
            ).output
            Issue.record("not as behind the vault (-):\n\(difference)", sourceLocation: sourceLocation)
        }
        try mount.unmount(sourceLocation: sourceLocation)
    }

    private static let prelude = """
        import ctypes, errno, fcntl, mmap, os, random, resource, signal, stat, struct, sys, time
        libc = ctypes.CDLL(None, use_errno=True)
        def tell(*words): print(*words, flush=True)
        # POSIX allows either, and file systems differ.
        alike = {'EEXIST': 'ENOTEMPTY'}
        def says(work, *words):
            try: result = work(*words)
            except OSError as error:
                result = errno.errorcode[error.errno]
                if work in (os.rename, os.rmdir): result = alike.get(result, result)
            tell(result)
            return result
        def mode(path): return oct(os.lstat(path).st_mode & 0o7777)
        def make(path, data=b'', mode=0o644):
            with open(path, 'wb') as file: file.write(data)
            os.chmod(path, mode)
        # Does work in another process, as somebody else where uid is given.
        def other(work, uid=None, gid=None, groups=(), umask=0o022):
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                try:
                    os.umask(umask)
                    if uid is not None: os.setgroups(groups); os.setgid(gid or uid); os.setuid(uid)
                    says(work)
                finally: os._exit(0)
            os.waitpid(child, 0)
        def call(name, *words):
            if getattr(libc, name)(*words) < 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        """
}
