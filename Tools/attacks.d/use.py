"""Ordinary use: a person's edits, seals and copies, after which a verification must not raise a false alarm.

What differs is known from the seal's manifest and the stored tree, which `stored` reads without the program. Damage may
only be told of where it is so: where a copy has other bytes with the sealed time, because somebody had set that back and
rsync goes by it; or where rsync has read a file while it was written to, and a check says so as well.
"""
import contextlib
import os
import random
import signal
import subprocess
import time

import program
import stored
import trees
from person import Person, Working


def is_running(group):
    """Whether a process of a group is there that has not ended; one that nobody has waited for yet has."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stream:
                state, _, its_group = stream.read().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False


class Use:
    """A vault in use, and a copy of it."""

    def __init__(self, coffer, work, options, say):
        self.coffer, self.say, self.options = coffer, say, options
        self.vault, self.mount, self.copy = (os.path.join(work, name) for name in ("used", "used mount", "backup"))
        self.rng = random.Random(f"{options.seed}/use")
        self.person = Person(self.mount)
        self.is_mounted = False
        self.newest = 0                                                      # the counter of the newest seal
        self.is_torn = False                                                 # rsync has read what was being written,
        self.torn = []                                                       # and a check has found damage of that here
        self.seconds = 0.5                                                   # that rsync takes
        self.alarms, self.known_to_differ, self.torn_files = 0, 0, 0
        self.said = []                                                       # by verifications of this round

    def set_mounted(self, wanted):
        if wanted != self.is_mounted:
            if wanted:
                self.coffer.mount(self.vault, self.mount)
                self.is_mounted = True
            else:
                self.is_mounted = False
                self.coffer.unmount(self.mount)

    def working(self, number):
        return Working(self.person, f"{self.options.seed}/{number}")

    def alarm(self, number, text):
        self.alarms += 1
        self.say(f"FAILED  use {number}: {text}")
        if self.options.keep:
            raise SystemExit(f"left in {os.path.dirname(self.vault)}")

    def begin(self, count):
        self.coffer("init", *self.coffer.secret, "--kdf", "interactive", "--cipher", self.options.cipher, self.vault)
        self.set_mounted(True)
        trees.Tree(self.mount, random.Random(f"{self.options.seed}/tree"), count).make()
        self.public_key = self.coffer.public_key(self.vault, self.vault + " public key")

    # ---- One round ----

    def round(self, number):
        rng, person, done, self.said = self.rng, self.person, [], []
        person.rng = random.Random(rng.random())
        if rng.random() < 0.85:
            self.set_mounted(True)
        if self.is_mounted and (edits := rng.choice((0, 1, 3, 10, 30, 60))):
            person.work(edits)
            done.append(f"{edits} edits")
        how = rng.choices(("", "mounted", "during work", "unmounted"), (25, 35, 15, 25))[0]
        is_sealed = self.seal(number, how, done)
        if is_sealed:
            self.verify(number, "the vault right after the seal", self.vault, done, must_be_whole=True)
            if rng.random() < 0.5:
                self.set_mounted(rng.random() < 0.5)
        how = rng.choices(("", "whole", "without -H", "broken off", "during work"), (15, 40, 10, 20, 15))[0]
        is_copied = self.synchronize(number, how, done)
        if os.path.isdir(self.copy):
            # rsync without --modify-window=-1 goes by whole seconds, and may leave an edit out that kept the size.
            is_same = is_copied and not stored.differences(stored.look(self.vault), stored.look(self.copy))
            if is_same:
                self.is_torn, self.torn = False, []
            self.verify(number, "the copy", self.copy, done, must_be_whole=is_sealed and is_same)
            if rng.random() < 0.3:
                self.verify(number, "the copy elsewhere", self.copy, done, must_be_whole=is_sealed and is_same,
                            public_key=self.public_key)
        if rng.random() < 0.3:
            self.verify(number, "the vault", self.vault, done)
        self.say(f"use {number}: {', '.join(done) or 'nothing'} | {' | '.join(self.said)}")

    def seal(self, number, how, done):
        """Seals; whether nothing was going on meanwhile."""
        if not how:
            return False
        self.set_mounted(how != "unmounted")
        options = ["--full"] if self.rng.random() < 0.1 else []
        # Before it is sealed, for what is edited from now on may be in the seal or not.
        self.person.times_kept.clear()
        if how == "during work":
            with self.working(f"{number}/seal"):
                said = self.coffer.seal(self.vault, *options)
        else:
            said = self.coffer.seal(self.vault, *options)
        done.append(f"sealed {how} ({said['counter']})")
        if said["counter"] <= self.newest:
            self.alarm(number, f"the seal {said['counter']} after {self.newest}")
        self.newest = said["counter"]
        try:
            stored.Seal(os.path.join(self.vault, stored.SEALS, f"{self.newest:08}"))
        except (ValueError, FileNotFoundError) as error:
            self.alarm(number, f"the seal {self.newest} cannot be read by the format document: {error}")
        return how != "during work"

    def synchronize(self, number, how, done):
        """Copies the vault's ciphertext; whether all of it was, with nothing going on meanwhile."""
        if not how:
            return False
        # What it takes for changed: another size or another time, which is compared by seconds unless told otherwise.
        by, more = self.rng.choice((("seconds", []), ("nanoseconds", ["--modify-window=-1"]),
                                    ("contents", ["--modify-window=-1", "--checksum"])))
        options = ["-aHAX" if how != "without -H" else "-aAX", "--delete", "--exclude=/coffer.log", *more]
        if how == "broken off":
            options.append("--bwlimit=4000")
        command = ["rsync", *options, self.vault + "/", self.copy + "/"]
        done.append(f"rsync by {by}, {how}")
        if how == "during work":
            self.set_mounted(True)
            self.is_torn = True
            with self.working(f"{number}/rsync"):
                # rsync's processes may come to wait for each other for ever where things change under them, and keep
                # each other from taking that for a timeout.
                status = self.rsync(command, max(10, 20 * self.seconds), signal.SIGTERM)
            if status is None:
                done.append("which hung")
            elif status not in (0, 23, 24):                                  # 23, 24: something had vanished
                raise RuntimeError(f"rsync: exit status {status}")
            self.torn = self.losses()
            return False
        if how == "broken off":
            last = self.rng.choice((signal.SIGTERM, signal.SIGKILL))
            self.rsync(command, self.rng.uniform(0, self.seconds * 1.2), last)
            return False
        began = time.monotonic()
        status = self.rsync(command)
        if status:
            raise RuntimeError(f"rsync: exit status {status}")
        self.seconds = time.monotonic() - began
        return True

    @staticmethod
    def rsync(command, patience=None, last=None):
        """The exit status; None where it was ended by the signal `last` after so many seconds."""
        rsync = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            return rsync.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(rsync.pid, last)
            return None
        finally:
            ends = time.monotonic() + 10
            while is_running(rsync.pid):                                     # until its other processes have ended
                if time.monotonic() > ends:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(rsync.pid, signal.SIGKILL)
                time.sleep(0.01)
            rsync.wait()

    # ---- What is said of it ----

    def verify(self, number, what, place, done, must_be_whole=False, public_key=None):
        before = stored.look(place)
        verdict = self.coffer.verify(place, elsewhere=public_key is not None, public_key=public_key)
        # What a mount has taken may be written to its vault at any time.
        after = stored.look(place) if place == self.vault and self.is_mounted else before
        seal = stored.newest_seal(place)
        self.said.append(f"{what}: {verdict.result}" + (f" ({verdict.kinds})" if verdict.findings else ""))
        found = verdict.contradictions()
        if seal is None:
            if verdict.result != "noSeal":
                found.append("there is no seal in it")
        elif verdict.result == "noSeal":
            found.append(f"noSeal, and there is the seal {seal.counter}")
        elif verdict.result is not None:
            differing = [stored.differences(seal.manifest, each) for each in (before, after)]
            if verdict.counter != seal.counter:
                found.append(f"by the seal {verdict.counter}, and the newest is {seal.counter}")
            if must_be_whole and verdict.result != "whole":
                found.append(f"{verdict.result}: " + "; ".join(map(str, verdict.findings[:3])))
            found += self.false_names(place, verdict, differing, seal, public_key)
            found += self.left_out(verdict, differing, seal)
        for text in found[:5]:
            self.alarm(number, f"{what}, after {', '.join(done) or 'nothing'}: {text}")
        if len(found) > 5:
            self.say(f"        and {len(found) - 5} more")

    def false_names(self, place, verdict, differing, seal, public_key):
        """What is named and is not so."""
        either = {path: what - {"owner"} for each in reversed(differing) for path, what in each.items()}
        either = {path: what for path, what in either.items() if what}
        # Where coffer.dir is not the one that was sealed, the names beside it may be none.
        unreadable = {os.path.dirname(path) for path in either if path.endswith("/coffer.dir")}
        for each in verdict.findings:
            if each.grade == "note":
                continue
            if each.problem == "rolledBack" and public_key is None and seal.counter < self.newest:
                continue
            name = each.stored if each.stored is not None else each.path
            if each.problem in program.OF_SEALS:
                yield f"{each} {each.detail}"
                continue
            if not (name in either or any(name.startswith(folder + "/") for folder in unreadable)
                    or any(self.belongs_to(path, name) for path in either)):
                yield f"is as it was sealed: {each} {each.detail}"
            elif each.grade == "damaged":
                if self.is_known_to_differ(place, name, either.get(name, {"missing"})):
                    self.known_to_differ += 1
                    continue
                if place == self.copy and any(f"{name}/".startswith(each + "/") or f"{each}/".startswith(name + "/")
                                              for each in self.torn):
                    self.torn_files += 1
                    continue
                yield f"no damage ({', '.join(sorted(either.get(name, ())))}): {each} {each.detail}"

    @staticmethod
    def belongs_to(path, entry):
        """Whether this is, or may be, a piece of an entry's long name, or what holds a link's target."""
        return path.startswith(entry + ".") or path.startswith(os.path.join(os.path.dirname(entry), "coffer.link."))

    def is_known_to_differ(self, place, name, what):
        """Whether it is no wonder that something has the sealed time, and other bytes."""
        if "contents" not in what and "size" not in what or what & {"time", "type"}:
            return False
        if place == self.copy:
            # rsync goes by size and time, and gives what it has copied the time from before it has read it.
            return "contents" in what or self.is_torn
        try:
            return os.lstat(os.path.join(place, name)).st_ino in self.person.times_kept
        except FileNotFoundError:
            return False

    def losses(self):
        """Where in the copy a check, which goes by no seal, finds damage as well."""
        try:
            return [program.cleaned(each["stored"]) for each in self.coffer.check(self.copy)
                    if each.get("is_loss", each.get("isLoss"))]
        except (ValueError, KeyError, TypeError) as error:
            self.say(f"        the copy cannot be checked: {error}")
            return []

    def left_out(self, verdict, differing, seal):
        """What is surely not as it was sealed, and is not named."""
        named = {each.stored for each in verdict.findings if each.stored is not None}
        for path in sorted(differing[0].keys() & differing[1].keys()):
            what = (differing[0][path] & differing[1][path]) - {"owner"}
            name = os.path.basename(path)
            if not what or not (stored.is_entry(name) or name.startswith("coffer.json")):
                continue                                                     # what goes with an entry is told of there
            above = path.split("/")
            if not any("/".join(above[:count]) in named for count in range(1, len(above) + 1)):
                yield f"is not named: {program.short(path)} ({', '.join(sorted(what))})"


def run(coffer, work, options, say):
    """Rounds of ordinary use; the number of false alarms."""
    use = Use(coffer, work, options, say)
    try:
        use.begin(max(60, options.files // 5))
        for number in range(1, options.use + 1):
            try:
                use.round(number)
            except RuntimeError as error:                                    # the program has failed
                use.alarm(number, str(error))
        say(f"use: {use.newest} seals; told of, and so: {use.known_to_differ} times other bytes with the sealed time, "
            f"{use.torn_files} times what rsync had torn by reading it while it was written")
        return use.alarms
    finally:
        use.set_mounted(False)
