"""A person who works in a mount: what people do with files, in any order."""
import errno
import os
import random
import shutil
import threading
import time

import trees


class Person:
    """Edits a mounted tree."""

    def __init__(self, root):
        self.root, self.rng = root, random.Random(0)
        self.files, self.directories, self.links = [], [], []
        self.times_kept = set()                                              # inode numbers: edited, the time put back
        self.made = 0
        # What a person does, and how often.
        self.ways = {
            self.write: 8, self.append: 8, self.overwrite: 8, self.cut: 4, self.rewrite: 6, self.save: 8,
            self.rename: 8, self.move: 5, self.rename_directory: 4, self.move_directory: 2, self.remove: 6,
            self.remove_directory: 1, self.make_directory: 3, self.make_link: 3, self.change_link: 2,
            self.make_hard_link: 2, self.make_fifo: 1, self.set_attribute: 4, self.remove_attribute: 2,
            self.exchange: 2, self.rotate: 2, self.change_mode: 4, self.touch: 4, self.touch_past: 3,
            self.copy_with_time: 3, self.give_equal_times: 2, self.overwrite_keeping_time: 1}

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
            # A directory moved into itself or over one that is not empty, a file over one, a long name made longer.
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
