#!/usr/bin/env python3
"""Check a copy of a Coffer vault against its seal, without Coffer.

A seal says what a vault's ciphertext was at a moment, and is signed. This says whether a copy is exactly that: nothing
missing, nothing added, nothing changed or put back to an older version. It needs the copy, with `coffer.seals` in it,
and Python 3.9 or later with `python3 -m pip install pynacl`.

    coffer_verify.py --public-key KEY COPY    with the vault's public key: its text, coffer-seal-1:..., or a file of it
    coffer_verify.py COPY                     with a secret, whose options are those of coffer_decode.py, which has to
                                              be beside this program; names are then shown as they are in the vault

The newest seal counts that is whole and verifies. Whoever can put back the whole copy can put back its seals, too;
`--anchor CODE`, from paper, finds that. Each finding is one line: missing, added, unreadable, or changed, with what
has; what is below a directory that is missing, added, unreadable or now of another type is not listed on its own.
Owners are not compared, and other times are no finding, since copy tools change them. All else is on standard error.

    --json    one object in the place of the lines: {"seal": {"counter", "time", "root"}, "findings":
              [{"stored", "path", "problem"}], "isWhole"}; bytes that are not UTF-8 are U+DC80 to U+DCFF

The exit status is 0 if the copy is exactly what was sealed last, 1 if it is not, and 2 if there is no seal to tell by.

It was written from the document "Vault format, version 1" (Format.md) alone, and comments name its sections. It only
reads.
"""
import argparse
import base64
import bisect
import collections
import datetime
import errno
import hashlib
import json
import os
import re
import stat
import struct
import sys
from dataclasses import dataclass

try:
    import nacl.bindings as sodium
    import nacl.exceptions
except ImportError as missing:
    print(f"coffer_verify: {missing}; install it with: python3 -m pip install pynacl", file=sys.stderr)
    sys.exit(2)


class SealError(Exception):
    """Something that does not verify or is not as the format says."""

def require(condition, problem):
    if not condition:
        raise SealError(problem)

def say(text):
    print(f"coffer_verify: {text}", file=sys.stderr)

def show(raw):
    """Bytes with escapes for all that a terminal or a line could be upset by."""
    return "".join(f"\\x{ord(c) - 0xdc00:02x}" if "\udc80" <= c <= "\udcff" else "\\\\" if c == "\\" else
                   c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode()
                   for c in raw.decode("utf-8", "surrogateescape")) or "/"


# ---- Overview, Keys, Slots: texts ------------------------------------------------------------------------------------

def unbase64(text):
    """The bytes of canonical base64url without padding, else None."""
    if len(text) % 4 == 1 or not re.fullmatch(rb"[A-Za-z0-9_-]*", text):
        return None
    raw = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    return raw if base64.urlsafe_b64encode(raw).rstrip(b"=") == text else None

def blake2b(message, bits=256, key=b""):
    return hashlib.blake2b(message, digest_size=bits // 8, key=key).digest()

PREFIX = b"coffer-seal-1:"

def parse_public_key(given):
    """The public key in a text, or in the file of this name."""
    text = os.fsencode(given)
    if not text.startswith(PREFIX):
        with open(given, "rb") as stream:
            # The first word that begins as one does.
            text = next((word for word in stream.read(4096).split() if word.startswith(PREFIX)), b"")
    raw = unbase64(text[len(PREFIX):]) if text.startswith(PREFIX) else None
    require(raw and len(raw) == 36 and blake2b(b"coffer.seal.check" + raw[:32], 128)[:4] == raw[32:],
            "that is no public key of seals, or it is mistyped")
    return raw[:32]

CROCKFORD = {**{c: i for i, c in enumerate("0123456789ABCDEFGHJKMNPQRSTVWXYZ")}, "O": 0, "I": 1, "L": 1}

def parse_anchor(text):
    """The counter and the first 12 bytes of the root in an anchor, which is written as recovery codes are ("Slots")."""
    digits = "".join(text.upper().split()).replace("-", "")
    require(text.isascii() and len(digits) == 35 and all(c in CROCKFORD for c in digits),
            "an anchor has 7 groups of 5 digits and letters, without U")
    number = 0
    for group in range(7):
        *values, check = (CROCKFORD[c] for c in digits[5 * group:5 * group + 5])
        expected = 0
        for value in values:                                                 # times a, by Horner's rule
            number, expected = number << 5 | value, (expected ^ value) << 1
            expected ^= 0b100101 if expected & 32 else 0
        require(check == expected ^ (group + 1), f"the anchor is mistyped in group {group + 1}")
    require(number >> 136 == 0, "the code is one for something else, or of a newer version")
    return number >> 96, (number & (1 << 96) - 1).to_bytes(12, "big")


# ---- Seals -----------------------------------------------------------------------------------------------------------

HEAD, SIGNED = struct.Struct("<8sIIQq16s32s32sQQQ32s64s"), 168
Head = collections.namedtuple("Head", "magic version zero counter time vault previous root entries bytes length "
                              "public_key signature")
SEAL_NAME = re.compile("[0-9]{8}|[1-9][0-9]{8,19}")

def open_in(directory, name, flags=0):
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | flags, dir_fd=directory)

def verify_head(raw, counter, public_key, vault):
    require(len(raw) == HEAD.size, "it is cut")
    head = Head._make(HEAD.unpack(raw))
    require((head.magic, head.version, head.zero) == (b"COFRSEAL", 1, 0), "it is no seal of version 1")
    require(head.public_key == public_key, "it is signed by another key")
    try:
        sodium.crypto_sign_open(head.signature + raw[:SIGNED], public_key)
    except nacl.exceptions.BadSignatureError:
        raise SealError("its signature does not verify") from None
    require(head.counter == counter >= 1, f"its counter is {head.counter}")
    require(vault in (None, head.vault), "it is another vault's")
    return head

def find_seals(directory, public_key, vault):
    """The heads that verify, by their counters, and the newest whose manifest does, too, with its file's name."""
    heads, newest = {}, (None, None)
    for name in sorted(filter(SEAL_NAME.fullmatch, os.listdir(directory)), key=int, reverse=True):
        try:
            with open(open_in(directory, name), "rb") as stream:
                head = heads[int(name)] = verify_head(stream.read(HEAD.size), int(name), public_key, vault)
                whole = os.fstat(stream.fileno()).st_size > HEAD.size
                for _ in read_manifest(stream, head) if whole else ():
                    pass
            newest = (head, name) if whole and not newest[0] else newest
            when = datetime.datetime.fromtimestamp(head.time // 10**9, datetime.timezone.utc).isoformat(" ")
            say(f"seal {head.counter} verifies: {when}, {head.entries} entries, {head.bytes} bytes"
                + ("" if whole else "; of its manifest nothing is left"))
        except (SealError, OSError) as error:
            say(f"seal {int(name)} does not verify: {getattr(error, 'strerror', None) or error}")
    return heads, newest


# ---- The manifest ----------------------------------------------------------------------------------------------------

END, DIRECTORY, FILE, LINK, OTHER = range(5)
ATTRIBUTES, UNSURE, DAMAGED = 1, 2, 4
KINDS = {stat.S_IFDIR: DIRECTORY, stat.S_IFREG: FILE, stat.S_IFLNK: LINK}

NAME = re.compile(rb"c([A-Za-z0-9_-]+)")
LONG_NAME = re.compile(rb"coffer\.long\.([A-Za-z0-9_-]{22})(\.[0-9]{2}\.[A-Za-z0-9_-]+)?")
LINK_NAME = re.compile(rb"coffer\.link\.[A-Za-z0-9_-]{22}")

def is_sealed(name, in_root):
    """"What is sealed", by the stored name. Entries and pieces of long names are those of a form that "Names" gives."""
    if short := NAME.fullmatch(name):
        return len(unbase64(short[1]) or b"") in range(32, 273, 16)
    if long := LONG_NAME.fullmatch(name):
        return unbase64(long[1]) is not None
    return (name == b"coffer.dir" or LINK_NAME.fullmatch(name) is not None
            or in_root and name in (b"coffer.json", b"coffer.json.previous"))

class Record:
    """A record of the manifest, which `take(size)` gives the bytes of."""

    def __init__(self, take):
        self.raw, self.name = b"", None
        def field(layout):
            self.raw += (part := take(struct.calcsize(layout)))
            return struct.unpack(layout, part)[0]
        self.kind = field("<B")
        if self.kind == END:
            return
        require(self.kind <= OTHER, f"the manifest has a record of kind {self.kind}")
        self.flags = field("<B")
        self.name = field(f"{field('<H')}s")
        self.mode, _, _, self.time = (field(layout) for layout in ("<I", "<I", "<I", "<q"))
        self.attributes = field("32s") if self.flags & ATTRIBUTES else None
        self.size = field("<Q") if self.kind == FILE else 0
        self.contents = field("32s") if self.kind == FILE else None
        self.text = field(f"{field('<H')}s") if self.kind == LINK else None
        self.device = field("<Q") if self.kind == OTHER else None
        require(self.flags <= 7 and KINDS.get(stat.S_IFMT(self.mode), OTHER) == self.kind
                and (self.kind != DIRECTORY or self.time == 0)
                and (not self.flags & UNSURE or self.contents == bytes(32)),
                f"the manifest has a record that is not as it has to be: {show(self.name)}")

def read_manifest(stream, head):
    """The records in their order, ends among them. What comes out is verified only when all of it has: by its order,
    by what the head says of it, and by the root hash."""
    def take(size):
        part = stream.read(size)
        require(len(part) == size, "its manifest is cut")
        return part

    def enter():
        hashes.append(hashlib.blake2b(b"coffer.seal.directory", digest_size=32))
        last.append(b"")

    require(os.fstat(stream.fileno()).st_size == HEAD.size + head.length, "its manifest has another length")
    stream.seek(HEAD.size)
    root, entries, size, hashes, last = Record(take), 0, 0, [], []           # hash and last name of each directory
    require(root.kind == DIRECTORY and root.name == b"", "its manifest does not begin with the root")
    yield root
    enter()
    while hashes:
        record = Record(take)
        if record.kind == END:
            digest = hashes.pop().digest()
            last.pop()
            if hashes:
                hashes[-1].update(digest)
        else:
            require(last[-1] < record.name, f"the manifest's order is wrong at {show(record.name)}")
            require(is_sealed(record.name, len(hashes) == 1), f"{show(record.name)} is in it, which is never sealed")
            hashes[-1].update(record.raw)
            last[-1], entries, size = record.name, entries + 1, size + record.size
            if record.kind == DIRECTORY:
                enter()
        yield record
    require(not stream.read(1), "its manifest goes on after its end")
    require(blake2b(b"coffer.seal.root" + root.raw + digest) == head.root, "its manifest does not verify")
    require((entries, size) == (head.entries, head.bytes), "its manifest has not as many entries or bytes as it says")

PART = 1 << 20
ZEROS = blake2b(bytes(PART))

def contents_hash(directory, name, size):
    """`contents`. What the file system keeps as one large hole need not be read."""
    whole = hashlib.blake2b(b"coffer.seal.file" + struct.pack("<Q", size), digest_size=32)
    with open(open_in(directory, name), "rb", buffering=0) as stream:
        fd, data = stream.fileno(), 0                                        # data: where the next that is no hole is
        for at in range(0, size, PART):
            length, part = min(PART, size - at), b""
            data = data if data > at else seek_data(fd, at, size)
            while data < at + length > at + len(part) and (more := os.pread(fd, length - len(part), at + len(part))):
                part += more
            whole.update(blake2b(part) if part else ZEROS if length == PART else blake2b(bytes(length)))
        require(os.fstat(stream.fileno()).st_size == size, "it was changed while it was read")
    return whole.digest()

def seek_data(fd, at, size):
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except (OSError, AttributeError) as error:
        return size if getattr(error, "errno", None) == errno.ENXIO else at  # ENXIO: a hole up to the end

ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")

def attributes_hash(directory, name):
    """The hash of the attributes that are sealed, None if there are none. By a path, for what cannot be opened."""
    where, message = b"/proc/self/fd/%d/%s" % (directory, name), b""
    try:
        names = sorted(map(os.fsencode, os.listxattr(where, follow_symlinks=False)))
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        names = []
    for each in names:
        if each.startswith(b"user.coffer.") or each in ACLS:
            value = os.getxattr(where, each, follow_symlinks=False)
            message += struct.pack("<H", len(each)) + each + struct.pack("<I", len(value)) + value
    return blake2b(message) if message else None


# ---- The copy --------------------------------------------------------------------------------------------------------

@dataclass
class Level:
    """A directory on the way from the root."""
    name: bytes = b""
    fd: int = None
    names: list = None                                                       # what is in it and sealed, in order;
    at: int = 0                                                              # the next to compare; None: nothing is
    place: bytes = None                                                      # with a secret: the id that it derives,
    ids: list = None                                                         # those that it accepts,
    plain: bytes = None                                                      # and its name, where that verifies

class Comparison:
    """Walks the copy and the manifest side by side."""

    def __init__(self, copy, unlocked, report):
        self.unlocked, self.report, self.other_times = unlocked, report, 0
        self.levels = [Level(fd=copy, names=[b""])]                          # in which the root is the only entry

    def run(self, manifest):
        for record in manifest:
            level, below = self.levels[-1], Level(record.name)
            names = level.names or []
            while level.at < len(names) and (record.kind == END or names[level.at] < record.name):
                level.at += 1
                self.finding("added", names[level.at - 1])
            if record.kind == END:
                self.levels.pop()
                if level.fd is not None:
                    os.close(level.fd)
                continue
            if names[level.at:level.at + 1] == [record.name]:
                level.at += 1
                self.compare(level.fd, record, below)
            elif level.names is not None:
                self.finding("missing", record.name)
            if record.kind == DIRECTORY:
                self.levels.append(below)
        if self.other_times:
            say(f"note: {self.other_times} times of modification are others than those that were sealed")

    def compare(self, directory, record, below):
        """An entry that is there. Where it is a directory, too, what is in it comes next, as `below`."""
        name, changes = record.name or b".", []
        try:
            for change in self.changes(directory, name, record):
                self.finding(f"changed ({change})", record.name)
                changes.append(change)
            if record.kind == DIRECTORY and "type" not in changes:
                below.fd = open_in(directory, name, os.O_DIRECTORY)
                names, in_root = map(os.fsencode, os.listdir(below.fd)), len(self.levels) == 1
                below.names = sorted(name for name in names if is_sealed(name, in_root))
        except (SealError, OSError):
            self.finding("unreadable", record.name)

    def changes(self, directory, name, record):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_IFMT(status.st_mode) != stat.S_IFMT(record.mode):
            yield "type"
            return
        if status.st_mode != record.mode:
            yield "mode"
        if record.kind == OTHER and status.st_rdev != record.device:
            yield "device"
        if record.kind == LINK and os.readlink(name, dir_fd=directory) != record.text:
            yield "link"
        if record.flags & DAMAGED:
            say(f"note: {show(self.path(record.name))}: it did not verify when it was sealed")
        if record.flags & UNSURE:
            say(f"note: {show(self.path(record.name))}: it was being written to; its contents are not sealed")
        elif record.kind == FILE and status.st_size != record.size:
            yield "size"
        elif record.kind == FILE and contents_hash(directory, name, record.size) != record.contents:
            yield "contents"
        if hasattr(os, "listxattr") and attributes_hash(directory, name) != record.attributes:
            yield "attributes"
        if record.kind != DIRECTORY and not record.flags & UNSURE:
            self.other_times += status.st_mtime_ns != record.time

    def finding(self, problem, name):
        self.report(problem, b"/".join([level.name for level in self.levels[2:]] + [name]), self.path(name))

    def path(self, name):
        """Where an entry of the last directory is, in plain text with a secret. A name that does not verify is given as
        it is stored, and so is what is below it, and what has no name in plain text, as pieces of long names."""
        if self.unlocked and len(self.levels) > 1:
            for above, level in zip(self.levels[1:], self.levels[2:]):
                if level.plain is None:
                    level.plain, level.place = self.unlocked.open_name(above, level.name)
            name, _ = self.unlocked.open_name(self.levels[-1], name)
        return b"/".join([level.plain or level.name for level in self.levels[2:]] + [name])


# ---- With a secret ---------------------------------------------------------------------------------------------------

class Unlocked:
    """What a secret tells of the vault: the public key of its seals, and its names. coffer_decode does that."""

    def __init__(self, options):
        try:
            import coffer_decode as decode
        except (ImportError, SystemExit) as error:
            raise SealError(str(error)) from None
        self.decode = decode
        try:
            decode.check_xchacha20()
            with open(options.config or os.path.join(options.copy, b"coffer.json"), "rb") as stream:
                data = stream.read(decode.CONFIG_MAX + 1)
            config, self.ring = decode.open_config(data, decode.gather_secrets(options))
        except decode.VaultError as error:
            raise SealError(str(error)) from None
        self.vault = bytes.fromhex(config["vault"])
        seed = blake2b(b"coffer.seal.sign", key=self.ring.key(self.ring.epochs[0], 12))     # "Keys": 12 is for seals
        self.public_key = sodium.crypto_sign_seed_keypair(seed)[0]

    def open_name(self, level, stored):
        """A name in a directory, and the id that a directory of this name derives there; the name as it is stored, and
        an id under which nothing verifies, where it does not verify itself."""
        decode = self.decode
        level.place = level.place or decode.directory_id(self.vault)         # only the root's is not known from here
        if level.ids is None:
            pins, closed = [], False
            try:
                data = decode.read_small(level.fd, b"coffer.dir", 8 + decode.RECORD * decode.RECORDS_MAX)
                if data is not None:
                    pins, _, closed = decode.open_records(self.ring, level.place, data)
            except (decode.VaultError, OSError):
                pass
            level.ids = pins if pins and closed else pins + [level.place]
        first, last = (bisect.bisect_left(level.names, stored + end) for end in (b".", b"/"))    # a long name's pieces
        for _, sealed in decode.sealed_names([stored, *level.names[first:last]]):
            for identity in level.ids:
                if name := decode.open_name(self.ring, identity, sealed):
                    return name, decode.directory_id(identity, name)
        return stored, bytes(16)


# ---- The command line ------------------------------------------------------------------------------------------------

def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--public-key", metavar="KEY")
    parser.add_argument("--anchor", metavar="CODE")
    parser.add_argument("--json", action="store_true")
    for name in ("passphrase-file", "key-file", "recovery-code-file", "identity", "config"):
        parser.add_argument(f"--{name}", metavar="FILE")
    parser.add_argument("--share-file", metavar="FILE", action="append")
    parser.add_argument("copy", type=os.fsencode)
    return parser.parse_args()

def allow_depth():
    """Each level of a tree takes a descriptor."""
    try:
        import resource
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, OSError, ValueError):
        pass

def is_last(newest, heads, anchor):
    """Whether nothing tells of a seal that is newer than the one that is compared, or another than an anchor's."""
    problems = []
    if newest.counter < max(heads):
        problems.append(f"seal {max(heads)} is newer than seal {newest.counter}, but has no manifest that verifies")
    counter, root = anchor or (newest.counter, newest.root[:12])
    if newest.counter < counter:
        problems.append(f"the anchor is of seal {counter}, and the copy has seal {newest.counter}: it is older")
    if counter in heads and heads[counter].root[:12] != root:
        problems.append(f"the anchor is of another seal {counter}")
    elif counter not in heads:
        say(f"note: the anchor's seal {counter} is not here to be compared")
    for problem in problems:
        say(problem)
    return not problems

def run(options):
    secret = any((options.passphrase_file, options.key_file, options.recovery_code_file, options.identity,
                  options.share_file))
    anchor = None if options.anchor is None else parse_anchor(options.anchor)
    public_key = None if options.public_key is None else parse_public_key(options.public_key)
    unlocked = Unlocked(options) if secret or public_key is None else None
    allow_depth()
    copy = os.open(options.copy, os.O_RDONLY | os.O_DIRECTORY)
    seals = open_in(copy, b"coffer.seals", os.O_DIRECTORY)
    heads, (newest, name) = find_seals(seals, public_key or unlocked.public_key, unlocked and unlocked.vault)
    require(newest, "no seal in the copy is whole and verifies")
    if not hasattr(os, "listxattr"):
        say("note: attributes are not compared, since Python cannot read them on this system")
    findings, count = [], 0

    def report(problem, stored, path):
        nonlocal count
        count += 1
        if options.json:
            findings.append({"stored": os.fsdecode(stored), "path": os.fsdecode(path), "problem": problem})
        else:
            print(f"{problem:20} {show(path)}")

    with open(open_in(seals, name), "rb") as stream:
        Comparison(copy, unlocked, report).run(read_manifest(stream, newest))
    whole = is_last(newest, heads, anchor) and not count
    say(f"the copy is not what seal {newest.counter} says: {count} findings" if count else
        f"the copy is what seal {newest.counter} says")
    if options.json:
        print(json.dumps({"seal": {"counter": newest.counter, "time": newest.time, "root": newest.root.hex()},
                          "findings": findings, "isWhole": whole}))
    sys.stdout.flush()
    return 0 if whole else 1

def main():
    options = parse_arguments()
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.stderr.reconfigure(errors="backslashreplace")
    try:
        return run(options)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except (EOFError, KeyboardInterrupt):
        say("broken off")
    except SealError as error:
        say(error)
    except OSError as error:
        where = show(os.fsencode(error.filename)) + ": " if isinstance(error.filename, (str, bytes)) else ""
        say(f"{where}{error.strerror}")
    return 2

if __name__ == "__main__":
    sys.exit(main())
