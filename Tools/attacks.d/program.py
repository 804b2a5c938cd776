"""The program that is tested: how it is called, and what it says."""
import contextlib
import json
import os
import subprocess
import time
from typing import NamedTuple

# What `coffer verify` may find, from the worst down, and the exit status that goes with each result.
CLASSES = ("damaged", "incomplete", "newer", "note")
STATUS = {"whole": 0, "newer": 0, "damaged": 15, "incomplete": 16, "noSeal": 17}
STATUS_STRICT = {**STATUS, "newer": 16}

# Findings that are of the seals, and of nothing in the tree.
OF_SEALS = {"rolledBack", "anchor", "sealForged", "sealIncomplete"}


class Finding(NamedTuple):
    path: str | None                                                         # in plain text; "" is the root
    stored: str | None                                                       # in the ciphertext; "" is the root
    problem: str
    grade: str                                                               # its class: one of CLASSES
    detail: str

    def __str__(self):
        return f"{self.grade}: {self.problem}: {short(self.path if self.path is not None else self.stored)}"


def short(text, limit=60):
    text = str(text)
    return text if len(text) <= limit else f"{text[:limit // 2]}…{text[-limit // 2:]}"


def cleaned(path):
    return None if path is None else "" if path in (".", "/") else path.strip("/")


class Verdict:
    """What a verification has said."""

    def __init__(self, done, strict):
        self.status, self.strict = done.returncode, strict
        self.result, self.findings, self.counter = None, [], None
        self.said = " ".join(done.stderr.split())[-300:]
        try:
            said = json.loads(done.stdout)
            self.result, self.counter = said["result"], (said.get("seal") or {}).get("counter")
            self.findings = [Finding(cleaned(each.get("path")), cleaned(each.get("stored")), each["problem"],
                                     each["class"], each.get("detail") or "") for each in said.get("findings", [])]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.result = None
            self.said = f"no report ({type(error).__name__} {error}): {short(done.stdout)!r} {self.said}"

    @property
    def kinds(self):
        """The kinds of what was found, for people."""
        counts = {}
        for each in self.findings:
            counts[each.problem] = counts.get(each.problem, 0) + 1
        return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in sorted(counts.items()))

    def contradictions(self):
        """Where exit status, result and findings do not say the same."""
        if self.result is None:
            return [f"exit status {self.status}: {self.said}"]
        found = []
        expected = (STATUS_STRICT if self.strict else STATUS).get(self.result)
        if self.status != expected:
            found.append(f"result {self.result} with exit status {self.status}: {self.said}")
        unknown = {each.grade for each in self.findings} - set(CLASSES)
        if unknown:
            found.append(f"unknown classes {unknown}")
        elif self.result != "noSeal":
            worst = min((CLASSES.index(each.grade) for each in self.findings), default=len(CLASSES) - 1)
            if (CLASSES[worst] if worst < len(CLASSES) - 1 else "whole") != self.result:
                found.append(f"result {self.result}, and the worst that was found is {CLASSES[worst]}")
        return found


class Program:
    """The program, the passphrase, and a machine's memory of vaults, all in a working directory."""

    def __init__(self, binary, work):
        self.binary, self.work = binary, work
        self.home = os.path.join(work, "home")                               # this machine's memory
        self.passphrase = os.path.join(work, "passphrase")
        with open(self.passphrase, "w") as stream:
            stream.write("a passphrase for attacks\n")
        self.fresh_machines = 0

    def run(self, *arguments, state=None):
        return subprocess.run([self.binary, *map(os.fspath, arguments)], capture_output=True, text=True,
                              errors="surrogateescape", stdin=subprocess.DEVNULL, timeout=900, check=False,
                              env={**os.environ, "COFFER_STATE_DIR": state or self.home})

    def __call__(self, *arguments):
        done = self.run(*arguments)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, arguments))}: exit status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def can(self, *command):
        """Whether the program has this command; its help for one that it does not have is that of another."""
        return f"USAGE: coffer {' '.join(command)} " in self.run("help", *command).stdout

    @property
    def secret(self):
        return ("--passphrase-file", self.passphrase)

    def mount(self, vault, mountpoint, *options):
        os.makedirs(mountpoint, exist_ok=True)
        self("mount", *self.secret, *options, vault, mountpoint)

    def unmount(self, mountpoint):
        """Unmounts; somebody (an indexer, say) may just be looking into it."""
        for attempt in range(50):
            done = self.run("unmount", mountpoint)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        subprocess.run(["umount", "--lazy", mountpoint], check=False)
        raise RuntimeError(f"cannot be unmounted: {done.stderr.strip()}")

    @contextlib.contextmanager
    def mounted(self, vault, mountpoint, *options):
        self.mount(vault, mountpoint, *options)
        try:
            yield mountpoint
        finally:
            self.unmount(mountpoint)

    def seal(self, vault, *options):
        return json.loads(self("seal", "--json", "--anchor", *options, *self.secret, vault))

    def check(self, vault):
        """What a check, which goes by no seal, finds."""
        return json.loads(self.run("check", "--json", *self.secret, vault).stdout)["findings"]

    def public_key(self, vault, path):
        with open(path, "w") as stream:
            stream.write(self("key", "export-public", *self.secret, vault))
        return path

    @contextlib.contextmanager
    def another_machine(self):
        """The memory of a machine that has never seen a vault."""
        self.fresh_machines += 1
        state = os.path.join(self.work, f"another machine {self.fresh_machines}")
        os.mkdir(state)
        try:
            yield state
        finally:
            subprocess.run(["rm", "-rf", state], check=True)

    def verify(self, copy, *options, public_key=None, elsewhere=False, strict=False):
        """Verifies a copy: here, or on a machine that has never seen a seal of it."""
        with contextlib.ExitStack() as stack:
            state = stack.enter_context(self.another_machine()) if elsewhere else None
            opening = ("--public-key", public_key) if public_key else self.secret
            done = self.run("verify", "--json", *(["--strict"] if strict else []), *options, *opening, copy,
                            state=state)
            return Verdict(done, strict)
