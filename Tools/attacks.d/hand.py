"""What attacks are made with: the states of a vault, a hand that changes a copy of it, and what is to be found then."""
import base64
import functools
import os
import random
import shutil
import subprocess
import time
from typing import NamedTuple

import stored
from stored import BLOCK, HEADER

DAY = 86_400 * 10**9


class Unfit(Exception):
    """There is nothing in this tree that the attack could be made on."""


class Hit(NamedTuple):
    """What an attack was made on."""
    stored: str
    path: str | None                                                         # in plain text, where it has such a path
    below: bool                                                              # what is below it is meant as well
    must: bool                                                               # has to be found, or may be

    def is_meant(self, finding):
        """Whether a finding speaks of this."""
        if self.path is not None and finding.path is not None and self.covers(self.path, finding.path):
            return True
        return finding.stored is not None and self.covers(self.stored, finding.stored)

    def covers(self, mine, other):
        if other == mine or self.below and (other.startswith(mine + "/") or not mine):
            return True
        # Pieces of a long name stand beside the entry, and begin as it does.
        return os.path.basename(mine).startswith("coffer.long.") and other.startswith(mine + ".")

    def is_named(self, findings, with_key):
        """Whether one of the findings names it: by its path with the key, by where it is stored without. Of a directory
        it is enough that things in it are named, whose names may not be to be read; the root may be named by either."""
        if self.below or not self.stored:
            return any(self.is_meant(each) for each in findings)
        if not with_key or self.path is None:
            return any(each.stored is not None and self.covers(self.stored, each.stored) for each in findings)
        return any(each.path is not None and self.covers(self.path, each.path) for each in findings)


class World:
    """What attacks are made of: two states of a vault, with their seals."""

    def __init__(self, old, new, old_entries, new_entries, roles):
        self.old, self.new = old, new
        self.old_entries, self.new_entries = old_entries, new_entries
        self.by_stored = {each.stored: each for known in (old_entries, new_entries) for each in known.values()}
        self.roles = roles
        self.changed = stored.differences(stored.look(old), stored.look(new))
        self.counter = max(map(int, stored.seals(new)))
        self.old_counter = max(map(int, stored.seals(old)))
        self.anchor = self.public_key = None
        # Of another vault: a copy of it with seals, its public key and an anchor.
        self.other = self.other_public_key = self.other_anchor = None


class Hand:
    """Makes one attack on a copy of the newer state."""

    def __init__(self, world, copy, seed):
        self.world, self.copy, self.random = world, copy, random.Random(seed)
        self.hits, self.options, self.public_key = [], [], world.public_key

    # ---- What to attack ----

    def at(self, path):
        return os.path.join(self.copy, path)

    def was(self, path):
        """A stored path in the older state."""
        return os.path.join(self.world.old, path)

    def hit(self, entry, below=None, must=True):
        """Says that an entry, or a stored path, is attacked. What is not in the tree has no path in plain text."""
        if isinstance(entry, str):
            known = self.world.by_stored.get(entry)
            self.hits.append(Hit(entry, known and known.path, bool(below), must))
        else:
            below = entry.kind == "directory" if below is None else below
            self.hits.append(Hit(entry.stored, entry.path, below, must))
        return entry

    def one(self, role, count=None):
        """An entry that plays a role, or some of them."""
        paths = [path for path in self.world.roles[role] if path in self.world.new_entries]
        if len(paths) < (count or 1):
            raise Unfit(f"there is no '{role}'")
        chosen = [self.world.new_entries[path] for path in self.random.sample(paths, count or 1)]
        return chosen if count else chosen[0]

    def old_one(self, role):
        """An entry of the older state that plays a role."""
        return self.world.old_entries[self.random.choice(self.world.roles[role])]

    def pick(self, is_fit=lambda each: True, kind="file"):
        """Any entry of a kind that is fit for it. It has one name, so that nothing else is attacked with it."""
        known = self.world.new_entries
        for path in self.random.sample(sorted(known), len(known)):
            each = known[path]
            if path and each.kind == kind and (kind == "directory" or each.status.st_nlink == 1) and is_fit(each):
                return each
        raise Unfit(f"there is no {kind} for it")

    def file(self, count=1):
        """A file of so many whole blocks, without a hole."""
        def is_fit(each):
            if each.size < HEADER + count * BLOCK:
                return False
            with open(os.path.join(self.world.new, each.stored), "rb") as stream:
                return all(block.strip(b"\0") for block in stored.blocks(stream.read())[1])

        return self.pick(is_fit)

    def a_directory(self, is_fit=lambda each: True):
        """A directory with something in it, which was never renamed."""
        return self.pick(lambda each: each.path and os.listdir(self.at(each.stored)) and is_fit(each)
                         and not os.path.exists(self.at(each.stored + "/coffer.dir")), "directory")

    def companions(self, entry):
        """What stands beside an entry and belongs to it: the pieces of its name, the file with a link's target."""
        folder, name = os.path.split(entry.stored)
        marks = [name + "."] if name.startswith("coffer.long.") else []
        if entry.kind == "link" and os.readlink(self.at(entry.stored)).startswith("coffer.link."):
            marks.append(os.readlink(self.at(entry.stored))[:34])
        return sorted(os.path.join(folder, each) for each in os.listdir(self.at(folder))
                      if any(each.startswith(mark) for mark in marks))

    # ---- How ----

    def moment(self, entry, when):
        return {"sealed": entry.time, "newer": entry.time + 10 * 10**9, "older": entry.time - DAY,
                "future": time.time_ns() + 365 * DAY}.get(when, when)

    def set_time(self, entry, when="sealed"):
        moment = self.moment(entry, when)
        os.utime(self.at(entry.stored), ns=(moment, moment), follow_symlinks=False)

    def rewrite(self, entry, change, when="sealed"):
        """Writes a file anew with what `change` makes of its bytes."""
        with open(self.at(entry.stored), "r+b") as stream:
            before = stream.read()
            after = change(before)
            if after == before:
                raise Unfit("nothing was changed")
            stream.seek(0)
            stream.write(after)
            stream.truncate()
        self.set_time(entry, when)
        self.hit(entry)

    def rewrite_blocks(self, entry, change, when="sealed"):
        """Likewise, with what `change` makes of a list of its blocks."""
        def change_bytes(data):
            header, blocks = stored.blocks(data)
            return header + b"".join(change(list(blocks)))

        self.rewrite(entry, change_bytes, when)

    def flip(self, data, start=0, end=None):
        at = self.random.randrange(start, len(data) if end is None else end)
        return data[:at] + bytes([data[at] ^ 1 << self.random.randrange(8)]) + data[at + 1:]

    def old_bytes(self, entry):
        with open(self.was(entry.stored), "rb") as stream:
            return stream.read()

    def exchange(self, one, other, when="sealed"):
        """Two things get each other's place, with all that belongs to them, and the times of the place or their own."""
        between = self.at("between")
        os.rename(self.at(one.stored), between)
        os.rename(self.at(other.stored), self.at(one.stored))
        os.rename(between, self.at(other.stored))
        if when == "sealed":
            self.set_time(one)
            self.set_time(other)
        self.hit(one)
        self.hit(other)

    def remove(self, entry):
        for each in self.companions(entry):
            os.remove(self.at(each))
            self.hit(each, must=False)
        if entry.kind == "directory":
            shutil.rmtree(self.at(entry.stored))
        else:
            os.remove(self.at(entry.stored))
        self.hit(entry)

    def put_back(self, path=""):
        """Copies something from the older state to where it was, with its time and all."""
        subprocess.run(["cp", "-a", "--no-target-directory", self.was(path), self.at(path)], check=True)

    def any_name(self):
        """A stored name that looks like one, and cannot be one."""
        return "c" + base64.urlsafe_b64encode(self.random.randbytes(32)).rstrip(b"=").decode()

    def seal_path(self, counter):
        return self.at(f"{stored.SEALS}/{counter:08}")

    def read_seal(self, counter, vault=None):
        with open(os.path.join(vault or self.copy, stored.SEALS, f"{counter:08}"), "rb") as stream:
            return stream.read()

    def write_seal(self, counter, data):
        with open(self.seal_path(counter), "wb") as stream:
            stream.write(data)

    def everything_since(self):
        """What has changed between the two seals is not as the older one says; it may be named, or left to the seal."""
        for path in self.world.changed:
            self.hit(path, below=False, must=False)
        for directory in {os.path.dirname(path) for path in self.world.changed if path.endswith("coffer.dir")}:
            # Without its coffer.dir, or with an older one, names do not verify that are there.
            self.hit(directory, below=True, must=False)


class Attack(NamedTuple):
    """An attack, and what a verification may say of it: with the key, and with the public key elsewhere."""
    name: str
    make: object
    results: tuple                                                           # sets of results
    kinds: tuple                                                             # sets of which one has to be found, if any
    refusals: frozenset = frozenset()                                        # exit statuses that are right as well
    of_seals: bool = False                                                   # findings of the seals are right
    elsewhere: bool = False                                                  # with the key, too, on another machine


catalogue, open_gaps = [], []


def attack(name, key, public=None, kinds=(), public_kinds=None, of_seals=False, refusals=(), elsewhere=False, **fixed):
    """Adds an attack to the catalogue. What is `fixed` is given to the function that makes it."""
    def add(make):
        catalogue.append(Attack(
            name, functools.partial(make, **fixed), (set(key.split()), set((public or key).split())),
            (set(kinds), set(kinds if public_kinds is None else public_kinds)), frozenset(refusals),
            of_seals or bool(kinds), elsewhere))
        return make

    return add


def open_gap(name, elsewhere=False, **fixed):
    """Adds an attack of which it is said openly that it is not found, or that it is a note only."""
    def add(make):
        open_gaps.append(Attack(name, functools.partial(make, **fixed), ({"whole"}, {"whole"}), (set(), set()),
                                elsewhere=elsewhere))
        return make

    return add
