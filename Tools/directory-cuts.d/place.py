"""An image that is mounted, and the vault in it."""
import ctypes
import os
import subprocess
import threading
import time

from commands import Patience, run, stacks
from tree import SHORT, Violation, real

libc = ctypes.CDLL(None, use_errno=True)
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"], "btrfs": ["mkfs.btrfs", "-q", "-f"]}
OPTIONS = {"ext4": "noatime,commit=300", "xfs": "noatime,nouuid", "btrfs": "noatime,commit=300,nodiscard"}


class Place:
    """An image that is mounted, and the vault in it."""

    def __init__(self, arguments, base, name, image):
        self.arguments, self.base, self.name = arguments, base, name
        self.disk, self.view = os.path.join(base, name), os.path.join(base, name + "-view")
        self.vault = os.path.join(self.disk, "vault")
        self.driver, self.state, self.image = None, os.path.join(base, name + "-state"), image
        self.device = run("losetup", "--find", "--show", image).stdout.strip()
        if arguments.native:
            self.view = self.vault
        try:
            self.attach()
        except BaseException:
            run("losetup", "--detach", self.device, check=False)
            raise

    def attach(self):
        try:
            run("mount", "-o", OPTIONS[self.arguments.on], self.device, self.disk)
        except subprocess.CalledProcessError as error:
            raise Violation(f"the file system itself cannot be mounted: {error.stderr}" + run("sh", "-c", "dmesg | tail -25").stdout)

    def mount(self):
        if self.arguments.native:
            return
        self.log = os.path.join(self.base, self.name + ".log")
        with open(self.log, "a") as log:
            self.driver = subprocess.Popen(
                [self.arguments.program, "mount", "--foreground", "--key-file", os.path.join(self.base, "key"), self.vault, self.view],
                env=dict(os.environ, COFFER_STATE_DIR=self.state), stderr=log, stdout=log)
        patience = Patience(self.driver)
        while not os.path.ismount(self.view):
            if self.driver.poll() is not None:
                raise Violation(f"cannot be mounted: {self.said()}")
            if patience.isOver():
                words = stacks(self.driver.pid)
                self.kill()
                raise Violation(f"the mount hung: {words}")
            time.sleep(0.001)
        if "not recovered" in self.said() or "without an intent log" in self.said():
            raise Violation(self.said())

    def said(self):
        with open(self.log, errors="replace") as log:
            return log.read()[-2000:].strip()

    def unmount(self):
        if self.driver is None:
            return
        for _ in range(100):
            done = run(self.arguments.program, "unmount", self.view, check=False)
            if done.returncode == 0:
                break
            time.sleep(0.02)
        else:
            raise Violation(f"cannot be unmounted: {done.stderr}")
        patience = Patience(self.driver)
        while self.driver.poll() is None:
            if patience.isOver():
                raise Violation(f"the driver does not end: {stacks(self.driver.pid)}")
            time.sleep(0.001)
        code, self.driver = self.driver.returncode, None
        if code:
            raise Violation(f"the driver ended with {code}: {self.said()}")

    def kill(self):
        if self.driver is not None:
            self.driver.kill()
            self.driver.wait()
            self.driver = None
            run("umount", "--lazy", self.view, check=False)

    def detach(self):
        for _ in range(100):
            if run("umount", self.disk, check=False).returncode == 0:
                return
            time.sleep(0.02)
        run("umount", "--lazy", self.disk, check=False)

    def close(self):
        try:
            self.kill()
            self.detach()
        finally:
            run("losetup", "--detach", self.device, check=False)

    def guarded(self, body):
        """What hangs ends with the driver."""
        over, where = threading.Event(), []

        def watch():
            patience = Patience(self.driver)
            while not over.wait(0.2):
                if patience.isOver():
                    where.append(stacks(self.driver.pid))
                    return self.driver.kill()
        if self.driver is not None:
            threading.Thread(target=watch, daemon=True).start()
        try:
            return body()
        except OSError as error:
            raise Violation(f"{f'hung: {where} ' if where else ''}{error}")
        finally:
            over.set()

    def path(self, path):
        return os.path.join(self.view, real(path))

    def walk(self, directory=None):
        """All there is, all of it read."""
        found, directory = {}, directory or self.view
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            if name.startswith("coffer.") or "coffer" in name:
                raise Violation(f"unreadable name: {path}")
            status = os.lstat(path)
            if os.path.stat.S_ISDIR(status.st_mode):
                thing = ("d", status.st_ino, self.walk(path))
            elif os.path.islink(path):
                thing = ("l", status.st_ino, os.readlink(path))
            else:
                with open(path, "rb") as file:
                    thing = ("f", status.st_ino, file.read())
            found[SHORT.get(name, name)] = thing
        return found

    def perform(self, op):
        deed, *rest = op
        paths = [self.path(one) if isinstance(one, str) else one for one in rest]
        if deed == "mkdir":
            os.mkdir(paths[0])
        elif deed in ("create", "write"):
            descriptor = os.open(paths[0], os.O_WRONLY | (os.O_CREAT | os.O_EXCL if deed == "create" else 0))
            os.pwrite(descriptor, self.data, 0)
            os.close(descriptor)
        elif deed == "symlink":
            os.symlink(self.data, paths[0])
        elif deed == "unlink":
            os.unlink(paths[0])
        elif deed == "rmdir":
            os.rmdir(paths[0])
        elif deed == "link":
            os.link(*paths, follow_symlinks=False)
        elif deed == "rename":
            os.rename(*paths)
        elif deed == "exchange":
            if libc.renameat2(-100, os.fsencode(paths[0]), -100, os.fsencode(paths[1]), 2) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), paths[0], None, paths[1])
        elif deed == "chmod":
            os.chmod(*paths)
        elif deed == "fsync":
            sync(paths[0])
        elif deed == "backing":
            self.sync_backing(os.lstat(paths[0]).st_ino)
        elif deed == "outside":
            # Another program's sync, of nothing of the vault's.
            descriptor = os.open(os.path.join(self.disk, "other"), os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, b"x")
            os.fsync(descriptor)
            os.close(descriptor)
        elif deed in ("syncdisk", "syncmount"):
            # Of the mount it may be refused: a file that lost the only one of its names that the driver knows cannot get the kernel's times.
            run("sync", "--file-system", self.disk if deed == "syncdisk" else self.view, check=deed == "syncdisk")
        elif deed == "remount":
            self.unmount()
            self.mount()
        elif deed == "kill" and not self.arguments.native:
            self.kill()
            self.mount()

    def sync_backing(self, ino):
        """Another program syncs what is beneath."""
        for place, directories, files in os.walk(self.vault):
            for name in directories + files:
                path = os.path.join(place, name)
                if not os.path.islink(path) and os.lstat(path).st_ino == ino:
                    return sync(path)

    def shared_ids(self):
        """Names are sealed by the directory's id, so no stored name may be in two directories."""
        seen = {}
        for place, directories, files in os.walk(self.vault):
            for name in directories + files:
                if not name.startswith("coffer.") or name.startswith("coffer.long.") and name.count(".") == 2:
                    if name in seen:
                        raise Violation(f"two directories share an id: {seen[name]} and {place} have {name[:40]}")
                    seen[name] = place


def sync(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
