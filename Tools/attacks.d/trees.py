"""The tree that is attacked: written through a mount from a seed, then worked on; and where each part is stored."""
import os
import shutil
import stat
from typing import NamedTuple

WORDS = ("photos notes letters tax invoices music drafts work travel kitchen garden school code old spare scans talks "
         "recipes maps backup family rome house Käse straße plan list").split()
ENDINGS = (".jpg", ".txt", ".pdf", ".odt", ".csv", ".md", ".tar.gz", "")
BLOCK = 4096
# For a target that its stored form does not fit into a link's text: it goes into a file beside the link.
LONG_TARGET = "/".join(["a directory with a name of some length"] * 90)


def random_size(rng):
    """Many small files, some of middle size, few large ones, as in a home directory."""
    kind = rng.random()
    if kind < 0.05:
        return 0
    if kind < 0.68:
        return rng.randint(1, 4000)
    if kind < 0.90:
        return rng.randint(4000, 20_000)
    if kind < 0.98:
        return rng.randint(20_000, 80_000)
    return rng.randint(80_000, 300_000)


class Tree:
    """The tree in a mount. Some things are in it for attacks that need them; `roles` says where, as paths in it."""

    def __init__(self, root, rng, count):
        self.root, self.rng, self.count = root, rng, count
        self.directories, self.files, self.roles = [""], [], {}
        self.made = 0

    def at(self, path):
        return os.path.join(self.root, path)

    def write(self, path, data):
        with open(self.at(path), "xb") as stream:
            stream.write(data)
        self.made += 1

    def name(self):
        return f"{self.rng.choice(WORDS)} {self.rng.randrange(10_000)}"

    def free(self, directory, ending=""):
        """A path in a directory that is not taken."""
        while True:
            path = os.path.join(directory, self.name() + ending)
            if not os.path.lexists(self.at(path)):
                return path

    def play(self, role, *things):
        self.roles.setdefault(role, []).extend(things)

    def directory(self, role=None, inside=None):
        """A new directory, anywhere or inside another."""
        if inside is None:
            inside = self.rng.choice([each for each in self.directories if each.count("/") < 4])
        path = self.free(inside)
        os.mkdir(self.at(path))
        if role:
            self.play(role, path)
        return path

    def some_files(self, role, directory, count, size, ending=".bin"):
        for _ in range(count):
            path = self.free(directory, ending)
            self.write(path, self.rng.randbytes(size() if callable(size) else size))
            self.play(role, path)

    def make(self):
        rng = self.rng
        while len(self.directories) < max(8, self.count // 12):
            parent = rng.choice(self.directories)
            if parent.count("/") < 5:
                path = self.free(parent)
                os.mkdir(self.at(path))
                self.directories.append(path)
        self.make_roles()
        while self.made < self.count or len(self.files) < 40:
            path = self.free(rng.choice(self.directories), rng.choice(ENDINGS))
            self.write(path, rng.randbytes(random_size(rng)))
            self.files.append(path)
        for path in rng.sample(self.files, len(self.files) * 2 // 3):
            # Files of a real tree are from many years, not all from this second.
            moment = rng.randint(1_500_000_000_000_000_000, 1_750_000_000_000_000_000)
            os.utime(self.at(path), ns=(moment, moment))
        for path in rng.sample(self.files, len(self.files) // 20):
            os.setxattr(self.at(path), "user.comment", rng.randbytes(rng.randint(1, 200)))
        for path in rng.sample(self.files, len(self.files) // 50):
            os.chmod(self.at(path), rng.choice((0o600, 0o640, 0o755, 0o444)))

    def make_roles(self):
        rng = self.rng
        for role, count in (("equal", 6), ("equal elsewhere", 4)):
            self.some_files(role, self.directory(), count, 9 * BLOCK)
        self.some_files("empty file", self.directory(), 2, 0)
        self.some_files("large", self.directory(), 2, lambda: rng.randint(2 << 20, 4 << 20))
        place = self.directory()
        for role, count, size in (("two blocks written", 3, 9 * BLOCK + 77), ("one block written", 2, 8 * BLOCK + 5),
                                  ("rewritten in its size", 2, 5 * BLOCK + 9), ("rewritten", 2, 6 * BLOCK),
                                  ("cut by a block", 2, 6 * BLOCK), ("appended", 2, 3 * BLOCK + 100)):
            self.some_files(role, place, count, size)
        self.some_files("removed", self.directory(), 4, lambda: rng.randint(10, 9000))
        self.some_files("before renaming", self.directory(), 4, lambda: rng.randint(10, 9000))
        self.some_files("to be overwritten", self.directory(), 3, lambda: rng.randint(5000, 20_000))
        place = self.directory("removed directory")
        self.some_files("in removed directory", place, 3, 5000)
        self.some_files("in removed directory", self.directory(inside=place), 2, 300)
        for _ in range(2):
            place = self.directory("changing directory")
            self.some_files("in changing directory", place, 6, lambda: rng.randint(10, 15_000))
            self.some_files("in changing directory", self.directory(inside=place), 3, 2000)
        place = self.directory()
        for role in ("sibling", "renamed once", "renamed twice"):
            for _ in range(3):
                inner = self.directory(role, inside=place)
                self.some_files("in " + role, inner, 3, lambda: rng.randint(10, 9000))
                self.some_files("in " + role, self.directory(inside=inner), 2, 700)
        for role in ("renamed once", "renamed twice"):
            # A renamed directory keeps the ids of its entries in coffer.dir.
            self.roles[role] = [self.rename(path, self.free(os.path.dirname(path))) for path in self.roles[role]]
        for _ in range(3):
            self.directory("empty")
        self.make_sparse_files()
        place = self.directory()
        for length in (255, 255, 200, 176):
            name = self.name()
            path = os.path.join(place, name + "x" * (length - len(os.fsencode(name))))
            self.write(path, rng.randbytes(rng.randint(1, 9000)))
            self.play("long name", path)
        place = os.path.join(place, "directory " * 20)
        os.mkdir(self.at(place))
        self.play("directory of a long name", place)
        self.some_files("in a directory of a long name", place, 2, 1000)
        self.make_links()
        self.make_attributes()
        place = self.directory()
        os.mkfifo(self.at(os.path.join(place, "pipe")), 0o640)
        self.play("fifo", os.path.join(place, "pipe"))

    def make_sparse_files(self):
        place = self.directory()
        for role, count in (("hole to be filled", 2), ("sparse", 2)):
            for _ in range(count):
                path = self.free(place)
                with open(self.at(path), "xb") as stream:
                    stream.write(self.rng.randbytes(4 * BLOCK))
                    stream.seek(20 * BLOCK)
                    stream.write(self.rng.randbytes(3 * BLOCK + 10))
                self.made += 1
                self.play(role, path)

    def make_links(self):
        place = self.directory()
        for role, targets in (("link", ["../notes", "/etc/hostname", "nowhere", "a b c"]),
                              ("changing link", ["first target", "first target, too"]),
                              ("long link", [LONG_TARGET, LONG_TARGET[:3500]])):
            for target in targets:
                path = self.free(place)
                os.symlink(target, self.at(path))
                self.play(role, path)
        for path in self.roles["link"][:2]:
            os.setxattr(self.at(path), "trusted.note", self.rng.randbytes(20), follow_symlinks=False)
            self.play("link with an attribute", path)
        # Two names of one file, in two directories, so that each can be told from the other by where it is.
        for _ in range(2):
            first, second = self.free(self.directory()), self.free(self.directory())
            self.write(first, self.rng.randbytes(9000))
            os.link(self.at(first), self.at(second))
            self.play("hard link", (first, second))

    def make_attributes(self):
        place = self.directory()
        for role in ("attribute", "changing attribute"):
            self.some_files(role, place, 3, 3000)
            for _ in range(2):
                self.play(role + " of a directory", self.directory(inside=place))
            for path in self.roles[role] + self.roles[role + " of a directory"]:
                os.setxattr(self.at(path), "user.one", self.rng.randbytes(30))
                os.setxattr(self.at(path), "user.two", b"two")

    def rename(self, old, new):
        os.rename(self.at(old), self.at(new))
        return new

    # ---- What is done between the two seals ----

    def overwrite(self, path, offset, data):
        with open(self.at(path), "r+b") as stream:
            stream.seek(offset)
            stream.write(data)

    def replace(self, path, data, how="wb"):
        with open(self.at(path), how) as stream:
            stream.write(data)

    def work(self):
        """About one in twenty files is changed, and what has a role is changed as it says."""
        rng, roles = self.rng, self.roles
        for path in roles["two blocks written"]:
            self.overwrite(path, 2 * BLOCK + 5, rng.randbytes(100))
            self.overwrite(path, 5 * BLOCK + 50, rng.randbytes(1000))
        for path in roles["one block written"]:
            self.overwrite(path, 3 * BLOCK + 500, rng.randbytes(10))
        for path in roles["rewritten in its size"]:
            self.replace(path, rng.randbytes(os.path.getsize(self.at(path))))
        for path in roles["rewritten"]:
            self.replace(path, rng.randbytes(7 * BLOCK + 1))
        for path in roles["cut by a block"]:
            os.truncate(self.at(path), 5 * BLOCK)
        for path in roles["appended"]:
            self.replace(path, rng.randbytes(2 * BLOCK), "ab")
        for path in roles["hole to be filled"]:
            self.overwrite(path, BLOCK, rng.randbytes(50))
            self.overwrite(path, 10 * BLOCK, rng.randbytes(BLOCK))
        for path in roles["removed"]:
            os.remove(self.at(path))
        for path in roles["before renaming"]:
            self.play("renamed", (path, self.rename(path, self.free(os.path.dirname(path), ".bin"))))
        for path in roles["to be overwritten"]:
            # As editors save: a new file gets the name of the old one.
            other = self.free(os.path.dirname(path), ".new")
            self.write(other, rng.randbytes(rng.randint(5000, 20_000)))
            self.rename(other, path)
        for path in roles["removed directory"]:
            shutil.rmtree(self.at(path))
        changing = roles["in changing directory"]
        for path in changing[::3]:
            self.replace(path, rng.randbytes(rng.randint(1, 9000)))
        for path in changing[1::3]:
            os.remove(self.at(path))
        for path in roles["changing directory"]:
            self.some_files("added", path, 2, 4000)
        roles["renamed twice"] = [self.rename(path, self.free(os.path.dirname(path)))
                                  for path in roles["renamed twice"]]
        for path in roles["changing link"]:
            os.remove(self.at(path))
            os.symlink("another target", self.at(path))
        for path in roles["changing attribute"] + roles["changing attribute of a directory"]:
            os.setxattr(self.at(path), "user.one", rng.randbytes(30))
        self.work_anywhere()

    def work_anywhere(self):
        rng = self.rng
        chosen = rng.sample(self.files, max(6, len(self.files) // 20))
        for number, path in enumerate(chosen):
            size = os.path.getsize(self.at(path))
            if number % 6 == 0:
                self.overwrite(path, rng.randint(0, size), rng.randbytes(rng.randint(1, 9000)))
            elif number % 6 == 1:
                self.replace(path, rng.randbytes(rng.randint(1, 9000)), "ab")
            elif number % 6 == 2:
                os.truncate(self.at(path), rng.randint(0, size))
            elif number % 6 == 3:
                self.rename(path, self.free(rng.choice(self.directories)))
            elif number % 6 == 4:
                os.remove(self.at(path))
            else:
                self.replace(path, rng.randbytes(random_size(rng)))
                self.write(self.free(os.path.dirname(path)), rng.randbytes(random_size(rng)))


# ---- Where it is stored ----------------------------------------------------------------------------------------------

class Entry(NamedTuple):
    """One thing of the tree, in plain text and as it is stored."""
    path: str
    stored: str
    status: os.stat_result                                                   # of what is stored

    @property
    def kind(self):
        return {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}.get(
            stat.S_IFMT(self.status.st_mode), "other")

    @property
    def size(self):
        return self.status.st_size

    @property
    def time(self):
        return self.status.st_mtime_ns

    @property
    def directory(self):
        return os.path.dirname(self.stored)


def entries(mount, vault):
    """All entries by their path. A mount shows the inode numbers of what is behind it: by these a path and a stored
    path are known to be of the same thing. Of a directory's names for one and the same file it cannot be told which is
    which; they are left out."""
    found = {}

    def add(path, stored):
        shown, behind = {}, {}
        with os.scandir(os.path.join(mount, path)) as listing:
            for each in listing:
                shown.setdefault(os.lstat(each.path).st_ino, []).append(each.name)
        with os.scandir(os.path.join(vault, stored)) as listing:
            for each in listing:
                # Pieces of names and files beside links have numbers of their own, which the mount does not show.
                behind.setdefault(os.lstat(each.path).st_ino, []).append(each.name)
        for number, names in shown.items():
            others = behind.get(number, [])
            if not others:
                raise RuntimeError(f"'{path}/{names[0]}' has the inode number {number}, and nothing stored has")
            if len(names) != 1 or len(others) != 1:
                continue
            inner = os.path.join(path, names[0]), os.path.join(stored, others[0])
            entry = found[inner[0]] = Entry(*inner, os.lstat(os.path.join(vault, inner[1])))
            if entry.kind == "directory":
                add(*inner)

    found[""] = Entry("", "", os.lstat(vault))
    add("", "")
    return found
