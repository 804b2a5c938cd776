"""A vault as it is stored: what a seal speaks of, read from a tree or from a seal's manifest, by the format document.

It knows no secret, and shares no code with the program: it is what the program's findings are compared with.
"""
import base64
import hashlib
import os
import re
import stat
import struct
from typing import NamedTuple

HEADER, BLOCK = 32, 4128
PART = 1 << 20
ACCESS_CONTROL = ("system.posix_acl_access", "system.posix_acl_default")
SEALS = "coffer.seals"
HEAD_SIZE = 232
LONG = re.compile(r"coffer\.long\.[A-Za-z0-9_-]{22}(\.[0-9][0-9]\.[A-Za-z0-9_-]+)?")
COMPANION = re.compile(r"coffer\.link\.[A-Za-z0-9_-]{22}")


class Facts(NamedTuple):
    """What a seal says of one thing."""
    mode: int
    owner: tuple
    time: int                                                                # 0 for directories
    attributes: bytes | None
    more: object                                                             # a file's size and hash, a link's text …
    unsure: bool = False                                                     # written to while it was sealed
    damaged: bool = False                                                    # damaged when it was sealed

    def differs(self, other):
        """In what two differ, so far as what is sealed of them says it."""
        if stat.S_IFMT(self.mode) != stat.S_IFMT(other.mode):
            return {"type"}
        if self.unsure or other.unsure:
            return set()
        found = {name for name in ("mode", "owner", "time", "attributes")
                 if getattr(self, name) != getattr(other, name)}
        if self.more != other.more:
            found.add("size" if stat.S_ISREG(self.mode) and self.more[0] != other.more[0] else "contents")
        return found


def blake2b(*parts):
    state = hashlib.blake2b(digest_size=32)
    for part in parts:
        state.update(part)
    return state.digest()


def is_entry(name):
    """Whether a stored name is one of a sealed name's short form."""
    if not re.fullmatch(r"c[A-Za-z0-9_-]{43,363}", name):
        return False
    text = name[1:]
    if len(text) % 4 == 1:
        return False
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    canonical = base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == text
    return canonical and 32 <= len(raw) <= 272 and len(raw) % 16 == 0


def is_sealed(name, in_root):
    """Whether something of this name is what seals speak of."""
    if in_root and name in ("coffer.json", "coffer.json.previous"):
        return True
    return is_entry(name) or name == "coffer.dir" or bool(LONG.fullmatch(name) or COMPANION.fullmatch(name))


def contents(path):
    """A file's size and hash."""
    with open(path, "rb") as stream:
        parts, size = [], 0
        while part := stream.read(PART):
            parts.append(blake2b(part))
            size += len(part)
    return size, blake2b(b"coffer.seal.file", struct.pack("<Q", size), *parts)


def attributes(path):
    parts = []
    for name in sorted(map(os.fsencode, os.listxattr(path, follow_symlinks=False))):
        if name.startswith(b"user.coffer.") or name.decode(errors="replace") in ACCESS_CONTROL:
            value = os.getxattr(path, name, follow_symlinks=False)
            parts.append(struct.pack("<H", len(name)) + name + struct.pack("<I", len(value)) + value)
    return blake2b(*parts) if parts else None


def look_at(path):
    """The facts of one thing, or None where there is none."""
    try:
        status = os.lstat(path)
        kind, more, time = stat.S_IFMT(status.st_mode), None, status.st_mtime_ns
        if kind == stat.S_IFDIR:
            time = 0
        elif kind == stat.S_IFREG:
            more = contents(path)
        elif kind == stat.S_IFLNK:
            more = os.readlink(path)
        else:
            more = status.st_rdev
        return Facts(status.st_mode, (status.st_uid, status.st_gid), time, attributes(path), more)
    except (FileNotFoundError, NotADirectoryError):
        return None


def look(root, below=""):
    """The facts of all that seals speak of, by stored path; the root's is ""."""
    found = {}

    def add(path, name, in_root):
        facts = look_at(os.path.join(root, path))
        if facts is None:
            return
        found[path] = facts
        if stat.S_ISDIR(facts.mode):
            try:
                names = sorted(os.listdir(os.path.join(root, path)))
            except FileNotFoundError:
                return
            for each in names:
                if is_sealed(each, not path):
                    add(f"{path}/{each}" if path else each, each, not path)

    add(below, "", not below)
    return found


def differences(one, other):
    """The stored paths where two trees are not the same, and in what."""
    found = {}
    for path in one.keys() | other.keys():
        if path not in one or path not in other:
            found[path] = {"missing"} if path in one else {"added"}
        elif what := one[path].differs(other[path]):
            found[path] = what
    return found


class Seal:
    """A seal's file, read by the format document. Signatures are not looked at."""

    def __init__(self, path):
        with open(path, "rb") as stream:
            raw = stream.read()
        if len(raw) < HEAD_SIZE or raw[:8] != b"COFRSEAL" or raw[8:16] != struct.pack("<II", 1, 0):
            raise ValueError("is no seal of version 1")
        self.counter, self.time = struct.unpack_from("<Qq", raw, 16)
        self.previous, self.root = raw[48:80], raw[80:112]
        self.entries, self.bytes, length = struct.unpack_from("<QQQ", raw, 112)
        self.raw, self.manifest = raw, None
        if len(raw) == HEAD_SIZE:
            return                                                           # what is kept of an old one
        if len(raw) != HEAD_SIZE + length:
            raise ValueError(f"has {len(raw)} bytes, and not {HEAD_SIZE + length}")
        try:
            self.manifest = self.read_manifest(raw[HEAD_SIZE:])
        except (IndexError, struct.error) as error:
            raise ValueError(f"has a manifest that cannot be read: {error}") from error

    def read_manifest(self, data):
        """The facts by stored path, once root hash, count and sizes are those that the head tells."""
        found, at, entries, total = {}, 0, 0, 0
        path, stack, previous, root_hash = None, [], None, None

        def take(form):
            nonlocal at
            values = struct.unpack_from(form, data, at)
            at += struct.calcsize(form)
            return values if len(values) > 1 else values[0]

        def close():
            nonlocal path, previous, root_hash
            path, previous, raw, state = stack.pop()
            if stack:
                stack[-1][3].update(raw + state.digest())
            else:
                root_hash = blake2b(b"coffer.seal.root", raw, state.digest())

        while at < len(data):
            start, kind = at, data[at]
            if kind == 0:
                at += 1
                close()
                continue
            _, flags, length = take("<BBH")
            name = os.fsdecode(data[at:at + length])
            at += length
            mode, owner, group, time = take("<IIIq")
            sealed_attributes, more = None, None
            if flags & 1:
                sealed_attributes = take("32s")
            if kind == 2:
                more = take("<Q32s")
                total += more[0]
            elif kind == 3:
                length = take("<H")
                more, at = os.fsdecode(data[at:at + length]), at + length
            elif kind == 4:
                more = take("<Q")
            elif kind != 1:
                raise ValueError(f"has a record of kind {kind}")
            raw = data[start:at]
            if path is None:
                path, here = "", ""
                if name or kind != 1:
                    raise ValueError("does not begin with the root")
            else:
                here = f"{path}/{name}" if path else name
                entries += 1
                if previous is not None and os.fsencode(name) <= previous:
                    raise ValueError(f"has '{name}' out of order")
                previous = os.fsencode(name)
            found[here] = Facts(mode, (owner, group), time, sealed_attributes, more, bool(flags & 2), bool(flags & 4))
            if kind == 1:
                state = hashlib.blake2b(b"coffer.seal.directory", digest_size=32)
                stack.append((path, previous, raw, state))
                path, previous = here, None
            else:
                stack[-1][3].update(raw)
        while stack:
            close()
        if (root_hash, entries, total) != (self.root, self.entries, self.bytes):
            raise ValueError(f"has a manifest of {entries} entries, {total} bytes and the root hash {root_hash.hex()}, "
                             f"and its head says {self.entries}, {self.bytes} and {self.root.hex()}")
        return found


def seals(vault):
    """The names of a vault's seals, oldest first."""
    try:
        names = os.listdir(os.path.join(vault, SEALS))
    except FileNotFoundError:
        return []
    return sorted((name for name in names if name.isdigit()), key=int)


def newest_seal(vault):
    """The newest seal with a manifest in it, or None."""
    for name in reversed(seals(vault)):
        try:
            seal = Seal(os.path.join(vault, SEALS, name))
        except (ValueError, FileNotFoundError):
            continue
        if seal.manifest is not None:
            return seal
    return None


def blocks(data):
    """A stored file's header and blocks."""
    return data[:HEADER], [data[at:at + BLOCK] for at in range(HEADER, len(data), BLOCK)]
