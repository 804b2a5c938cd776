"""One process that works in a mount, and says of each step when it begins and when it is done."""
import ctypes
import json
import os
import random
import sqlite3
import sys

libc = ctypes.CDLL(None, use_errno=True)
BLOCK = 4096


def contents(seed, count):
    return random.Random(seed).randbytes(count)


class Words:
    """What was begun and what is done, a line each, for whoever checks. Not in the vault."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.number = 0

    def step(self, words, deed):
        self.number += 1
        words["n"] = self.number
        os.write(self.file, json.dumps(words).encode() + b"\n")
        deed()
        os.write(self.file, json.dumps({"done": self.number}).encode() + b"\n")


class Files:
    def __init__(self, root, words, number, seed):
        self.random = random.Random(f"{seed}.{number}")
        self.words = words
        self.number = number
        self.top = os.path.join(root, f"d{number}.0")
        self.next = 1
        self.directories = {0: (None, f"d{number}.0")}
        self.files = {}
        self.sizes = {}
        self.unsynced = {}
        self.root = root
        words.step({"o": "mkdir", "d": 0, "in": None, "name": f"d{number}.0"}, lambda: os.mkdir(self.top))
        words.step({"o": "fsyncdir", "d": None}, lambda: self.sync_path(root))

    def directory(self, key):
        if key is None:
            return self.root
        parent, name = self.directories[key]
        return os.path.join(self.directory(parent), name)

    def path(self, key):
        parent, name = self.files[key][0]
        return os.path.join(self.directory(parent), name)

    @staticmethod
    def sync_path(path, data=False):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            (os.fdatasync if data else os.fsync)(descriptor)
        finally:
            os.close(descriptor)

    def name(self, kind, key):
        tail = "x" * self.random.choice([0, 0, 3, 180, 200]) if kind in "ft" else ""
        return f"{kind}{self.number}-{key}.{self.random.randrange(10**6)}{tail}"

    def with_file(self, key, deed):
        def run():
            descriptor = os.open(self.path(key), os.O_RDWR)
            try:
                deed(descriptor)
            finally:
                os.close(descriptor)
        return run

    def forever(self):
        while True:
            self.once()

    def once(self):
        chance = self.random
        if len(self.files) < 6 or (chance.random() < 0.06 and len(self.files) < 30):
            return self.create()
        key = chance.choice(list(self.files))
        if self.unsynced.get(key, 0) > 12:
            return self.sync(key)
        deed = chance.choices(
            [self.write, self.append, self.truncate, self.punch, self.sync, self.sync_directory, self.rename,
             self.rename_directory, self.mkdir, self.link, self.unlink, self.save, self.attribute, self.symlink],
            [10, 6, 2, 2, 8, 4, 3, 1, 1, 1, 2, 3, 1, 1])[0]
        deed(key)

    def create(self):
        key, self.next = self.next, self.next + 1
        parent = self.random.choice(list(self.directories))
        name = self.name("f", key)
        size = self.random.choice([0, 10, 4096, 5000, 40000, 150000])
        seed = self.random.randrange(1 << 30)
        path = os.path.join(self.directory(parent), name)

        def deed():
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.pwrite(descriptor, contents(seed, size), 0)
            os.close(descriptor)
        self.words.step({"o": "create", "f": key, "in": parent, "name": name, "size": size, "seed": seed}, deed)
        self.files[key] = [(parent, name)]
        self.sizes[key] = size
        self.unsynced[key] = 1

    def change(self, key, words, deed, size):
        words["f"] = key
        self.words.step(words, self.with_file(key, deed))
        self.sizes[key] = size
        self.unsynced[key] = self.unsynced.get(key, 0) + 1

    def write(self, key):
        size = self.sizes[key]
        offset = self.random.randrange(size + 1) if self.random.random() < 0.9 else size + self.random.randrange(30000)
        if self.random.random() < 0.4:
            offset = offset // BLOCK * BLOCK
        count = self.random.choice([1, 100, 4096, 8192, 30000])
        if offset + count > 200000:
            return
        seed = self.random.randrange(1 << 30)
        self.change(key, {"o": "write", "at": offset, "count": count, "seed": seed},
                    lambda d: os.pwrite(d, contents(seed, count), offset), max(size, offset + count))

    def append(self, key):
        size, count = self.sizes[key], self.random.choice([10, 1000, 4096, 20000])
        if size + count > 200000:
            return self.truncate(key)
        seed = self.random.randrange(1 << 30)
        self.change(key, {"o": "write", "at": size, "count": count, "seed": seed},
                    lambda d: os.pwrite(d, contents(seed, count), size), size + count)

    def truncate(self, key):
        size = self.random.choice([0, self.random.randrange(self.sizes[key] + 1), self.sizes[key] + 5000])
        if size > 200000:
            return
        self.change(key, {"o": "truncate", "size": size}, lambda d: os.ftruncate(d, size), size)

    def punch(self, key):
        if self.sizes[key] < 2:
            return
        offset = self.random.randrange(self.sizes[key])
        count = 1 + self.random.randrange(60000)

        def deed(descriptor):
            if libc.fallocate(descriptor, 3, ctypes.c_long(offset), ctypes.c_long(count)) != 0:
                raise OSError(ctypes.get_errno(), "fallocate")
        self.change(key, {"o": "punch", "at": offset, "count": count}, deed, self.sizes[key])

    def sync(self, key):
        data = self.random.random() < 0.5
        self.words.step({"o": "fsync", "f": key}, lambda: self.sync_path(self.path(key), data))
        self.unsynced[key] = 0

    def sync_directory(self, _):
        key = self.random.choice(list(self.directories))
        self.words.step({"o": "fsyncdir", "d": key}, lambda: self.sync_path(self.directory(key)))

    def rename(self, key):
        old = self.path(key)
        parent, name = self.random.choice(list(self.directories)), self.name("f", key)
        self.words.step({"o": "rename", "f": key, "in": parent, "name": name},
                        lambda: os.rename(old, os.path.join(self.directory(parent), name)))
        self.files[key][0] = (parent, name)

    def below(self, key, top):
        while key is not None:
            if key == top:
                return True
            key = self.directories[key][0]
        return False

    def rename_directory(self, _):
        key = self.random.choice(list(self.directories))
        parent = self.random.choice(list(self.directories))
        if key == 0 or self.below(parent, key):
            return
        old, name = self.directory(key), self.name("d", key)
        self.words.step({"o": "renamedir", "d": key, "in": parent, "name": name},
                        lambda: os.rename(old, os.path.join(self.directory(parent), name)))
        self.directories[key] = (parent, name)

    def mkdir(self, _):
        if len(self.directories) > 8:
            return
        key, self.next = self.next, self.next + 1
        parent, name = self.random.choice(list(self.directories)), self.name("d", key)
        path = os.path.join(self.directory(parent), name)
        self.words.step({"o": "mkdir", "d": key, "in": parent, "name": name}, lambda: os.mkdir(path))
        self.directories[key] = (parent, name)

    def link(self, key):
        if len(self.files[key]) > 2:
            return
        old = self.path(key)
        parent, name = self.random.choice(list(self.directories)), self.name("f", key)
        self.words.step({"o": "link", "f": key, "in": parent, "name": name},
                        lambda: os.link(old, os.path.join(self.directory(parent), name)))
        # The new name is the one that is used from now on.
        self.files[key].insert(0, (parent, name))

    def unlink(self, key):
        parent, name = self.files[key][-1]
        path = os.path.join(self.directory(parent), name)
        isLast = len(self.files[key]) == 1
        self.words.step({"o": "unlink", "f": key, "in": parent, "name": name, "last": isLast}, lambda: os.unlink(path))
        self.files[key].pop()
        if isLast:
            del self.files[key]

    def save(self, key):
        """The way of editors: another file, synced or not, takes the place of the first."""
        parent, name = self.files[key][0]
        size, seed = self.random.choice([0, 3000, 50000]), self.random.randrange(1 << 30)
        synced = self.random.random() < 0.7
        temporary = os.path.join(self.directory(parent), self.name("t", key))
        if len(self.files[key]) > 1:
            return

        def deed():
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.pwrite(descriptor, contents(seed, size), 0)
            if synced:
                os.fsync(descriptor)
            os.close(descriptor)
            os.rename(temporary, self.path(key))
        self.words.step({"o": "save", "f": key, "size": size, "seed": seed, "synced": synced}, deed)
        self.sizes[key] = size
        self.unsynced[key] = self.unsynced.get(key, 0) + 1

    def attribute(self, key):
        path = self.path(key)
        self.words.step({"o": "attribute", "f": key}, lambda: os.setxattr(path, "user.mark", b"m" * 100))

    def symlink(self, _):
        key, self.next = self.next, self.next + 1
        parent, name = self.random.choice(list(self.directories)), self.name("s", key)
        path = os.path.join(self.directory(parent), name)
        target = "t" * self.random.choice([5, 500, 3500])
        self.words.step({"o": "symlink", "s": key}, lambda: os.symlink(target, path))
        if self.random.random() < 0.7:
            self.words.step({"o": "unsymlink", "s": key}, lambda: os.unlink(path))


def databases(root, words, number, seed):
    """Transactions, each of which is there once it has returned."""
    mode = ["wal", "delete", "truncate"][number % 3]
    connection = sqlite3.connect(os.path.join(root, f"b{number}.db"), isolation_level=None)
    connection.execute(f"pragma journal_mode={mode}")
    connection.execute("pragma synchronous=full" if mode == "wal" else "pragma synchronous=extra")
    chance = random.Random(f"{seed}.{number}")
    count = 0

    def table():
        connection.execute("create table t(n integer primary key, d blob, sum integer)")
    words.step({"o": "commit", "row": 0}, table)
    while True:
        count += 1

        def transaction():
            data = chance.randbytes(chance.choice([10, 500, 5000]))
            connection.execute("begin")
            connection.execute("insert into t values(?, ?, ?)", (count, data, sum(data)))
            for _ in range(3):
                other, value = 1 + chance.randrange(count), chance.randbytes(300)
                connection.execute("update t set d=?, sum=? where n=?", (value, sum(value), other))
            connection.execute("commit")
        words.step({"o": "commit", "row": count}, transaction)


def main():
    root, path, number, seed, kind = sys.argv[1:]
    words = Words(path)
    try:
        if kind == "databases":
            databases(root, words, int(number), seed)
        elif kind == "postgresql":
            import postgresql
            postgresql.work(root, words, int(number), seed)
        else:
            Files(root, words, int(number), seed).forever()
    except (OSError, sqlite3.Error):
        # Where the driver was ended there is nothing more to do.
        if kind == "killed":
            return
        raise


if __name__ == "__main__":
    main()
