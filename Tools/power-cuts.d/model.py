"""What must be there, and what may be, after a power cut."""
import copy
import json
import os
import sqlite3

from worker import BLOCK, contents

# No line of words is longer, in bytes.
LINE = 8192


class Violation(Exception):
    pass


class File:
    def __init__(self, parent, name, state):
        # Contents since they were synced last, those first.
        self.states = [b"", state]
        self.is_synced = False
        self.is_gone = False
        # It has its place for good once these directories have been synced.
        self.pending = {parent}
        self.is_placed = False
        self.parents = {parent}
        # The contents of another file are to become its own.
        self.is_whole_only = False

    def moved(self, parent):
        self.pending |= self.parents | {parent}
        self.parents.add(parent)
        self.last = parent


class Directory:
    def __init__(self, parent):
        self.parents = {parent}
        self.pending = {parent}
        self.is_placed = False
        self.last = parent


class Worker:
    """What one process has said, up to a point of its words."""

    # Whatever is done is promised, synced or not: a process that is killed takes nothing along.
    is_strict = False

    def __init__(self):
        self.files = {}
        self.directories = {}
        self.open = {}
        self.row = -1
        self.possible_row = -1

    def begin(self, words):
        deed = words["o"]
        file = self.files.get(words.get("f"))
        if deed == "create":
            file = File(words["in"], words["name"], contents(words["seed"], words["size"]))
            file.last = words["in"]
            self.files[words["f"]] = file
        elif deed == "write":
            old = file.states[-1]
            old = old.ljust(words["at"], b"\0")
            new = old[:words["at"]] + contents(words["seed"], words["count"]) + old[words["at"] + words["count"]:]
            file.states.append(new)
        elif deed == "truncate":
            file.states.append(file.states[-1][:words["size"]].ljust(words["size"], b"\0"))
        elif deed == "punch":
            old = file.states[-1]
            end = min(len(old), words["at"] + words["count"])
            file.states.append(old[:words["at"]] + bytes(max(0, end - words["at"])) + old[end:])
        elif deed == "save":
            if not words["synced"]:
                file.states.append(b"")
            file.states.append(contents(words["seed"], words["size"]))
            file.is_saved = True
            file.pending |= file.parents
        elif deed == "rename":
            file.moved(words["in"])
        elif deed == "link":
            file.moved(words["in"])
        elif deed == "unlink":
            file.pending |= {words["in"]}
            if words["last"]:
                file.is_gone = True
        elif deed == "mkdir":
            self.directories[words["d"]] = Directory(words["in"])
        elif deed == "renamedir":
            directory = self.directories[words["d"]]
            directory.pending |= directory.parents | {words["in"]}
            directory.parents.add(words["in"])
            directory.last = words["in"]
        elif deed == "commit":
            self.possible_row = words["row"]
        self.open[words["n"]] = words

    def done(self, number):
        words = self.open.pop(number)
        deed = words["o"]
        if deed == "fsync":
            file = self.files[words["f"]]
            # A file that took another's place may still be the other, until the directory is synced.
            if not getattr(file, "is_saved", False):
                file.states = file.states[-1:]
            file.is_synced = True
        elif deed == "fsyncdir":
            for thing in list(self.files.values()) + list(self.directories.values()):
                thing.pending.discard(words["d"])
                if not thing.pending:
                    thing.is_placed = True
                    thing.parents = {thing.last}
                    if isinstance(thing, File):
                        thing.is_saved = False
        elif deed == "unlink" and words["last"]:
            self.files.pop(words["f"], None)
        elif deed == "commit":
            self.row = words["row"]
        if self.is_strict:
            for thing in [self.files.get(words.get("f")), self.directories.get(words.get("d"))]:
                if thing is None:
                    continue
                thing.pending = set()
                thing.is_placed = True
                thing.parents = {thing.last}
                if isinstance(thing, File):
                    thing.states = thing.states[-1:]
                    thing.is_synced = True
                    thing.is_saved = False

    def is_reachable(self, key):
        """Whether a directory, and all above it, are where they are for good."""
        while key is not None:
            directory = self.directories.get(key)
            if directory is None or not directory.is_placed:
                return False
            if directory.pending:
                return False
            key = directory.last
        return True


class State:
    def __init__(self, words, count):
        self.paths = [os.path.join(words, str(number)) for number in range(count)]
        self.workers = [Worker() for _ in range(count)]
        self.read = [0] * count
        self.checked = 0

    def positions(self):
        """How far each process's words go by now, whole lines only: while a line is being written across two pages, a part of it can be seen."""
        return [self.position(path) for path in self.paths]

    @staticmethod
    def position(path):
        if not os.path.exists(path):
            return 0
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = max(0, size - LINE)
            file.seek(start)
            # Of a line that is not whole nothing is done yet.
            end = file.read(size - start).rfind(b"\n")
            if end < 0 and start > 0:
                raise ValueError(f"a line of more than {LINE} bytes in {path}")
            return start + end + 1

    def words(self, number, start, end):
        with open(self.paths[number], "rb") as file:
            file.seek(start)
            for line in file.read(end - start).splitlines():
                yield json.loads(line)

    def check(self, root, before, after, is_native):
        self.checked = 0
        found = self.walk(root)
        for number, worker in enumerate(self.workers):
            for words in self.words(number, self.read[number], before[number]):
                if "done" in words:
                    worker.done(words["done"])
                else:
                    worker.begin(words)
            self.read[number] = before[number]
            now = copy.deepcopy(worker)
            for words in self.words(number, before[number], after[number]):
                if "done" not in words:
                    now.begin(words)
                elif now.open.get(words["done"], {}).get("o") in ("save", "create"):
                    pass
            self.compare(number, now, found, is_native)
            if worker.possible_row >= 0:
                self.compare_database(root, number, now)

    def walk(self, root):
        """Everything there is, by the number in its name. All of it must be readable."""
        found = {}
        for place, directories, files in os.walk(root, onerror=self.fail):
            for name in directories + files:
                path = os.path.join(place, name)
                try:
                    if os.path.islink(path):
                        os.readlink(path)
                        continue
                    for attribute in os.listxattr(path):
                        os.getxattr(path, attribute)
                    if name in directories:
                        found.setdefault(name.split(".")[0], []).append((path, None))
                        continue
                    with open(path, "rb") as file:
                        found.setdefault(name.split(".")[0], []).append((path, file.read()))
                except OSError as error:
                    raise Violation(f"unreadable: {path}: {error}")
                self.checked += 1
                if name.startswith("coffer."):
                    raise Violation(f"unreadable name: {path}")
        return found

    @staticmethod
    def fail(error):
        raise Violation(f"unreadable directory: {error}")

    def compare(self, number, worker, found, is_native):
        for key, directory in worker.directories.items():
            if worker.is_reachable(key) and f"d{number}" not in found and key == 0:
                raise Violation(f"directory d{number} is gone")
            if key != 0 and directory.is_placed and worker.is_reachable(key) and f"d{number}-{key}" not in found:
                raise Violation(f"directory d{number}-{key} is gone")
        for key, file in worker.files.items():
            name = f"f{number}-{key}"
            there = found.get(name, [])
            is_promised = (
                file.is_synced and file.is_placed and not file.is_gone and not file.pending
                and worker.is_reachable(file.last))
            if is_promised and not there:
                raise Violation(f"{name} is gone")
            for path, data in there:
                self.compare_contents(path, data, file, is_promised, is_native)

    def compare_contents(self, path, data, file, is_promised, is_native):
        if file.is_synced and len(file.states) == 1:
            if data != file.states[0]:
                raise Violation(f"{path} has {len(data)} bytes that are not the {len(file.states[0])} that were synced")
            return
        sizes = [len(state) for state in file.states]
        most = (max(sizes) + BLOCK - 1) // BLOCK * BLOCK
        if len(data) > most or (file.is_synced and len(data) < min(sizes)):
            raise Violation(f"{path} has {len(data)} bytes, of {sizes}")
        for start in range(0, len(data), BLOCK):
            block = data[start:start + BLOCK]
            if is_native and not any(block):
                continue
            for state in file.states:
                if len(state) > start and state[start:start + len(block)].ljust(len(block), b"\0") == block:
                    break
            else:
                raise Violation(f"{path} has a block at {start} that it never had; sizes {sizes}, {len(data)} there")

    def compare_database(self, root, number, worker):
        path = os.path.join(root, f"b{number}.db")
        if worker.row < 0:
            return
        try:
            connection = sqlite3.connect(path)
            words = connection.execute("pragma integrity_check").fetchone()[0]
            if words != "ok":
                raise Violation(f"{path}: {words}")
            rows = connection.execute("select n, d, sum from t order by n").fetchall()
            connection.close()
        except sqlite3.Error as error:
            raise Violation(f"{path}: {error}")
        if not worker.row <= len(rows) <= worker.possible_row:
            raise Violation(f"{path} has {len(rows)} rows, of {worker.row} to {worker.possible_row}")
        for row, data, total in rows:
            if sum(data) != total:
                raise Violation(f"{path}: row {row} is a mixture")
        self.checked += len(rows)
