"""What is done with them. Each workload prepares what it needs, and then times what it is about; more is better in all of them."""
import os
import random
import sqlite3
import subprocess
import tarfile
import threading
import time

MIB = 1 << 20


class Load:
    """What a workload gets: the system under test, how much there is to be done (1 is the whole), and where others' data is."""

    def __init__(self, system, scale, tree, repository):
        self.system, self.scale, self.tree, self.repository = system, scale, tree, repository

    def path(self, name):
        return os.path.join(self.system.place, name)

    def count(self, number):
        return max(1, int(number * self.scale))


# How many processors were busy while the last step was timed, with everything that the machine did.
processors_busy = None


def busy():
    """Seconds that the machine's processors have been busy, in sum."""
    with open("/proc/stat") as file:
        ticks = [int(word) for word in file.readline().split()[1:]]
    idle, waiting = ticks[3], ticks[4]
    return (sum(ticks[:7]) - idle - waiting) / os.sysconf("SC_CLK_TCK")


def timed(step):
    global processors_busy
    before, begin = busy(), time.monotonic()
    step()
    elapsed = time.monotonic() - begin
    processors_busy = (busy() - before) / elapsed
    return elapsed


def shell(*words, **options):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)


def write_file(path, mebibytes):
    block = os.urandom(MIB)
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for _ in range(mebibytes):
        os.write(file, block)
    os.fsync(file)
    os.close(file)


def sequential_write(load):
    """sequential write, MiB/s"""
    size = load.count(1024)
    return size / timed(lambda: write_file(load.path("big"), size))


def sequential_read(load):
    """sequential read, cold, MiB/s"""
    size = load.count(1024)
    write_file(load.path("big"), size)
    load.system.remount()
    buffer = bytearray(MIB)

    def step():
        file = os.open(load.path("big"), os.O_RDONLY)
        while os.readv(file, [buffer]):
            pass
        os.close(file)
    return size / timed(step)


def random_reads(load, processes):
    size, count = load.count(512), load.count(20000)
    write_file(load.path("big"), size)
    load.system.remount()

    def read(number):
        file, chance = os.open(load.path("big"), os.O_RDONLY), random.Random(number)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(count // processes):
            os.pread(file, 4096, chance.randrange(size * 256) * 4096)
        os.close(file)

    def step():
        if processes == 1:
            return read(0)
        children = []
        for number in range(processes):
            child = os.fork()
            if child == 0:
                try:
                    read(number)
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(child)
        for child in children:
            if os.waitpid(child, 0)[1] != 0:
                raise RuntimeError("a reader failed")
    return count / timed(step)


def random_read_1(load):
    """random 4 KiB reads, cold, one process, /s"""
    return random_reads(load, 1)


def random_read_4(load):
    """random 4 KiB reads, cold, four processes, /s"""
    return random_reads(load, 4)


def random_writes(load, count, sync):
    size, data = load.count(256), os.urandom(4096)
    write_file(load.path("big"), size)
    load.system.remount()
    file, chance = os.open(load.path("big"), os.O_RDWR), random.Random(1)

    def step():
        for _ in range(count):
            os.pwrite(file, data, chance.randrange(size * 256) * 4096)
            if sync:
                os.fdatasync(file)
        os.fsync(file)
    rate = count / timed(step)
    os.close(file)
    return rate


def random_write(load):
    """random 4 KiB writes, fsync at the end, /s"""
    return random_writes(load, load.count(40000), False)


def random_write_sync(load):
    """random 4 KiB writes, fdatasync each, /s"""
    return random_writes(load, load.count(5000), True)


def small_files(load):
    """new files of 1 KiB, /s"""
    count, data = load.count(5000), os.urandom(1024)

    def step():
        for number in range(count):
            with open(load.path(f"{number}"), "wb", buffering=0) as file:
                file.write(data)
    return count / timed(step)


def unpack(load, name="tree"):
    os.mkdir(load.path(name))
    shell("tar", "-xf", load.tree, "-C", load.path(name))


def tree_count(load):
    with tarfile.open(load.tree) as archive:
        return len(archive.getmembers())


def untar(load):
    """untar, entries/s"""
    return tree_count(load) / timed(lambda: unpack(load))


def walk(load):
    shell("find", load.path("tree"), "-printf", "%s %T@\n")


def stat_cold(load):
    """stat every entry of a tree, cold, /s"""
    unpack(load)
    load.system.remount()
    return tree_count(load) / timed(lambda: walk(load))


def stat_warm(load):
    """stat every entry of a tree, warm, /s"""
    unpack(load)
    load.system.remount()
    walk(load)
    return 5 * tree_count(load) / timed(lambda: [walk(load) for _ in range(5)])


def read_tree(load):
    """read every file of a tree, cold, files/s"""
    unpack(load)
    load.system.remount()
    return tree_count(load) / timed(lambda: shell("bash", "-c", 'tar -cf - -C "$0" . | cat > /dev/null', load.path("tree")))


def remove_tree(load):
    """rm -rf of a tree, entries/s"""
    unpack(load)
    load.system.remount()
    return tree_count(load) / timed(lambda: shell("rm", "-rf", load.path("tree")))


def transactions(load):
    """SQLite transactions, WAL, synchronous=full, /s"""
    base = sqlite3.connect(load.path("db"), isolation_level=None)
    for text in ("pragma journal_mode=wal", "pragma synchronous=full", "create table t(a integer primary key, b)"):
        base.execute(text)
    count = load.count(3000)

    def step():
        for number in range(count):
            base.execute("insert into t(b) values(?)", (b"y" * 200,))
    rate = count / timed(step)
    base.close()
    return rate


def git(load):
    """git clone and status, /min"""
    def step():
        shell("git", "clone", "-q", "--no-hardlinks", load.repository, load.path("clone"))
        shell("git", "-C", load.path("clone"), "status")
    return 60 / timed(step)


def beside(load):
    """A stream is written while another process walks a tree three times. Returns entries walked a second, and MiB written a second."""
    unpack(load)
    load.system.remount()
    begun, over = threading.Event(), threading.Event()
    written = 0

    def stream():
        nonlocal written
        block = os.urandom(MIB)
        file = os.open(load.path("stream"), os.O_CREAT | os.O_WRONLY)
        while not over.is_set():
            os.pwrite(file, block, written % (256 * MIB))
            written += MIB
            begun.set()
        os.close(file)
    writer = threading.Thread(target=stream)
    writer.start()
    try:
        begun.wait()
        before = written
        time_taken = timed(lambda: [walk(load) for _ in range(3)])
        return 3 * tree_count(load) / time_taken, (written - before) / MIB / time_taken
    finally:
        over.set()
        writer.join()


def mixed(load):
    """a tree walked again and again while a stream is written, entries/s"""
    return beside(load)[0]


def mixed_stream(load):
    """the stream that is written meanwhile, MiB/s"""
    return beside(load)[1]


ALL = [sequential_write, sequential_read, random_read_1, random_read_4, random_write, random_write_sync, small_files,
       untar, stat_cold, stat_warm, read_tree, remove_tree, transactions, git, mixed, mixed_stream]
