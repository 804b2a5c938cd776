#!/usr/bin/env python3
"""Checks coffer_decode.py: against the vectors, and against vaults that a program made.

    check_decode.py [--program BIN] [--work DIR] [--seed N]

Without --program only the vectors are checked. With it, vaults are made and mounted in a new directory under DIR, whose
file system has to take `user.` attributes; that needs root and FUSE, and is skipped where they are missing. The last
line is a summary, and the exit status is 1 if anything failed.
"""
import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent.parent / "Tests" / "CofferFormatTests" / "Vectors"
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True
import coffer_decode as decode  # noqa: E402

checked = 0
failures = []


def check(condition, what):
    global checked
    checked += 1
    if not condition:
        failures.append(what)
        print(f"failed: {what}", file=sys.stderr)


def refused(what, function, *arguments):
    """Checks that this is an error."""
    try:
        result = function(*arguments)
    except decode.VaultError:
        check(True, what)
    else:
        check(False, f"{what}: gives {result!r}"[:200])


unhex = bytes.fromhex


# ---- Vectors ---------------------------------------------------------------------------------------------------------

def vectors(name):
    return json.loads((VECTORS / f"{name}.json").read_text())


def ring_of(keys):
    return decode.Ring({int(epoch): unhex(key) for epoch, key in keys.items()})


def check_keys():
    for case in vectors("keys"):
        for sub in case["subkeys"]:
            key = decode.subkey(unhex(case["vault_key"]), sub["id"])
            check(key == unhex(sub["key"]), f"keys: {sub['purpose_text']}")


def check_geometry():
    data = vectors("geometry")
    for case in data["sizes"]:
        check(decode.plain_size(case["cipher"]) == case["plain"], f"geometry: {case}")
    for size in data["damaged"]:
        refused(f"geometry: {size}", decode.plain_size, size)


def check_headers():
    data = vectors("header")
    for case in data["valid"]:
        header, ring = unhex(case["header"]), decode.Ring({case["epoch"]: unhex(case["vault_key"])})
        key = decode.blake2b(256, ring.key(case["epoch"], decode.CONTENTS), header)
        file_id, cipher = decode.open_header(ring, header)
        check(key == unhex(case["file_key"]) and file_id == unhex(case["file_id"])
              and isinstance(cipher, decode.CIPHERS[case["cipher"]]), f"header: {case['header']}")
        refused("header: another ring", decode.open_header, decode.Ring({case["epoch"] + 1: bytes(32)}), header)
    for case in data["invalid"]:
        refused(f"header: {case['header']}", decode.open_header, decode.Ring({0: bytes(32)}), unhex(case["header"]))


def check_blocks():
    data = vectors("blocks")
    for case in data["valid"]:
        plain, info = decode.open_block(decode.CIPHERS[case["cipher"]](unhex(case["key"])), case["index"],
                                        unhex(case["block"]))
        check(plain == unhex(case["plaintext"]) and info & decode.GAP == case["gap"]
              and bool(info & decode.FINAL) == case["final"] and bool(info >> 30 & 1) == case["reconstructed"],
              f"blocks: {case['index']}")
    for case in data["invalid"]:
        refused(f"blocks: {case['why_text']}", decode.open_block,
                decode.CIPHERS[case["cipher"]](unhex(case["key"])), case["index"], unhex(case["block"]))


def check_names():
    data = vectors("names")
    ring, directory = ring_of(data["vault_keys"]), unhex(data["directory"])
    for case in data["valid"]:
        entry, companions = case["entry_text"].encode(), [text.encode() for text in case["companions_text"]]
        sealed = decode.sealed_names(sorted(companions + [entry], reverse=True))
        check(sealed == [(entry, unhex(case["sealed"]))], f"names: {entry}")
        check(decode.open_name(ring, directory, sealed[0][1]) == unhex(case["name"]), f"names: {entry}")
        if companions:
            check(decode.sealed_names(companions) == [], f"names: companions without {entry}")
            check(decode.sealed_names([entry] + companions[1:]) == [(entry, None)], f"names: {entry} without the first")
    for case in data["invalid"]:
        check(decode.open_name(ring, directory, unhex(case["sealed"])) is None, f"names: {case['why_text']}")
    for text in data["foreign_text"] + data["reserved_text"]:
        check(decode.sealed_names([text.encode()]) == [], f"names: {text} is none")


def check_directories():
    data = vectors("directories")
    check(decode.directory_id(unhex(data["vault_id"])) == unhex(data["root"]), "directories: root")
    for case in data["children"]:
        check(decode.directory_id(unhex(case["parent"]), unhex(case["name"])) == unhex(case["id"]),
              f"directories: {case['name']}")
    records = data["records"]
    ring, place = decode.Ring({records["epoch"]: unhex(records["vault_key"])}), unhex(records["place"])
    for case in records["files"]:
        for identity in case["identities"]:
            found = decode.open_records(ring, unhex(identity["derived"]), unhex(case["file"]))
            check(found == ([unhex(pin) for pin in identity["pins"]], identity["marked"], identity["closed"]),
                  f"directories: records {identity['derived']}")
    for case in records["passed_over"]:
        check(decode.open_records(ring, place, unhex(case["file"])) == ([], False, False),
              f"directories: {case['why_text']}")
    for case in records["invalid"]:
        refused(f"directories: {case['file']}", decode.open_records, ring, place, unhex(case["file"]))


def check_links():
    data = vectors("links")
    ring = ring_of(data["vault_keys"])

    def none(name):
        raise decode.VaultError("no companion is to be read")

    for case in data["inline"]:
        check(decode.open_link(ring, case["link_text"].encode(), none) == unhex(case["target"]), "links: inline")
    for case in data["overflow"]:
        files = {case["file_name_text"].encode(): unhex(case["file"])}
        check(decode.open_link(ring, case["link_text"].encode(), files.get) == unhex(case["target"]), "links: overflow")
        refused("links: no companion", decode.open_link, ring, case["link_text"].encode(), {}.get)
        other = f"{case['link_text'][:-4]}{int(case['link_text'][-4:]) - 1:04}"
        refused("links: another length", decode.open_link, ring, other.encode(), files.get)
    for case in data["invalid"]:
        text = decode.base64.urlsafe_b64encode(unhex(case["sealed"])).rstrip(b"=")
        refused(f"links: {case['why_text']}", decode.open_link, ring, text, none)
    for text in data["not_overflow_text"]:
        check(decode.LINK.fullmatch(text.encode()) is None or decode.unbase64(text.encode()[12:34]) is None,
              f"links: {text}")


def check_attributes():
    data = vectors("attributes")
    ring = ring_of(data["vault_keys"])
    for case in data["valid"]:
        found = decode.open_attribute(ring, case["prefix_text"].encode(), unhex(case["owner"]),
                                      case["stored_name_text"].encode(), lambda: unhex(case["stored_value"]))
        check(found == (case["name_text"].encode(), unhex(case["value"])), f"attributes: {case['stored_name_text']}")
    for case in data["invalid"]:
        # The stored name is the right one for this owner and name, so that it is the value that is refused.
        owner, name = unhex(case["owner"]), case["name_text"].encode()
        tag = decode.blake2b(128, ring.key(0, decode.XATTR_MAC), owner + name)
        sealed = tag + decode.xchacha20(ring.key(0, decode.XATTR_KEY), tag + bytes(8), name)
        stored = b"user.coffer." + (base64url(sealed) if len(name) <= 166 else "long." + base64url(tag)).encode()
        refused(f"attributes: {case['why_text']}", decode.open_attribute, ring, b"user.coffer.", owner, stored,
                lambda: unhex(case["stored_value"]))
    for text in data["foreign_text"]:
        check(decode.open_attribute(ring, b"user.coffer.", bytes(16), text.encode(), bytes) is None,
              f"attributes: {text} is none")


def check_config():
    data = vectors("config")
    given = {"passphrase": data["passphrase"].encode()}
    config, ring = decode.open_config(data["text"].encode(), given)
    slot = config["slots"][0]
    check(ring.vault_keys == {int(epoch): unhex(key) for epoch, key in data["vault_keys"].items()}, "config: ring")
    check(next(decode.slot_keys(slot, given)) == unhex(data["slot_key"]), "config: slot key")
    check(decode.unlock(config, given) == unhex(data["ring_key"]), "config: ring key")
    check(decode.canonical(slot, ("mac",)) == unhex(data["slot_canonical"]), "config: canonical")
    check(decode.canonical(slot, ("mac", "wrap", "name")) == unhex(data["slot_canonical_unwrapped"]),
          "config: canonical for the wrap")
    check(ring.key(ring.epochs[0], decode.CONFIG) == unhex(data["config_key"]), "config: config key")
    for epoch, fingerprint in data["fingerprints"].items():
        check(decode.blake2b(128, ring.key(int(epoch), decode.CONFIG), b"coffer.fingerprint") == unhex(fingerprint),
              "config: fingerprint")
    for case in data["refused"]:
        refused(f"config: {case['why']}", decode.open_config, case["text"].encode(), given)
    refused("config: another passphrase", decode.open_config, data["text"].encode(), {"passphrase": b"another"})
    text = data["text"].encode()
    for number in (b"-1", b"07", b"7e0", b"true", b'"7"', b"9007199254740993", b"NaN", b"[" * 100_000):
        other = text.replace(b'"counter": 7', b'"counter": ' + number)
        refused(f"config: counter {number[:20]}", decode.parse_config, other)
    refused("config: true as a format", decode.parse_config, text.replace(b'"format": 1', b'"format": true'))
    refused("config: too large", decode.parse_config, b" " * (1 << 20) + text)


def check_slots():
    data = vectors("slots")
    secrets, text = data["secrets"], data["text"].encode()
    identity = decode.XWing(unhex(secrets["identity"]))
    for kind, secret in (("passphrase", secrets["passphrase"].encode()),
                         ("passphrase", secrets["passphrase_normalized"].encode()),
                         ("keyfile", unhex(secrets["keyfile_strong"])), ("keyfile", unhex(secrets["keyfile_typed"])),
                         ("recovery", decode.parse_code(secrets["recovery"], 1, 9)), ("recipient", identity)):
        config, ring = decode.open_config(text, {kind: secret})
        check(decode.unlock(config, {kind: secret}) == unhex(data["ring_key"]), f"slots: {kind}")
        check(ring.vault_keys == {0: unhex(data["vault_key"])}, f"slots: {kind}")
    public = decode.unbase64(data["recipient"].partition(":")[2].encode())
    check(public[:-4] == identity.public, "slots: recipient")
    fingerprint = decode.blake2b(128, b"", b"coffer.recipient.fingerprint" + identity.public)[:8]
    check(fingerprint == unhex(data["recipient_fingerprint"]), "slots: recipient's fingerprint")
    code = secrets["recovery"]
    typed = " " + code.lower().replace("0", "o").replace("1", "l").replace("-", " ") + "\n"
    check(decode.parse_code(typed, 1, 9) == decode.parse_code(code, 1, 9), "slots: a code as people type it")
    for at, digit in enumerate(code):
        if digit != "-":                                                     # each mistyped digit is found
            other = code[:at] + ("Z" if digit != "Z" else "Y") + code[at + 1:]
            refused(f"slots: a code mistyped at {at}", decode.parse_code, other, 1, 9)


# ---- Vaults: what the program cannot make yet ------------------------------------------------------------------------

def base64url(raw):
    return decode.base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def wrap(key, label, ad, plain):
    k, n = decode.blake2b(512, key, label), os.urandom(24)
    c = decode.xchacha20(k[:32], n, plain)
    return base64url(n + c + decode.blake2b(256, k[32:], ad + n + c))


def seal(ring, epoch, purpose, ad, plain):
    nonce = os.urandom(24)
    sealed = decode.sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, ad, nonce, ring.key(epoch, purpose))
    return bytes([epoch]) + nonce + sealed


def make_config(config, vault_keys, ring_key, slots):
    """The text of a coffer.json with these keys and slots; `slots` are pairs of members and K."""
    ring, vault, made = decode.Ring(vault_keys), unhex(config["vault"]), []
    c = ring.key(ring.epochs[0], decode.CONFIG)
    for slot, key in slots:
        slot["wrap"] = wrap(key, b"coffer.slot.wrap", decode.canonical(slot, ("name", "mac", "wrap")), ring_key)
        slot["mac"] = decode.blake2b(256, c, b"coffer.slot.mac" + decode.canonical(slot, ("mac",))).hex()
        made.append(slot)
    plain = b"".join(bytes([epoch]) + key for epoch, key in sorted(vault_keys.items()))
    outer = {**config, "ring": wrap(ring_key, b"coffer.ring.wrap", vault, plain), "slots": made, "mac": "0" * 64}
    text = json.dumps(outer, indent=2).encode() + b"\n"
    mac = decode.blake2b(256, c, b"coffer.config.mac" + text[:-68]).hex().encode()
    return text[:-68] + mac + text[-4:]


def write_code(version, raw, groups):
    """A code; its check digits by Horner's rule, unlike the decoder's."""
    number, text = version << 20 * groups - 4 | int.from_bytes(raw, "big"), []
    for group in range(groups):
        bits = number >> 20 * (groups - 1 - group)
        values, sum_so_far = [bits >> shift & 31 for shift in (15, 10, 5, 0)], 0
        for value in values:
            sum_so_far = decode.times(sum_so_far ^ value, 2, 0b100101, 5)
        text.append("".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[each] for each in [*values, sum_so_far ^ group + 1]))
    return "-".join(text)


def make_shares(secret, threshold, count, name):
    """Shares of a secret, by Horner's rule; the decoder goes by Lagrange's formula."""
    coefficients = [secret] + [os.urandom(22) for _ in range(threshold - 1)]
    shares = []
    for x in random.sample(range(1, 256), count):
        piece = bytes(22)
        for coefficient in reversed(coefficients):
            piece = bytes(decode.times(p, x, 0x11D, 8) ^ c for p, c in zip(piece, coefficient))
        shares.append(write_code(2, bytes([x, threshold]) + unhex(name) + piece, 11))
    return shares


def renew(slot, key):
    """Gives a slot whose K is known `renewal` and `renewed`, and says what its wrap is then made with."""
    from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
    public = decode.XWing(decode.blake2b(256, key, b"coffer.slot.renewal")).public
    shared, lattice = mlkem.MLKEM768PublicKey.from_public_bytes(public[:1184]).encapsulate()
    ephemeral = x25519.X25519PrivateKey.generate()
    point = ephemeral.public_key().public_bytes_raw()
    exchanged = ephemeral.exchange(x25519.X25519PublicKey.from_public_bytes(public[1184:]))
    secret = hashlib.sha3_256(shared + exchanged + point + public[1184:] + b"\\.//^\\").digest()
    encapsulated = lattice + point
    slot.update(renewal=base64url(public), renewed=base64url(encapsulated))
    return decode.blake2b(256, secret, b"coffer.slot.renewed" + encapsulated + public)


# ---- Vaults: what the program makes ----------------------------------------------------------------------------------

class Program:
    """The program that makes vaults, with its memory of vaults kept in the working directory."""

    def __init__(self, binary, work):
        self.binary, self.environment = binary, {**os.environ, "COFFER_STATE_DIR": str(work / "state")}

    def __call__(self, *arguments):
        done = subprocess.run([self.binary, *map(os.fspath, arguments)], env=self.environment, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, timeout=300)
        if done.returncode:
            raise RuntimeError(f"{self.binary} {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout + done.stderr

    def can(self, *command):
        """Whether the program has this command; its help for one that it does not have is that of another."""
        done = subprocess.run([self.binary, "help", *command], capture_output=True, text=True, check=False)
        return f"USAGE: coffer {' '.join(command)} " in done.stdout

    @contextlib.contextmanager
    def mounted(self, vault, mountpoint, *secret):
        mountpoint.mkdir(exist_ok=True)
        self("mount", *secret, vault, mountpoint)
        try:
            yield os.fsencode(mountpoint)
        finally:
            os.chdir("/")                                                    # out of the mount, wherever it was left
            try:
                self("unmount", mountpoint)
            except Exception:
                subprocess.run(["umount", "-l", str(mountpoint)], check=False)
                raise


def write(path, data):
    with open(path, "xb") as stream:
        stream.write(data)


def make_tree(root, rng):
    """Everything that a mount can be asked for."""
    os.chdir(root)
    for size in (0, 1, 2, 4095, 4096, 4097, 8191, 8192, 8193, 12288, 100_000):
        write(b"size-%d" % size, rng.randbytes(size))
    write(b"zeros", bytes(20_000))                                           # written, not a hole
    for name, pieces, size in ((b"hole-first", [(50_000, 100)], None), (b"hole-last", [(0, 5000)], 300_000),
                               (b"hole-all", [], 1_000_000), (b"hole-block", [], 8192),
                               (b"holes", [(4096, 4096), (40_960, 10), (3_000_000, 5000)], None),
                               (b"hole-large", [(3 << 30, 9)], None)):
        with open(name, "xb") as stream:
            for offset, length in pieces:
                stream.seek(offset)
                stream.write(rng.randbytes(length))
            stream.truncate(size)
    for length in (15, 16, 100, 143, 144, 160, 175, 176, 177, 254, 255):
        write(b"n" * length, b"%d" % length)
    for name in (b"new\nline", b"\xff\xfe not UTF-8", b" spaces ", b"-dash", b"coffer.json", b"coffer.dir",
                 b"back\\slash", "Käse".encode(), "Ka\u0308se".encode(), b"tab\t\x1b[31m", b"ends in the mark\x80",
                 b"...", b"c" * 44):
        write(name, name)
    os.makedirs(b"one/two/three")
    os.mkdir(b"empty")
    os.mkdir(b"l" * 255)
    write(b"l" * 255 + b"/" + b"m" * 255, b"in a directory with a long name")
    for name in (b"one/a", b"one/two/b", b"one/two/three/c"):
        write(name, name)
    # Directories that were renamed keep their entries' names; others then come into their places.
    os.rename(b"one/two", b"moved")
    os.rename(b"moved", b"moved again")
    os.makedirs(b"one/two/three")
    write(b"one/two/three/c", b"another")
    write(b"moved again/new", b"made after the rename")
    os.rename(b"one/two/three", b"moved again/inner")
    os.rename(b"one", b"l" * 254)
    os.mkdir(b"one")
    write(b"one/a", b"a second one")
    os.mkdir(b"one/two")
    write(b"one/two/b", b"a second b")
    for name, target in ((b"link", b"one/a"), (b"dangling", b"/nowhere/\xff\n"), (b"link-255", b"t" * 255),
                         (b"link-3000", b"/".join([b"u" * 99] * 30)), (b"one/link", b"v/" * 1500)):
        os.symlink(target, name)
    os.rename(b"link-3000", b"moved again/link-3000")                        # its companion has to go with it
    os.link(b"size-4097", b"hard")
    os.link(b"size-4097", b"moved again/hard \n")
    os.link(b"dangling", b"twin", follow_symlinks=False)
    os.mkfifo(b"fifo", 0o624)
    os.setxattr(b"size-1", "user.comment", b"a remark")
    os.setxattr(b"size-1", "user.empty", b"")
    os.setxattr(b"size-0", "user." + "n" * 161, b"the longest short name")
    os.setxattr(b"size-0", "user." + "n" * 162, b"the shortest long name")
    os.setxattr(b"hole-all", "user." + "x" * 250, rng.randbytes(1000))
    os.setxattr(b"one", "user.directory", b"a directory's")
    os.setxattr(b"link", "trusted.link", b"a link's", follow_symlinks=False)
    os.setxattr(b"link", "trusted." + "l" * 200, b"long", follow_symlinks=False)
    os.setxattr(b"fifo", "trusted.fifo", b"a pipe's", follow_symlinks=False)
    for mode, name in ((0o000, b"size-2"), (0o444, b"size-4095"), (0o751, b"size-8193"), (0o1777, b"empty"),
                       (0o500, b"moved again/inner")):
        os.chmod(name, mode)
    moment = 1_000_000_000_123_456_789
    for name in (b"size-0", b"holes", b"empty", b"moved again", b"link", b"fifo"):
        moment += 86_400_000_000_001
        os.utime(name, ns=(moment, moment), follow_symlinks=False)
    os.chdir(b"/")


def make_deep_tree(root):
    """Directories in directories until the stored paths are much longer than the system takes."""
    here = os.open(root, os.O_RDONLY)
    for level in range(130):
        os.mkdir(b"deep", dir_fd=here)
        following = os.open(b"deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = following
    with open(os.open(b"bottom", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=here), "wb") as stream:
        stream.write(b"the bottom")
    os.close(here)


def read_attributes(path):
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}


def snapshot(root):
    """All that is compared of a tree, by path. Directories are walked by descriptors, as the tree is deep."""
    found, first = {}, {}

    def add(fd, name, path):
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        at = b"/proc/self/fd/%d/%s" % (fd, name)
        content = None
        if stat.S_ISREG(status.st_mode):
            content = digest(at)
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(at)
        attributes = read_attributes(at)
        twin = first.setdefault((status.st_dev, status.st_ino), path) if not stat.S_ISDIR(status.st_mode) else path
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size         # a directory's is the file system's own
        moment = status.st_mtime_ns if path else None                        # the root's changes with coffer.json
        found[path] = (oct(status.st_mode), size, moment, content, attributes, twin)
        if stat.S_ISDIR(status.st_mode):
            inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
            for each in sorted(map(os.fsencode, os.listdir(inner))):
                add(inner, each, path + (each,))
            os.close(inner)

    fd = os.open(root, os.O_RDONLY)
    add(fd, b".", ())
    os.close(fd)
    return found


def digest(path):
    """A file's hash; its holes, which may be gigabytes, count by their length alone."""
    state, position = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        while position < size:
            try:
                start = os.lseek(stream.fileno(), position, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            for at in range(start - start % 4096, end, 4096):
                block = os.pread(stream.fileno(), 4096, at)
                if block.strip(b"\0"):
                    state.update(struct.pack("<Q", at) + block)
            position = end
    return state.hexdigest()


def compare(expected, found, what):
    check(expected.keys() == found.keys(), f"{what}: {sorted(expected.keys() ^ found.keys())[:3]}")
    for path in expected.keys() & found.keys():
        check(expected[path] == found[path], f"{what}: {b'/'.join(path)[:60]}: {expected[path]} and {found[path]}")


def run(*arguments, status=0):
    done = subprocess.run([sys.executable, HERE / "coffer_decode.py", *arguments], capture_output=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=600)
    check(done.returncode == status, f"coffer_decode {arguments}: {done.returncode}, {done.stderr.decode()[:500]}")
    return done.stdout


def check_vault(program, work, cipher, name_max, rng, rotations):
    """Makes a vault, and compares what the decoder extracts with what the mount shows."""
    work.mkdir()
    passphrase, other, vault = work / "passphrase", work / "other", work / "vault"
    passphrase.write_bytes("Ka\u0308se und Brot\r\nnot this\n".encode())
    program("init", "--passphrase-file", passphrase, "--kdf", "interactive", "--cipher", cipher, "--name-max",
            str(name_max), vault)
    opening = ("--passphrase-file", passphrase)
    with program.mounted(vault, work / "mount", *opening) as mount:
        make_tree(mount, rng)
    shallow = work / "shallow"                                               # `cp` and the like cannot copy deep trees
    subprocess.run(["cp", "-a", vault, shallow], check=True)
    with program.mounted(vault, work / "mount", *opening) as mount:
        make_deep_tree(mount)
    with program.mounted(vault, work / "mount", *opening, "--read-only") as mount:
        expected = snapshot(mount)                                           # what has come back from the vault
    # Each kind of slot, and each way to give its secret.
    random_key, typed_key = work / "random key", work / "typed key"
    random_key.write_bytes(rng.randbytes(32))
    typed_key.write_bytes(b"typed by a person\n")
    other.write_bytes(b"\xff not UTF-8")
    program("keygen", work / "identity")
    program("keygen", "--lock", *opening, "--kdf", "interactive", work / "locked")
    recipients = [re.search(r"coffer-recipient-1:\S+", (work / name).read_text())[0] for name in ("identity", "locked")]
    add = ("key", "add", *opening, "--kdf", "interactive", "--label", "a\tlabel", vault)
    program(*add, "passphrase", "--new-passphrase-file", other)
    program(*add, "key-file", random_key)
    program(*add, "key-file", typed_key)
    code = re.search(r"\b([0-9A-Z]{5}-){8}[0-9A-Z]{5}\b", program(*add, "recovery-code"))[0]
    (work / "code").write_text(code.lower().replace("-", " ") + "\n")
    for recipient in recipients:
        program(*add, "recipient", recipient)
    secrets = [opening, ("--passphrase-file", other), ("--key-file", random_key), ("--key-file", typed_key),
               ("--recovery-code-file", work / "code"), ("--identity", work / "identity"),
               ("--identity", work / "locked", *opening)]
    lists = {run(*secret, "list", "--json", vault) for secret in secrets}
    check(len(lists) == 1, f"{cipher}: the secrets show different lists")
    listed = [json.loads(line) for line in lists.pop().splitlines()]
    check({tuple(os.fsencode(each["path"]).split(b"/")): each["size"] for each in listed}
          == {path: values[1] for path, values in expected.items() if path}, f"{cipher}: list")
    check(len(run("--key-file", random_key, "list", vault).splitlines()) == len(listed), f"{cipher}: a line for each")
    run("--key-file", other, "list", vault, status=1)
    check(run("info", vault).count(b"\nslot ") == 7, f"{cipher}: info")
    check(b"\nepoch     0, " in run("--key-file", random_key, "info", vault), f"{cipher}: info with a secret")
    # Extraction, of all and of parts.
    run("--key-file", random_key, "extract", vault, work / "all")
    compare(expected, snapshot(work / "all"), f"{cipher}: extract")
    check(os.stat(work / "all" / "hole-large").st_blocks < 2048, f"{cipher}: holes are kept")
    run("--key-file", random_key, "extract", vault, work / "part", "moved again")
    part, found = {}, snapshot(work / "part")
    for path, values in expected.items():                                    # the names' twins may be outside of it
        if path[:1] == (b"moved again",):
            part[path[1:]] = (*values[:5], found.get(path[1:], values)[5])
    part[()], found[()] = part[()][:2], found[()][:2]
    compare(part, found, f"{cipher}: extract a part")
    run("--key-file", random_key, "extract", vault, work / "one", b"n" * 255)
    check(os.listdir(work / "one") == ["n" * 255], f"{cipher}: extract a file")
    run("--key-file", random_key, "extract", vault, work / "all", status=1)
    for name in ("size-8193", "hole-first", "size-0", b"\xff\xfe not UTF-8"):
        with open(os.path.join(os.fsencode(work / "all"), os.fsencode(name)), "rb") as stream:
            check(run("--key-file", random_key, "cat", vault, name) == stream.read(), f"{cipher}: cat {name}")
    for name in ("link", "one", "not there", "size-1/x"):
        run("--key-file", random_key, "cat", vault, name, status=1)
    given = {"keyfile": random_key.read_bytes()}
    shutil.copy2(vault / "coffer.json", shallow)
    check_later_features(work, vault, shallow, cipher, given, listed)
    if program.can("key", "rotate"):
        check_rotation(program, work, vault, ("--key-file", random_key), secrets, expected, rng, rotations)
    return shallow, given


def check_rotation(program, work, vault, secret, secrets, expected, rng, rotations):
    """Rotations by the program: broken off at any moment, then finished. All that is there stays there."""
    rotate = [program.binary, "key", "rotate", *secret, vault]

    def without_times(tree, kinds):
        """A directory that a rotation was broken off in may have the time of that."""
        return {path: (*values[:2], None if values[0].startswith(kinds) else values[2], *values[3:])
                for path, values in tree.items()}

    for number in range(rotations):
        rotation = subprocess.Popen(rotate, env=program.environment, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        try:
            rotation.wait(rng.uniform(0.05, 0.6))
        except subprocess.TimeoutExpired:
            rotation.kill()
            rotation.wait()
        out = work / f"broken off {number}"
        run(*secret, "extract", vault, out)
        compare(without_times(expected, "0o"), without_times(snapshot(out), "0o"), "a rotation broken off")
        shutil.rmtree(out)
    program(*rotate[1:])
    check(run(*secret, "info", vault).count(b"\nepoch ") == 1, "a rotation finished has one epoch")
    run(*secret, "extract", vault, work / "rotated by the program")
    found = snapshot(work / "rotated by the program")
    compare(without_times(expected, "0o4"), without_times(found, "0o4"), "a rotation")
    lists = {run(*each, "list", vault) for each in secrets}
    check(len(lists) == 1 and b"renewed" in run("info", vault), "each secret opens a rotated vault")


def check_later_features(work, vault, shallow, cipher, given, listed):
    """Shares, renewed slots, and a vault in the middle of a rotation: coffer.json is written here, by the document."""
    data = (vault / "coffer.json").read_bytes()
    config, ring = decode.open_config(data, given)
    slot = {"type": "shares", "id": "00" * 8, "label": "", "created": "2026-01-31T12:00:00Z", "set": "00beef",
            "threshold": 3, "count": 5, "salt": base64url(os.urandom(16))}
    secret = os.urandom(22)
    slot_key = decode.blake2b(256, secret + bytes(10), b"coffer.slot.shares" + decode.decoded(slot, "salt"))
    shares = []
    for number, text in enumerate(make_shares(secret, 3, 5, "00beef")):
        shares.append(work / f"share {number}")
        shares[-1].write_text(text + "\n")
    passphrase = {"type": "passphrase", "id": "11" * 8, "label": "", "created": "2026-01-31T12:00:00Z",
                  "kdf": "argon2id13", "opslimit": 1, "memlimit": 8 << 20, "salt": base64url(os.urandom(16))}
    typed = "Ka\u0308se".encode()                                            # as it was typed, and not normalized
    (work / "typed").write_bytes(typed)
    passphrase_key = decode.argon2id(typed, decode.decoded(passphrase, "salt"), 1, 8 << 20)
    renewed = {**passphrase, "id": "22" * 8, "name": "renewed"}
    renewed_wrap_key = renew(renewed, passphrase_key)
    renewed_shares = {**slot, "id": "33" * 8}
    shares_wrap_key = renew(renewed_shares, slot_key)
    two_epochs = {**ring.vault_keys, 200: os.urandom(32)}
    ring_key = os.urandom(32)
    shared = [option for share in shares[1:4] for option in ("--share-file", share)]
    for name, keys, slots, secret in (("shares", ring.vault_keys, [(slot, slot_key)], shared),
                                      ("as typed", two_epochs, [(passphrase, passphrase_key)],
                                       ("--passphrase-file", work / "typed")),
                                      ("renewed", two_epochs, [(renewed, renewed_wrap_key)],
                                       ("--passphrase-file", work / "typed")),
                                      ("renewed shares", two_epochs, [(renewed_shares, shares_wrap_key)], shared)):
        text = make_config(config, keys, ring_key, slots)
        (work / "config").write_bytes(text)
        out = run("--config", work / "config", *secret, "list", "--json", vault)
        check([json.loads(line) for line in out.splitlines()] == listed, f"{cipher}: {name}")
    run("--config", work / "config", *shared[:4], "list", vault, status=1)
    copy = work / "rotating"
    subprocess.run(["cp", "-a", shallow, copy], check=True)
    (copy / "coffer.json").write_bytes(make_config(config, two_epochs, ring_key, [(slot, slot_key)]))


# ---- Damage ----------------------------------------------------------------------------------------------------------

def read_all(directory, given, known=None):
    """All that the decoder gives of a vault, by path and kind, and whether it told of an error. `known` is what
    coffer.json opened to, to spare stretching the secret again."""
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            config, ring = known or decode.open_config((directory / "coffer.json").read_bytes(), given)
        except decode.VaultError:
            return {}, True
        vault, found = decode.Vault(os.fsencode(directory), config, ring), {}

        def add(entry):
            found[entry.path, "kind"] = entry.kind
            fd = owner = None
            try:
                if entry.kind in ("file", "directory"):
                    fd, owner = entry.open(), bytes(16)
                if entry.kind == "file":
                    owner = decode.open_header(ring, os.pread(fd, 32, 0))[0]
                    found[entry.path, "content"] = list(decode.read_contents(ring, fd))
                elif entry.kind == "symlink":
                    found[entry.path, "target"] = vault.target(entry)
                for name, value in vault.attributes(entry, fd, owner or bytes(16)):
                    found[entry.path, name] = value
            except decode.VaultError as error:
                vault.problem(entry.path, error)
            finally:
                if fd is not None:
                    os.close(fd)
            if entry.kind == "directory":
                decode.for_each(vault, entry, add)

        add(vault.root())
        os.close(vault.directory)
        return found, vault.failed


def damage_places(directory):
    """What can be damaged in a vault: by kind, its paths, and the attribute's name."""
    places = {"byte": [], "link": [], "name": [], "attribute": []}
    for folder, directories, files in os.walk(os.fsencode(directory)):
        for name in directories + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_size and b"coffer.json." not in path:
                places["byte"].append((path, None))
            if stat.S_ISLNK(status.st_mode):
                places["link"].append((path, None))
            if name.startswith(b"c") and len(name) > 40:
                places["name"].append((path, None))
            places["attribute"] += ((path, name) for name in read_attributes(path) if ".coffer." in name)
    return places


ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def changed(data, rng, alphabet=range(256)):
    at = rng.randrange(len(data))
    return data[:at] + bytes([rng.choice([byte for byte in alphabet if byte != data[at]])]) + data[at + 1:]


class Damage:
    """One changed byte of a vault, which is put back at the end."""

    def __init__(self, kind, path, attribute, rng):
        self.kind, self.path, self.attribute, self.now = kind, path, attribute, path
        self.what = f"the {kind} of {path} {attribute or ''}"
        if kind == "byte":
            # Where the file is large, nearly every place would be one in its hole.
            self.at = rng.randrange(min(os.stat(path).st_size, 1 << 20))
            self.old = self.write(None)
            self.write(changed(self.old, rng))
            self.what += f"at {self.at}"
        elif kind == "link":
            self.old, self.attributes = os.readlink(path), read_attributes(path)
            self.link(changed(self.old, rng, ALPHABET))
        elif kind == "name":
            self.now = os.path.join(os.path.dirname(path), changed(os.path.basename(path), rng, ALPHABET))
            os.rename(path, self.now)
            self.what += f", now {self.now}"
        else:
            self.old = os.getxattr(path, attribute, follow_symlinks=False)
            os.setxattr(path, attribute, changed(self.old, rng), follow_symlinks=False)

    def write(self, byte):
        with open(self.path, "r+b") as stream:
            stream.seek(self.at)
            return stream.read(1) if byte is None else stream.write(byte)

    def link(self, text):
        os.unlink(self.path)
        os.symlink(text, self.path)
        for name, value in self.attributes.items():
            os.setxattr(self.path, name, value, follow_symlinks=False)

    def undo(self):
        if self.kind == "byte":
            self.write(self.old)
        elif self.kind == "link":
            self.link(self.old)
        elif self.kind == "name":
            os.rename(self.now, self.path)
        else:
            os.setxattr(self.path, self.attribute, self.old, follow_symlinks=False)


def check_damage(vault, given, copy, rng, count):
    """Changes one byte at a time in a copy: the decoder must give what it gave before, or an error, never others."""
    subprocess.run(["cp", "-a", vault, copy], check=True)
    known = decode.open_config((copy / "coffer.json").read_bytes(), given)
    expected, failed = read_all(copy, given)
    check(not failed, "damage: the copy has errors before it is damaged")
    places, told = damage_places(copy), 0
    for number in range(count):
        if number % 10 == 0:
            kind, place = "byte", (os.fsencode(copy / "coffer.json"), None)
        else:
            kind = rng.choices(list(places), (7, 1, 1, 1))[0]
            place = rng.choice(places[kind])
        damage = Damage(kind, *place, rng)
        try:
            found, failed = read_all(copy, given, None if place[0].endswith(b"/coffer.json") else known)
        finally:
            damage.undo()
        told += failed
        wrong = [key for key in found if key not in expected or expected[key] != found[key]]
        check(not wrong, f"damage: {damage.what}: gives another {wrong[:1]}")
        # A name that is not of Coffer's forms any more is left out of listings without an error, by the document.
        check(failed or kind == "name" or found == expected, f"damage: {damage.what}: is left out without an error")
    after, failed = read_all(copy, given, known)
    check(after == expected and not failed, "damage: the copy was not put back")
    check_moved_blocks(copy, known, rng)
    check_closed(copy, known)
    return told


def check_moved_blocks(copy, known, rng):
    """Damage by whole blocks: zeroed, exchanged, moved, cut off, put behind. None of these files may be read."""
    reader, files = decode.Vault(os.fsencode(copy), *known), {}
    for name in (b"size-100000", b"holes"):
        with open(reader.resolve(name).open(), "rb") as stream:
            data = stream.read()
        files[name] = data[:32], [data[at:at + 4128] for at in range(32, len(data), 4128)]
    for name, (header, blocks) in files.items():
        stored = [index for index, block in enumerate(blocks) if block != bytes(4128)]
        a, b = rng.sample(stored[:-1], 2)
        exchanged = list(blocks)
        exchanged[a], exchanged[b] = blocks[b], blocks[a]
        cases = [("a block dropped", header, blocks[:a] + blocks[a + 1:]),
                 ("blocks exchanged", header, exchanged),
                 ("a hole put in", header, blocks[:a] + [bytes(4128)] + blocks[a:]),
                 ("a hole put behind", header, blocks + [bytes(4128)]),
                 ("the last block twice", header, blocks + blocks[-1:]),
                 ("cut by a byte", header, blocks[:-1] + [blocks[-1][:-1]]),
                 ("another salt", header[:24] + bytes(8), blocks),
                 ("another file's header", next(each for each, _ in files.values() if each != header), blocks)]
        for index in stored:
            zeros = bytes(len(blocks[index]))
            cases.append((f"block {index} zeroed", header, blocks[:index] + [zeros] + blocks[index + 1:]))
        for count in range(len(blocks)):
            cases.append((f"cut to {count} blocks", header, blocks[:count]))
        for what, header, blocks in cases:
            with tempfile.TemporaryFile() as stream:
                stream.write(header + b"".join(blocks))
                stream.flush()
                refused(f"damage: {name}: {what}", lambda: list(decode.read_contents(reader.ring, stream.fileno())))


def check_closed(copy, known):
    """A closed directory does not answer to the id that its place derives, and an open one does."""
    reader = decode.Vault(os.fsencode(copy), *known)
    ring, entry = reader.ring, reader.resolve(b"one")                        # made where one was renamed away
    for closed, directory in ((True, entry), (False, reader.root())):
        fd = directory.open()
        before, _ = reader.entries(fd, directory)
        padded = b"sealed here\x80".ljust(16, b"\0")
        tag = decode.blake2b(128, ring.key(0, decode.NAME_MAC), directory.place + padded)
        sealed = tag + decode.xchacha20(ring.key(0, decode.NAME_KEY), tag + bytes(8), padded)
        stored = b"c" + base64url(sealed).encode()
        os.close(os.open(stored, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        after, problems = reader.entries(fd, directory)
        check(len(after) == len(before) + (not closed) and len(problems) == closed,
              f"a name under the derived id where the directory is {'closed' if closed else 'open'}")
        os.unlink(stored, dir_fd=fd)


def check_damaged_extraction(vault, secret, work):
    """What is damaged is named and left out, the rest comes out, and the exit status tells."""
    copy = work / "with a damaged file"
    subprocess.run(["cp", "-a", vault, copy], check=True)
    config, ring = decode.open_config((copy / "coffer.json").read_bytes(), {"keyfile": Path(secret[1]).read_bytes()})
    reader = decode.Vault(os.fsencode(copy), config, ring)
    run(*secret, "extract", copy, work / "whole")
    entry = reader.resolve(b"size-8193")
    with open(os.path.join(os.fsencode(copy), entry.stored), "r+b") as stream:
        stream.seek(32 + 4128 + 100)
        stream.write(b"damaged")
    run(*secret, "extract", copy, work / "rest", status=1)
    whole, rest = snapshot(work / "whole"), snapshot(work / "rest")
    whole.pop((b"size-8193",))
    compare(whole, rest, "damage: the rest of an extraction")
    out = run(*secret, "cat", copy, "size-8193", status=1)
    check(len(out) == 4096, "damage: cat stops where the damage is")


# ---- The command line ------------------------------------------------------------------------------------------------

def why_not(options):
    """Why vaults cannot be made here, if they cannot."""
    if not options.program:
        return "no --program to make vaults with"
    if os.geteuid() != 0:
        return "vaults are mounted and compared as root only"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"there is no FUSE here: {error}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", metavar="BIN", help="the program to make vaults with")
    parser.add_argument("--work", metavar="DIR", help="where to work; else the system's directory for temporary files")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--damages", type=int, default=100, help="how many places to damage (default: 100)")
    parser.add_argument("--rotations", type=int, default=8, help="how many rotations to break off, for each cipher (default: 8)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))         # so that mounts are ended, too
    decode.check_xchacha20()
    for each in (check_keys, check_geometry, check_headers, check_blocks, check_names, check_directories, check_links,
                 check_attributes, check_config, check_slots):
        each()
    summary = f"{checked} checks of vectors"
    skipped = why_not(options)
    if not skipped:
        decode.allow_depth()
        print(f"seed {options.seed}")
        rng, done, told = random.Random(options.seed), checked, 0
        work = Path(tempfile.mkdtemp(prefix="check-decode-", dir=options.work))
        try:
            program = Program(os.path.abspath(options.program), work)
            for cipher, name_max in (("aes-256-gcm", 255), ("chacha20-poly1305", 143)):
                vault, given = check_vault(program, work / cipher, cipher, name_max, rng, options.rotations)
                told += check_damage(vault, given, work / cipher / "damaged", rng, options.damages // 2)
                check_damaged_extraction(vault, ("--key-file", work / cipher / "random key"), work / cipher)
        except Exception as error:
            check(False, f"{type(error).__name__}: {error}")
        finally:
            os.chdir("/")
            shutil.rmtree(work, ignore_errors=True)
        summary += f", {checked - done} of vaults, {told} of {options.damages // 2 * 2} damages told of"
    if skipped:
        print(f"skipped: {skipped}")
    print(f"check_decode: {summary}, {len(failures)} failed" + (f", seed {options.seed}" if not skipped else ""))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
