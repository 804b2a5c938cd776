"""Commands that are waited for, and what hangs."""
import fcntl
import glob
import subprocess
import time

from tree import Violation

PATIENCE = 60


def run(*command, check=True, **more):
    command = [str(part) for part in command]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more) as process:
        patience = Patience(process)
        while True:
            try:
                out, err = process.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                if patience.isOver():
                    words = f"hung: {command}: {stacks(process.pid)}"
                    process.kill()
                    process.communicate()
                    raise Violation(words)
    if check and process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command, out, err)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


class Patience:
    """How long one waits for a process, without the time for which somebody has stopped it, or this one."""

    def __init__(self, process):
        self.process, self.waited, self.last = process, 0, time.monotonic()

    def isOver(self):
        now = time.monotonic()
        with open(f"/proc/{self.process.pid}/stat") as file:
            isStopped = file.read().rpartition(")")[2].split()[0] == "T"
        self.waited += 0 if isStopped else min(now - self.last, 1)
        self.last = now
        return self.waited > PATIENCE


def stacks(pid):
    """Where the threads of a process are, for one that hangs."""
    text = []
    for task in glob.glob(f"/proc/{pid}/task/*"):
        for name in ("stack", "syscall"):
            try:
                with open(f"{task}/{name}") as file:
                    text.append(f"{task} {name}: {' '.join(file.read().split())}")
            except OSError as error:
                text.append(str(error))
    return "\n".join(text)


def copy(source, to):
    """As the image is at one moment."""
    with open(source, "rb") as one, open(to, "wb") as other:
        fcntl.ioctl(other.fileno(), 0x40049409, one.fileno())
