"""PostgreSQL in a mount: a server, processes that commit, and what must be there when a clone's server has recovered."""
import glob
import os
import random
import subprocess

import model
import worker

PREPARE = """
create table account(n int primary key, balance bigint not null default 0, filler text);
insert into account select g, 0, repeat('f', 100) from generate_series(1, 2000) g;
create table entry(worker int, n int, account int not null, delta bigint not null, note text, primary key (worker, n));
create index on entry(account);
"""


def programs():
    """Where PostgreSQL's programs are; None where it is not installed."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    return os.path.dirname(found[-1]) if found else None


def run(*command, **more):
    """Runs one of them as the user who may."""
    done = subprocess.run(
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", os.path.join(programs(), command[0]),
         *command[1:]], text=True, capture_output=True, cwd="/", **more)
    if done.returncode != 0:
        raise model.Violation(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


class Server:
    """A server whose data are at `data`, with its socket and its log outside of any mount."""

    def __init__(self, data, outside):
        self.data, self.outside = data, outside
        os.makedirs(outside, exist_ok=True)
        subprocess.run(["chown", "postgres", outside], check=True)

    def make(self):
        os.mkdir(self.data, 0o700)
        subprocess.run(["chown", "postgres", self.data], check=True)
        run("initdb", "--data-checksums", "-D", self.data)
        worker.Files.sync_path(os.path.dirname(self.data))

    def start(self):
        options = (f"-k {self.outside} -c listen_addresses= -c max_wal_size=64MB -c min_wal_size=32MB"
                   " -c checkpoint_timeout=30s -c shared_buffers=16MB -c max_connections=20")
        log = os.path.join(self.outside, "log")
        try:
            run("pg_ctl", "-w", "-t", "120", "-D", self.data, "-l", log, "-o", options, "start", stdin=subprocess.DEVNULL)
        except model.Violation as violation:
            with open(log) as lines:
                raise model.Violation(f"{violation}\n{lines.read()[-3000:]}")

    def stop(self, mode):
        try:
            run("pg_ctl", "-m", mode, "-D", self.data, "stop")
        except model.Violation:
            # Whoever made it says what was wrong.
            if mode != "immediate":
                raise

    def ask(self, text):
        return run("psql", "-At", "-v", "ON_ERROR_STOP=1", "-h", self.outside, "-c", text, "postgres").strip()


class State(model.State):
    """As its parent, with a server that recovers first."""

    def __init__(self, words, count, outside):
        super().__init__(words, count)
        self.outside = outside
        self.server = None

    def check(self, root, before, after, is_native):
        self.server = Server(os.path.join(root, "pg"), self.outside)
        # Everything is readable before it is, too.
        self.walk(root)
        # It names the first server's process, which runs on: after a real power cut there would be none.
        os.remove(os.path.join(root, "pg", "postmaster.pid"))
        self.server.start()
        try:
            super().check(root, before, after, is_native)
            if self.server.ask("select sum(balance) - (select coalesce(sum(delta), 0) from entry) from account") != "0":
                raise model.Violation("sums that are not those of the entries")
            wrong = self.server.ask("select count(*) from account a where balance != (select coalesce(sum(delta), 0)"
                                    " from entry where account = a.n)")
            if wrong != "0":
                raise model.Violation(f"{wrong} accounts whose sums are not those of their entries")
            run("pg_amcheck", "-h", self.outside, "--install-missing", "--heapallindexed", "postgres")
            self.server.stop("fast")
            run("pg_checksums", "--check", "-D", self.server.data)
        finally:
            self.server.stop("immediate")

    def compare_database(self, root, number, now):
        if now.row < 0:
            return
        highest, rows = self.server.ask(f"select coalesce(max(n), 0), count(*) from entry where worker = {number}").split("|")
        if highest != rows or not now.row <= int(rows) <= now.possible_row:
            raise model.Violation(f"{rows} entries up to {highest}, of {now.row} to {now.possible_row}")
        self.checked += int(rows)


def work(outside, words, number, seed):
    """Transactions, each of which is there once the server has said so."""
    client = subprocess.Popen(
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", os.path.join(programs(), "psql"), "-At", "-q",
         "-v", "ON_ERROR_STOP=1", "-h", outside, "postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    chance = random.Random(f"{seed}.{number}")
    count = 0
    while True:
        count += 1

        def transaction():
            account, delta = 1 + chance.randrange(2000), chance.randrange(-1000, 1000)
            client.stdin.write(
                f"begin; update account set balance = balance + {delta} where n = {account};"
                f" insert into entry values({number}, {count}, {account}, {delta}, repeat('n', {chance.choice([5, 200, 3000])}));"
                f" commit; \\echo done {count}\n")
            client.stdin.flush()
            if client.stdout.readline() != f"done {count}\n":
                raise OSError(f"the server did not commit {count}")
        words.step({"o": "commit", "row": count}, transaction)
