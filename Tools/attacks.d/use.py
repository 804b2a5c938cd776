"""Ordinary use: a person's edits, seals and copies, after which a verification must not raise a false alarm.

What differs is known from the seal's manifest and the stored tree, which `stored` reads without the program. Damage may
only be told of where it is so: where a copy has other bytes under the sealed size and time, because somebody had set the
time back and rsync goes by it; or where rsync has read a file while it was written to, and a check says so as well.
"""
import errno
import os
import random
import shutil
import signal
import stat
import subprocess
import threading
import time

import program
import stored
import trees


class Person:
    """Edits a mounted tree."""

    def __init__(self, root):
        self.root, self.rng = root, random.Random(0)
        self.files, self.directories, self.links = [], [], []
        self.times_kept = set()                                              # inode numbers: edited, with the time put back
        self.made = 0
        # What a person does, and how often.
        self.ways = {
            self.write: 8, self.append: 8, self.overwrite: 8, self.cut: 4, self.rewrite: 6, self.save: 8,
            self.rename: 8, self.move: 5, self.rename_directory: 4, self.move_directory: 2, self.remove: 6,
            self.remove_directory: 1, self.make_directory: 3, self.make_link: 3, self.change_link: 2,
            self.make_hard_link: 2, self.make_fifo: 1, self.set_attribute: 4, self.remove_attribute: 2,
            self.exchange: 2, self.rotate: 2, self.change_mode: 4, self.touch: 4, self.touch_past: 3, self.copy_with_time: 3, self.give_equal_times: 2,
            self.overwrite_keeping_time: 1}

    def look(self):
        self.files, self.directories, self.links = [], [self.root], []
        for folder, directories, files in os.walk(self.root):
            for name in directories + files:
                path = os.path.join(folder, name)
                if os.path.islink(path):
                    self.links.append(path)
                elif os.path.isdir(path):
                    self.directories.append(path)
                elif os.path.isfile(path):
                    self.files.append(path)

    def work(self, count):
        self.look()
        for _ in range(count):
            self.edit()

    def edit(self):
        way = self.rng.choices(list(self.ways), list(self.ways.values()))[0]
        try:
            way()
        except (FileNotFoundError, FileExistsError, NotADirectoryError, IndexError):
            pass                                                             # it was renamed or removed in between
        except OSError as error:
            # A directory moved into itself or over one that is not empty, a file over a directory, a long name made longer.
            if error.errno not in (errno.EINVAL, errno.ENOTEMPTY, errno.EISDIR, errno.ENAMETOOLONG):
                raise

    def file(self):
        path = self.rng.choice(self.files)
        os.lstat(path)
        return path

    def directory(self):
        return self.rng.choice(self.directories)

    def free(self, directory):
        self.made += 1
        return os.path.join(directory, f"{self.rng.choice(trees.WORDS)} {self.made}" + self.rng.choice(trees.ENDINGS))

    def bytes(self):
        return self.rng.randbytes(trees.random_size(self.rng))

    def write(self):
        path = self.free(self.directory())
        with open(path, "xb") as stream:
            stream.write(self.bytes())
        self.files.append(path)

    def append(self):
        with open(self.file(), "r+b") as stream:
            stream.seek(0, os.SEEK_END)
            stream.write(self.bytes())

    def overwrite(self, path=None):
        with open(path or self.file(), "r+b") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(self.rng.randint(0, size))
            stream.write(self.rng.randbytes(self.rng.randint(1, 6000)))
            if self.rng.random() < 0.5:
                stream.truncate(size)                                        # so that more of them keep their size

    def cut(self):
        path = self.file()
        os.truncate(path, self.rng.choice((0, self.rng.randint(0, os.path.getsize(path)),
                                           os.path.getsize(path) + self.rng.randint(1, 50_000))))

    def rewrite(self):
        path = self.file()
        data = self.rng.randbytes(os.path.getsize(path)) if self.rng.random() < 0.5 else self.bytes()
        with open(path, "wb") as stream:
            stream.write(data)

    def save(self):
        path = self.file()
        other = path + ".part"
        with open(other, "wb") as stream:
            stream.write(self.bytes())
        os.rename(other, path)

    def rename(self):
        path = self.file()
        other = self.free(os.path.dirname(path))
        os.rename(path, other)
        self.files.append(other)

    def move(self):
        path = self.file()
        other = os.path.join(self.directory(), os.path.basename(path))
        os.rename(path, other)
        self.files.append(other)

    def rename_directory(self):
        path = self.rng.choice(self.directories[1:])
        other = self.free(os.path.dirname(path))
        os.rename(path, other)
        self.directories.append(other)
        self.look()

    def move_directory(self):
        path = self.rng.choice(self.directories[1:])
        os.rename(path, os.path.join(self.directory(), os.path.basename(path)))
        self.look()

    def exchange(self):
        """Two files get each other's name, and keep their times."""
        one, other = self.file(), self.file()
        between = self.free(os.path.dirname(one))
        os.rename(one, between)
        os.rename(other, one)
        os.rename(between, other)

    def rotate(self):
        """As logs are rotated: each gets the name of the one before it."""
        path = self.file()
        for old, new in ((path + ".1", path + ".2"), (path, path + ".1")):
            if os.path.exists(old):
                os.rename(old, new)
        with open(path, "wb") as stream:
            stream.write(self.bytes())

    def remove(self):
        os.remove(self.rng.choice(self.files + self.links))

    def remove_directory(self):
        path = self.rng.choice(self.directories[1:])
        if sum(len(files) for _, _, files in os.walk(path)) < 20:
            shutil.rmtree(path)
            self.look()

    def make_directory(self):
        path = self.free(self.directory())
        os.mkdir(path)
        self.directories.append(path)

    def make_link(self):
        path = self.free(self.directory())
        os.symlink(self.rng.choice(("a", "some/where/else", trees.LONG_TARGET)), path)
        self.links.append(path)

    def change_link(self):
        path = self.rng.choice(self.links)
        os.remove(path)
        os.symlink(f"target {self.rng.random()}", path)

    def make_hard_link(self):
        path = self.free(self.directory())
        os.link(self.file(), path)
        self.files.append(path)

    def make_fifo(self):
        os.mkfifo(self.free(self.directory()))

    def set_attribute(self):
        path = self.rng.choice((self.file(), self.directory()))
        os.setxattr(path, f"user.{self.rng.choice('abc')}", self.rng.randbytes(self.rng.randint(0, 100)))

    def remove_attribute(self):
        for path in self.files[:50]:
            names = [name for name in os.listxattr(path) if name.startswith("user.")]
            if names:
                os.removexattr(path, names[0])
                return

    def change_mode(self):
        if self.rng.random() < 0.7:
            os.chmod(self.file(), self.rng.choice((0o600, 0o644, 0o640, 0o755, 0o444)))
        else:
            os.chmod(self.directory(), self.rng.choice((0o700, 0o755, 0o750)))

    def touch(self):
        os.utime(self.file())

    def touch_past(self):
        # A second, as `touch -d` is mostly used, or any moment of it.
        moment = self.rng.randint(1_000_000_000, 1_700_000_000) * 10**9 + self.rng.choice((0, 123_456_789))
        os.utime(self.file(), ns=(moment, moment))

    def copy_with_time(self):
        """cp -p, to a new name or over another file, whose time may be newer."""
        source, target = self.file(), self.file() if self.rng.random() < 0.5 else self.free(self.directory())
        before = os.stat(target) if os.path.exists(target) else None
        if before is None or not os.path.samefile(source, target):
            shutil.copy2(source, target)
        after = os.stat(target)
        if before and (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            self.times_kept.add(after.st_ino)                                # the same once more: stored in other bytes

    def give_equal_times(self):
        """Several files of one moment, as unpacking an archive leaves them."""
        moment = self.rng.randint(1_000_000_000, 1_700_000_000) * 10**9
        for _ in range(5):
            path = self.file()
            self.overwrite(path)
            os.utime(path, ns=(moment, moment))

    def overwrite_keeping_time(self):
        """What neither rsync nor anybody who goes by size and time can see."""
        path = self.file()
        before = os.stat(path)
        with open(path, "r+b") as stream:
            stream.write(self.rng.randbytes(min(before.st_size, 5000)))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.times_kept.add(before.st_ino)


class Working:
    """A person who works while something else is done."""

    def __init__(self, person, seed):
        self.person, self.ended, self.error, self.edits = person, threading.Event(), None, 0
        self.rng = random.Random(seed)
        self.thread = threading.Thread(target=self.work, daemon=True)

    def work(self):
        try:
            while not self.ended.wait(self.rng.random() * 0.01):
                self.person.edit()
                self.edits += 1
        except Exception as error:
            self.error = error

    def __enter__(self):
        self.person.rng = self.rng
        self.person.look()
        self.thread.start()
        time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        if self.error:
            raise self.error


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
            else:
                self.coffer.unmount(self.mount)
            self.is_mounted = wanted

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
        self.public_key = self.coffer.public_key(self.vault, os.path.join(os.path.dirname(self.vault), "used public key"))

    # ---- One round ----

    def round(self, number):
        rng, person, done, self.said = self.rng, self.person, [], []
        person.rng = random.Random(rng.random())
        if rng.random() < 0.85:
            self.set_mounted(True)
        if self.is_mounted and (edits := rng.choice((0, 1, 3, 10, 30, 60))):
            person.work(edits)
            done.append(f"{edits} edits")
        is_sealed = self.seal(number, rng.choices(("", "mounted", "during work", "unmounted"), (25, 35, 15, 25))[0], done)
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
                self.rsync(command, (0, 23, 24))                             # 23, 24: something had vanished
            self.torn = self.losses()
            return False
        if how == "broken off":
            rsync = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                     start_new_session=True)
            try:
                rsync.wait(self.rng.uniform(0, self.seconds * 1.2))
            except subprocess.TimeoutExpired:
                os.killpg(rsync.pid, self.rng.choice((signal.SIGTERM, signal.SIGKILL)))
                rsync.wait()
            while True:                                                      # until its other processes have ended
                try:
                    os.killpg(rsync.pid, 0)
                    time.sleep(0.01)
                except ProcessLookupError:
                    break
            return False
        began = time.monotonic()
        self.rsync(command, (0,))
        self.seconds = time.monotonic() - began
        return True

    def rsync(self, command, statuses):
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode not in statuses:
            raise RuntimeError(f"rsync: exit status {done.returncode}: {done.stderr.strip()[-300:]}")

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
                continue                                                     # what goes with an entry may be told of by it
            above = path.split("/")
            if not any("/".join(above[:count]) in named for count in range(1, len(above) + 1)):
                yield f"is not named: {program.short(path)} ({', '.join(sorted(what))})"


def run(coffer, work, options, say):
    """Rounds of ordinary use; the number of false alarms."""
    use = Use(coffer, work, options, say)
    try:
        use.begin(max(60, options.files // 5))
        for number in range(1, options.use + 1):
            use.round(number)
        say(f"use: {use.newest} seals; told of, and so: {use.known_to_differ} times other bytes with the sealed time, "
            f"{use.torn_files} times what rsync had torn by reading it while it was written")
        return use.alarms
    finally:
        if use.is_mounted:
            coffer.unmount(use.mount)
