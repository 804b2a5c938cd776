"""What is measured: Coffer, what else is installed that does the like, and the bare directory."""
import os
import shlex
import shutil
import subprocess
import time

EXAMPLE = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c"


def run(*words, **options):
    options.setdefault("stdout", subprocess.DEVNULL)
    options.setdefault("stderr", subprocess.PIPE)
    try:
        return subprocess.run([str(word) for word in words], check=True, **options)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{words[0]}: {(error.stderr or b'').decode(errors='replace').strip()}") from None


class System:
    """One that shows what is in `store` at `place`. `pid` is its process, where there is one."""

    name = "bare"
    pid = None

    def __init__(self, base, tools):
        self.base, self.tools = base, tools
        self.store, self.mountpoint = os.path.join(base, "store"), os.path.join(base, "mount")
        self.key = os.path.join(base, "key")
        self.environment = dict(os.environ, HOME=base, COFFER_STATE_DIR=os.path.join(base, "state"))

    @property
    def place(self):
        return self.mountpoint

    def prepare(self):
        """Makes an empty store."""
        os.mkdir(self.store)
        os.mkdir(self.mountpoint)
        with open(self.key, "w") as file:
            file.write("benchmark\n")
        self.make()

    def make(self):
        pass

    def mount(self):
        """Mounts, and waits until it is."""
        before = os.stat(self.mountpoint).st_dev
        self.start()
        until = time.monotonic() + 60
        while os.stat(self.mountpoint).st_dev == before:
            if time.monotonic() > until:
                raise RuntimeError(f"{self.name} does not mount")
            time.sleep(0.01)
        self.pid = self.process()

    def process(self):
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/cmdline") as file:
                        words = file.read().split("\0")
                except OSError:
                    continue
                if self.mountpoint in words or f"subdir={self.mountpoint}" in words:
                    if os.path.basename(words[0]) not in ("bash", "sh", "python3"):
                        return int(entry)
        return None

    def unmount(self):
        if not os.path.ismount(self.mountpoint):
            return
        for attempt in range(100):
            if subprocess.run(["fusermount3", "-u", self.mountpoint], stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.1)
        else:
            run("fusermount3", "-uz", self.mountpoint)
        # It has more to do after the kernel lets go.
        while self.pid and os.path.exists(f"/proc/{self.pid}"):
            with open(f"/proc/{self.pid}/stat") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    break
            time.sleep(0.005)

    def remount(self):
        """As on another day: nothing of the store is remembered by kernel or driver."""
        self.unmount()
        self.mount()

    def remove(self):
        self.unmount()
        for attempt in range(20):
            shutil.rmtree(self.base, ignore_errors=True)
            if not os.path.exists(self.base):
                return
            time.sleep(0.1)


class Bare(System):
    @property
    def place(self):
        return self.store

    def mount(self):
        pass

    def remount(self):
        os.sync()
        if os.geteuid() == 0:
            with open("/proc/sys/vm/drop_caches", "w") as file:
                file.write("3\n")


class Coffer(System):
    name = "coffer"
    options = []

    def make(self):
        run(self.tools["coffer"], "init", "--kdf", "interactive", "--passphrase-file", self.key, self.store,
            env=self.environment)

    def start(self):
        run(self.tools["coffer"], "mount", "--passphrase-file", self.key, *self.options, self.store, self.mountpoint,
            env=self.environment)

    def unmount(self):
        if os.path.ismount(self.mountpoint):
            run(self.tools["coffer"], "unmount", self.mountpoint, env=self.environment)


class CofferWithoutLog(Coffer):
    name = "coffer-no-log"
    options = ["--no-log"]


class CofferCopying(Coffer):
    """A build whose blocks are copied instead of sealed: what all the rest costs."""
    name = "coffer-copying"

    def __init__(self, base, tools):
        super().__init__(base, dict(tools, coffer=tools["copying"]))


class CofferCopyingWithoutLog(CofferCopying):
    name = "coffer-copying-no-log"
    options = ["--no-log"]


class Passthrough(System):
    name = "passthrough_ll"

    def start(self):
        run(self.tools["passthrough_ll"], "-o", f"writeback,source={self.store}", self.mountpoint)


class Gocryptfs(System):
    name = "gocryptfs"

    def make(self):
        run("gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", self.key, self.store)

    def start(self):
        run("gocryptfs", "-q", "-passfile", self.key, self.store, self.mountpoint)


class Securefs(System):
    name = "securefs"

    def make(self):
        run("securefs", "create", "--pass", "benchmark", "-r", "2", self.store, env=self.environment)

    def start(self):
        run("securefs", "mount", "--pass", "benchmark", "-b", "--log", "/dev/null", self.store, self.mountpoint,
            env=self.environment)


class Encfs(System):
    name = "encfs"

    def make(self):
        run("encfs", "--standard", "-S", self.store, self.mountpoint, input=b"benchmark\n", env=self.environment)
        time.sleep(0.2)
        self.unmount()

    def start(self):
        run("encfs", "-S", self.store, self.mountpoint, input=b"benchmark\n", env=self.environment)


class Cryfs(System):
    name = "cryfs"

    def __init__(self, base, tools):
        super().__init__(base, tools)
        self.environment.update(CRYFS_FRONTEND="noninteractive", CRYFS_NO_UPDATE_CHECK="true")

    def start(self):
        run("cryfs", self.store, self.mountpoint, input=b"benchmark\n", env=self.environment)


ALL = {system.name: system for system in
       (Coffer, Passthrough, Gocryptfs, Securefs, Encfs, Cryfs, Bare, CofferWithoutLog, CofferCopying, CofferCopyingWithoutLog)}


def build_passthrough(directory):
    """libfuse's example, as the header package brings it; None where it does not."""
    if not os.path.exists(EXAMPLE):
        return None
    program = os.path.join(directory, "passthrough_ll")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], check=True, capture_output=True, text=True)
    include = os.path.dirname(EXAMPLE)
    run("cc", "-O2", "-o", program, "-I", include, EXAMPLE, *shlex.split(flags.stdout))
    return program


def available(tools):
    """The names of those that can be measured here."""
    names = ["coffer", "coffer-no-log", "bare"]
    if tools.get("copying"):
        names += ["coffer-copying", "coffer-copying-no-log"]
    if tools.get("passthrough_ll"):
        names.append("passthrough_ll")
    return names + [name for name in ("gocryptfs", "securefs", "encfs", "cryfs") if shutil.which(name)]
