#!/usr/bin/env python3
"""Read a Coffer vault without Coffer.

This one file gets everything back out of a vault. It needs the vault's directory with `coffer.json` in it, one
secret that opens it, and Python 3.9 or later with two packages: `python3 -m pip install pynacl cryptography`.

    coffer_decode.py info VAULT                        what it is and what can open it; verified if a secret is given
    coffer_decode.py list VAULT [PATH]                 type, size and path of everything; --json for programs
    coffer_decode.py cat VAULT PATH > FILE             one file
    coffer_decode.py extract VAULT DEST [PATH]         everything, or what is at PATH, into the new directory DEST

The secret is asked for as a passphrase, or comes from options, which stand before the command:

    --passphrase-file FILE      its first line ("-" is standard input)
    --key-file FILE             all of its bytes
    --recovery-code-file FILE   the code
    --identity FILE             an identity, with --passphrase-file for its passphrase if it is locked
    --share-file FILE           a piece of a shared secret, one to a file; repeat it for as many as are needed

If `coffer.json` itself is damaged, `--config VAULT/coffer.json.previous` reads the version before the last change.

What does not verify is named on standard error and left out, the rest goes on, and the exit status is 1. `cat` has
then written what comes before the damage. Modes, times and the like are not sealed, so whoever could write to the
vault could change them; owners, device nodes, and the set-user-id and set-group-id bits of files are not restored.
In a listing, what cannot be shown is escaped; in JSON, bytes of a name that are not UTF-8 are U+DC80 to U+DCFF.

It was written from the document "Vault format, version 1" (Format.md) alone, and comments name its sections. It only
reads. The intent log `coffer.log` is ignored: files that were being written when the power failed may not verify.
"""
import argparse
import base64
import errno
import getpass
import hashlib
import hmac
import json
import os
import re
import stat
import struct
import sys
import unicodedata
from dataclasses import dataclass

try:
    import nacl.bindings as sodium
    import nacl.exceptions
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
except ImportError as missing:
    sys.exit(f"coffer_decode: {missing}; install it with: python3 -m pip install pynacl cryptography")


class VaultError(Exception):
    """Something that does not verify or is not as the format says, or a secret that does not open the vault."""

def require(condition, problem):
    if not condition:
        raise VaultError(problem)


# ---- Overview: the primitives ----------------------------------------------------------------------------------------

def unbase64(text):
    """The bytes of canonical base64url without padding, else None."""
    if len(text) % 4 == 1 or not re.fullmatch(rb"[A-Za-z0-9_-]*", text):
        return None
    raw = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    return raw if base64.urlsafe_b64encode(raw).rstrip(b"=") == text else None

def blake2b(bits, key, message):
    return hashlib.blake2b(message, digest_size=bits // 8, key=key).digest()

same = hmac.compare_digest

def xchacha20(key, nonce, data):
    """The plain XChaCha20 stream, which neither package offers by itself.

    It is ChaCha20 under the sub-key HChaCha20(key, the nonce's first 16 bytes), with the other 8 bytes as its nonce and
    a counter from 0. libsodium's secretstream begins in the same way, and its public state begins with the 32 bytes of
    that sub-key. So libsodium makes the sub-key, and `cryptography` runs ChaCha20, whose nonce of 16 bytes is the
    counter and the nonce. XChaCha20-Poly1305 alone would not do: it never shows the stream's first 64 bytes.
    """
    state = sodium.crypto_secretstream_xchacha20poly1305_state()
    sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, nonce[:16] + bytes(8), key)
    subkey = bytes(state.statebuf[0:32])
    return Cipher(algorithms.ChaCha20(subkey, bytes(8) + nonce[16:]), mode=None).encryptor().update(data)

def check_xchacha20():
    """Compares the stream's second 64 bytes with what XChaCha20-Poly1305 shows of it: a library that keeps its state in
    another way would else look like a wrong passphrase."""
    key, nonce = bytes(range(32)), bytes(range(100, 124))
    shown = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(bytes(64), b"", nonce, key)[:64]
    require(xchacha20(key, nonce, bytes(128))[64:] == shown, "XChaCha20 cannot be had from this version of PyNaCl")


# ---- Keys ------------------------------------------------------------------------------------------------------------

(CONTENTS, NAME_MAC, NAME_KEY, RECORD_MAC, RECORD_KEY, SYMLINK, XATTR_MAC, XATTR_KEY, XATTR_VALUE, CONFIG,
 LOG) = range(1, 12)

def subkey(vault_key, purpose):
    return hashlib.blake2b(b"", digest_size=32, key=vault_key, salt=struct.pack("<Q", purpose) + bytes(8),
                           person=b"CofferV1" + bytes(8)).digest()

class Ring:
    """The vault keys by epoch, and what is sealed under them."""

    def __init__(self, vault_keys):
        self.vault_keys, self.subkeys = vault_keys, {}
        self.epochs = sorted(vault_keys, reverse=True)                       # newest first

    def key(self, epoch, purpose):
        require(epoch in self.vault_keys, f"sealed under epoch {epoch}, which the vault's ring does not have")
        if (epoch, purpose) not in self.subkeys:
            self.subkeys[epoch, purpose] = subkey(self.vault_keys[epoch], purpose)
        return self.subkeys[epoch, purpose]

    def open_siv(self, mac, encryption, ad, sealed):
        """"SIV, the deterministic construction": the plaintext under the newest epoch that verifies, or None."""
        for epoch in self.epochs:
            plain = xchacha20(self.key(epoch, encryption), sealed[:16] + bytes(8), sealed[16:])
            if same(blake2b(128, self.key(epoch, mac), ad + plain), sealed[:16]):
                return plain
        return None

    def open_aead(self, purpose, ad, sealed, what):
        """What is sealed as epoch, nonce, XChaCha20-Poly1305: link targets, values of attributes."""
        require(len(sealed) >= 1 + 24 + 16, f"{what} is too short")
        try:
            return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed[25:], ad, sealed[1:25],
                                                                     self.key(sealed[0], purpose))
        except nacl.exceptions.CryptoError:
            raise VaultError(f"{what} does not verify") from None


# ---- Files -----------------------------------------------------------------------------------------------------------

HEADER, BLOCK, PLAIN = 32, 4128, 4096
FINAL, GAP = 1 << 31, (1 << 30) - 1
HOLE = bytes(BLOCK)
CIPHERS = {1: AESGCM, 2: ChaCha20Poly1305}

def plain_size(size):
    """The plaintext's size, which follows from the file's."""
    require(size >= 64 and (size == 64 or not 1 <= (size - HEADER) % BLOCK <= 32), f"no file is {size} bytes long")
    return size - HEADER - 32 * -(-(size - HEADER) // BLOCK)

def open_header(ring, header):
    """The file id, and the cipher with the file key."""
    require(len(header) == HEADER and header[:4] == b"COFR", "this is not a file of a vault")
    version, cipher, epoch, flags = header[4:8]
    require(version == 1 and cipher in CIPHERS and flags == 0, f"version {version}, cipher {cipher} or flags {flags} "
            "are not known")
    return header[8:24], CIPHERS[cipher](blake2b(256, ring.key(epoch, CONTENTS), header))

def open_block(cipher, index, block):
    """A block's plaintext and its info."""
    require(32 <= len(block) <= BLOCK, f"block {index} is cut")
    try:
        plain = cipher.decrypt(block[:12], block[16:], struct.pack("<Q", index) + block[12:16])
    except InvalidTag:
        raise VaultError(f"block {index} does not verify") from None
    return plain, struct.unpack("<I", block[12:16])[0]

def read_contents(ring, fd):
    """A file's contents in parts, (offset, length, bytes), with None for the bytes of holes. Each part that comes out
    is verified, holes by the block behind them; what does not verify ends it."""
    size = os.fstat(fd).st_size
    plain_size(size)
    cipher = open_header(ring, os.pread(fd, HEADER, 0))[1]
    last = -(-(size - HEADER) // BLOCK) - 1
    index = zeros = 0                                                        # zeros: how many blocks right before index
    while index <= last:
        at = HEADER + BLOCK * index
        block = os.pread(fd, min(BLOCK, size - at), at)
        if block == HOLE and index < last:
            behind = min(block_behind_hole(fd, at + BLOCK, size), last)
            index, zeros = behind, zeros + behind - index
            continue
        plain, info = open_block(cipher, index, block)
        require(index == last or len(plain) == PLAIN, f"block {index} is cut")
        require(index < last or info & FINAL, "its end does not verify: the last block is not one that may be last")
        require(zeros <= info & GAP, f"block {index} does not vouch for all of the {zeros} blocks of zeros before it")
        if zeros:
            yield (index - zeros) * PLAIN, zeros * PLAIN, None
        yield index * PLAIN, len(plain), plain
        index, zeros = index + 1, 0

def block_behind_hole(fd, at, size):
    """The block to read next, `at` or later: what the file system keeps as one large hole need not be read."""
    try:
        at = max(at, os.lseek(fd, at, os.SEEK_DATA))
    except (OSError, AttributeError) as error:
        if getattr(error, "errno", None) == errno.ENXIO:                     # a hole up to the end
            at = size
    return (at - HEADER) // BLOCK


# ---- Names, directory ids --------------------------------------------------------------------------------------------

NAME = re.compile(rb"c([A-Za-z0-9_-]+)")
LONG_NAME = re.compile(rb"coffer\.long\.([A-Za-z0-9_-]{22})(?:\.([0-9]{2})\.([A-Za-z0-9_-]+))?")

def sealed_names(stored_names):
    """The entries among a directory's stored names, as pairs of the stored name and the sealed one, which is None where
    the companions of a long name do not fit together. Names of other forms are none of Coffer's."""
    pieces, entries = {}, []
    for stored in stored_names:
        if (long := LONG_NAME.fullmatch(stored)) and long[2]:
            pieces.setdefault(long[1], []).append((int(long[2]), long[3]))
    for stored in stored_names:
        short, long = NAME.fullmatch(stored), LONG_NAME.fullmatch(stored)
        if short and is_sealed_name(unbase64(short[1])):
            entries.append((stored, unbase64(short[1])))
        elif long and not long[2] and unbase64(long[1]):
            found = sorted(pieces.get(long[1], []))
            sealed = unbase64(long[1]) + (unbase64(b"".join(piece for _, piece in found)) or b"")
            whole = [number for number, _ in found] == list(range(len(found))) and is_sealed_name(sealed)
            entries.append((stored, sealed if whole else None))
    return entries

def is_sealed_name(sealed):
    return sealed is not None and 32 <= len(sealed) <= 16 + 256 and len(sealed) % 16 == 0

def open_name(ring, directory, sealed):
    """The name, if it verifies in the directory with this id, else None."""
    padded = ring.open_siv(NAME_MAC, NAME_KEY, directory, sealed) if is_sealed_name(sealed) else None
    marked = (padded or b"").rstrip(b"\0")
    name = marked[:-1]
    if not marked.endswith(b"\x80") or len(padded) - len(marked) > 15 or not 1 <= len(name) <= 255:
        return None
    return None if b"/" in name or b"\0" in name or name in (b".", b"..") else name

def directory_id(*parts):
    """Of the root: from the vault id. Of another: from the id that its own name verified under, and its name."""
    return blake2b(128, b"", b"coffer.directory" + b"".join(parts))

PIN, MARK, CLOSED = 1, 2, 3
RECORD, RECORDS_MAX = 48, 64

def open_records(ring, place, data):
    """The pins in a coffer.dir, whether the directory is marked, and whether it is closed, at the place that derives
    this id. Records of other places do not verify here, and mean nothing here."""
    require(len(data) >= 8 and data[:4] == b"COFD" and data[4:6] == b"\1\0", "coffer.dir is not as it has to be")
    count = struct.unpack("<H", data[6:8])[0]
    require(count <= RECORDS_MAX and len(data) == 8 + RECORD * count, "coffer.dir has not the length that it says")
    records = [ring.open_siv(RECORD_MAC, RECORD_KEY, place, data[at:at + RECORD]) for at in range(8, len(data), RECORD)]
    records = [(record[0], record[16:]) for record in records if record and not any(record[1:16])]
    kinds = {kind for kind, _ in records}
    return [pin for kind, pin in records if kind == PIN], MARK in kinds, CLOSED in kinds


# ---- Symbolic links, extended attributes -----------------------------------------------------------------------------

LINK = re.compile(rb"(coffer\.link\.([A-Za-z0-9_-]{22}))\.([0-9]{4})")
LINK_MAX = 1 + 24 + 9999 + 16

def open_link(ring, text, read_companion):
    """A link's target from its text; `read_companion(name)` reads the file beside it that holds one too long for it."""
    long = LINK.fullmatch(text)
    r = unbase64(long[2]) if long else b""
    sealed = read_companion(long[1]) if r else unbase64(text)
    require(sealed is not None, "the link's text or the file that holds its target is not as it has to be")
    target = ring.open_aead(SYMLINK, b"coffer.symlink" + (r or b""), sealed, "the link's target")
    require(not r or len(target) == int(long[3]), "the link's target has not the length that the link says")
    return target

def open_attribute(ring, prefix, owner, stored_name, read_value):
    """An attribute's name and value; None if it is none of Coffer's."""
    if not stored_name.startswith(prefix):
        return None
    text = stored_name[len(prefix):]
    long = text.startswith(b"long.")
    sealed = unbase64(text[5:] if long else text)
    if sealed is None or (len(sealed) != 16 if long else len(sealed) < 17):
        return None
    if long:
        plain = ring.open_aead(XATTR_VALUE, owner + sealed, read_value(), "an attribute with a long name")
        length = int.from_bytes(plain[:2], "little")
        name, value = plain[2:2 + length], plain[2 + length:]
        tags = [blake2b(128, ring.key(epoch, XATTR_MAC), owner + name) for epoch in ring.epochs]
        require(name and len(name) == length and sealed in tags, "an attribute's long name does not verify")
        return name, value
    name = ring.open_siv(XATTR_MAC, XATTR_KEY, owner, sealed)
    require(name, f"the attribute {show(stored_name)} does not verify")
    return name, ring.open_aead(XATTR_VALUE, owner + name, read_value(), f"the value of the attribute {show(name)}")


# ---- Configuration: coffer.json --------------------------------------------------------------------------------------

CONFIG_MAX = 1 << 20
TAIL = re.compile(rb'"mac": "([0-9a-f]{64})"\n\}\n')
OUTER = {"format", "vault", "cipher", "name_max", "counter", "ring", "slots", "mac"}

def is_number(value, low, high):
    return type(value) is int and low <= value <= high

def is_text(value, pattern):
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None

def decoded(members, name, size=None):
    """A member's bytes, from base64url."""
    raw = unbase64(members[name].encode()) if is_text(members.get(name), r"[A-Za-z0-9_-]+") else None
    require(raw is not None and size in (None, len(raw)), f"coffer.json has no right {name}")
    return raw

def parse_config(data):
    """coffer.json, within its bounds; nothing in it is verified yet."""
    require(len(data) <= CONFIG_MAX, "coffer.json is larger than 1 MiB")
    first = re.match(rb'\s*\{\s*"format"\s*:\s*([0-9]{1,16})\s*[,}]', data)
    require(not first or int(first[1]) <= 1, "the vault is of a newer format than can be read here")
    tail = TAIL.fullmatch(data[-(8 + 64 + 4):])
    require(tail, "coffer.json does not end as it has to: it is cut, or was changed")

    def members(pairs):
        require(len(dict(pairs)) == len(pairs), "coffer.json has a member twice")
        return dict(pairs)

    def number(text):
        require(text.isdigit() and len(text) <= 16 and int(text) <= 1 << 53, "coffer.json has a number out of bounds")
        return int(text)

    try:                                                                     # fractions and exponents get the text "."
        config = json.loads(data.decode("utf-8"), object_pairs_hook=members, parse_int=number,
                            parse_float=lambda _: number("."), parse_constant=lambda _: number("."))
    except (ValueError, RecursionError) as error:
        raise VaultError(f"coffer.json cannot be read: {error}") from None
    require(isinstance(config, dict) and set(config) == OUTER, "coffer.json has not the members that it has to")
    require(list(config)[0] == "format" and list(config)[-1] == "mac", "coffer.json has its members in another order")
    require(is_number(config["format"], 1, 1) and config["mac"] == tail[1].decode(), "coffer.json has no right format")
    require(is_text(config["vault"], r"[0-9a-fA-F]{32}"), "coffer.json has no vault id")
    require(config["cipher"] in ("aes-256-gcm", "chacha20-poly1305"), "coffer.json has an unknown cipher")
    require(is_number(config["name_max"], 64, 255), "coffer.json has a wrong name_max")
    require(is_number(config["counter"], 1, 1 << 53), "coffer.json has a wrong counter")
    slots = config["slots"]
    require(isinstance(slots, list) and 1 <= len(slots) <= 64, "coffer.json has a wrong number of slots")
    work = {}                                                                # by what one unlocking may try
    for slot in slots:
        check_slot(slot)
        if slot.get("kdf") == "argon2id13" and slot["type"] in KDFS:
            work[slot["type"]] = work.get(slot["type"], 0) + slot["opslimit"] * slot["memlimit"]
    require(all(each <= 1 << 38 for each in work.values()), "coffer.json asks for too much work by Argon2id")
    require(len({slot["id"] for slot in slots}) == len(slots), "coffer.json has two slots with one id")
    return config

KDFS = {"passphrase": ["argon2id13"], "keyfile": ["argon2id13", "blake2b"]}
MEMBERS = {"passphrase": {"salt": 16}, "keyfile": {"salt": 16}, "recovery": {"salt": 16}, "shares": {"salt": 16},
           "recipient": {"recipient": 1216, "encapsulated": 1120}}          # by type: what base64url, of how many bytes

def check_slot(slot):
    """A slot's form, and what its type asks for ("Slots"). Slots of other types are kept as they are."""
    require(isinstance(slot, dict) and all(type(value) in (str, int) for value in slot.values())
            and isinstance(slot.get("type"), str) and is_text(slot.get("id"), r"[0-9a-fA-F]{16}")
            and is_text(slot.get("mac"), r"[0-9a-f]{64}"), "coffer.json has a slot that is none")
    if slot["type"] not in MEMBERS:
        return
    renewed = {"renewal": 1216, "renewed": 1120} if "renewed" in slot else {}
    for name, size in {"wrap": 88, **MEMBERS[slot["type"]], **renewed}.items():
        decoded(slot, name, size)
    require(slot.get("kdf") in KDFS.get(slot["type"], [slot.get("kdf")]), "coffer.json has a slot with an unknown kdf")
    if slot.get("kdf") == "argon2id13" and slot["type"] in KDFS:
        check_argon2id(slot.get("opslimit"), slot.get("memlimit"))
    if slot["type"] == "recipient":
        require(slot.get("kem") == "x-wing", "coffer.json has a slot with an unknown kem")
    if slot["type"] == "shares":
        require(is_text(slot.get("set"), r"[0-9a-f]{6}") and is_number(slot.get("threshold"), 2, 255)
                and is_number(slot.get("count"), slot["threshold"], 255), "coffer.json has a wrong slot for shares")

def canonical(slot, without):
    out = b""
    for name, value in sorted((n.encode(), str(v).encode()) for n, v in slot.items() if n not in without):
        out += struct.pack("<I", len(name)) + name + struct.pack("<I", len(value)) + value
    return out

def unwrap(key, label, ad, wrap):
    """What was wrapped as n, c, t under a key and a label, or None if the key is another."""
    k = blake2b(512, key, label)
    n, c, t = wrap[:24], wrap[24:-32], wrap[-32:]
    return xchacha20(k[:32], n, c) if same(blake2b(256, k[32:], ad + n + c), t) else None

def unlock(config, given):
    """The ring key R, by the first slot that what was given opens."""
    problems = ""
    for slot in config["slots"]:
        try:
            for key in slot_keys(slot, given):
                if "renewed" in slot and slot["type"] != "recipient":
                    key = renewed_key(slot, key)
                ring_key = key and unwrap(key, b"coffer.slot.wrap", canonical(slot, ("name", "mac", "wrap")),
                                          decoded(slot, "wrap", 88))
                if ring_key:
                    return ring_key
        except VaultError as error:                                          # another slot may open all the same
            problems += f"; slot {slot['id']}: {error}"
    raise VaultError("nothing that was given opens the vault" + problems)

def open_config(data, given):
    """coffer.json and the ring, verified in the order that the format asks for."""
    config = parse_config(data)
    keys = unwrap(unlock(config, given), b"coffer.ring.wrap", bytes.fromhex(config["vault"]), decoded(config, "ring"))
    require(keys and len(keys) % 33 == 0, "the ring in coffer.json does not verify")
    epochs = [keys[at] for at in range(0, len(keys), 33)]
    require(epochs == sorted(set(epochs)), "the ring in coffer.json has its epochs in another order")
    ring = Ring({keys[at]: keys[at + 1:at + 33] for at in range(0, len(keys), 33)})
    c = ring.key(ring.epochs[0], CONFIG)
    mac = blake2b(256, c, b"coffer.config.mac" + data[:-(64 + 4)]).hex()
    require(same(mac, config["mac"]), "coffer.json was changed: its mac does not verify")
    for slot in config["slots"]:
        mac = blake2b(256, c, b"coffer.slot.mac" + canonical(slot, ("mac",))).hex()
        require(same(mac, slot["mac"]), f"coffer.json was changed: the mac of slot {slot['id']} does not verify")
    return config, ring


# ---- Slots -----------------------------------------------------------------------------------------------------------

SECRET = 22                                                                  # bytes of a recovery code or shared secret

def check_argon2id(opslimit, memlimit):
    require(is_number(opslimit, 1, 64) and is_number(memlimit, 8 << 20, 4 << 30), "Argon2id's limits are out of bounds")

def argon2id(password, salt, opslimit, memlimit):
    check_argon2id(opslimit, memlimit)
    try:
        return sodium.crypto_pwhash_alg(32, password, salt, opslimit, memlimit, sodium.crypto_pwhash_ALG_ARGON2ID13)
    except (nacl.exceptions.RuntimeError, MemoryError):
        raise VaultError(f"Argon2id needs {memlimit >> 20} MiB of memory, which could not be had") from None

def passphrase_forms(typed):
    """What a passphrase is tried as: if it is UTF-8 in normalization form C, then as it was typed."""
    try:
        normal = unicodedata.normalize("NFC", typed.decode("utf-8")).encode("utf-8")
    except UnicodeDecodeError:
        normal = typed
    return [normal] if normal == typed else [normal, typed]

def times(a, b, polynomial, degree):
    """The product in GF(2^degree)."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a, b = a << 1 ^ (polynomial if a >> degree - 1 else 0), b >> 1
    return product

CROCKFORD = {**{c: i for i, c in enumerate("0123456789ABCDEFGHJKMNPQRSTVWXYZ")}, "O": 0, "I": 1, "L": 1}

def parse_code(text, version, groups):
    """What a recovery code or a share says after its version, as bytes from the most significant bit on."""
    digits = "".join(text.upper().split()).replace("-", "")
    require(len(digits) == 5 * groups and all(c in CROCKFORD for c in digits),
            f"a code has {groups} groups of 5 digits and letters, without U")
    number = 0
    for group in range(groups):
        *values, check = (CROCKFORD[c] for c in digits[5 * group:5 * group + 5])
        expected = group + 1
        for power, value in zip((4, 3, 2, 1), values):
            number = number << 5 | value
            expected ^= times(value, 1 << power, 0b100101, 5)
        require(check == expected, f"the code is mistyped in group {group + 1}, {digits[5 * group:5 * group + 5]}")
    bits = 20 * groups - 4
    require(number >> bits == version, "the code is one for something else, or of a newer version")
    return (number & (1 << bits) - 1).to_bytes(bits // 8, "big")

def combine_shares(texts):
    """The secrets that shares give back, by their set and threshold: f(0), by Lagrange's formula."""
    sets, secrets = {}, {}
    for text in texts:
        piece = parse_code(text, 2, 11)
        x, threshold, name = piece[0], piece[1], piece[2:5].hex()
        require(x >= 1 and threshold >= 2, "a share has a number or a threshold out of bounds")
        known = sets.setdefault((name, threshold), {}).setdefault(x, piece[5:])
        require(known == piece[5:], f"two shares with the number {x} of set {name} are not the same")
    for (name, threshold), pieces in sets.items():
        require(len(pieces) >= threshold, f"set {name} needs {threshold} shares, and there are {len(pieces)}")
        points, secret = sorted(pieces.items())[:threshold], bytes(SECRET)
        for x, piece in points:
            weight = 1
            for other in (other for other, _ in points if other != x):       # other / (other - x); a^254 is 1 / a
                for factor in [other] + 254 * [other ^ x]:
                    weight = times(weight, factor, 0x11D, 8)
            secret = bytes(s ^ times(p, weight, 0x11D, 8) for s, p in zip(secret, piece))
        secrets[name, threshold] = secret
    return secrets

class XWing:
    """X-Wing's private key from its seed (draft-connolly-cfrg-xwing-kem)."""

    def __init__(self, seed):
        expanded = hashlib.shake_256(seed).digest(96)
        try:
            from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
            self.lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
            self.curve, self.point = x25519.X25519PrivateKey.from_private_bytes(expanded[64:]), x25519.X25519PublicKey
        except Exception as error:                                           # not in this version or its OpenSSL
            raise VaultError(f"ML-KEM-768, which is needed, is not in this version of cryptography: {error}") from None
        self.public = self.lattice.public_key().public_bytes_raw() + self.curve.public_key().public_bytes_raw()

    def decapsulate(self, encapsulated):
        try:
            shared = self.lattice.decapsulate(encapsulated[:1088])
            point = self.curve.exchange(self.point.from_public_bytes(encapsulated[1088:]))
        except ValueError as error:
            raise VaultError(f"the encapsulated key is none: {error}") from None
        return hashlib.sha3_256(shared + point + encapsulated[1088:] + self.public[1184:] + b"\\.//^\\").digest()

def parse_identity(text, ask):
    """The private key in an identity file; `ask()` gives the passphrase if it is locked."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(b"#")]
    kind, *parts = (lines[0] if len(lines) == 1 else b"").split(b":")
    if kind == b"COFFER-IDENTITY-1" and len(parts) == 1:
        raw = unbase64(parts[0]) or b""
        key = XWing(raw[:32]) if len(raw) == 36 else None
        require(key and key.public[-4:] == raw[32:], "the identity is mistyped or damaged")
        return key
    require(kind == b"COFFER-LOCKED-IDENTITY-1" and len(parts) == 5 and all(re.fullmatch(rb"[0-9]{1,16}", part)
            for part in parts[:2]), "the file holds no identity that can be read here")
    opslimit, memlimit = map(int, parts[:2])
    salt, public, wrap = (unbase64(part) or b"" for part in parts[2:])
    require((len(salt), len(public), len(wrap)) == (16, 1216, 88), "the locked identity is damaged")
    for passphrase in passphrase_forms(ask()):
        seed = unwrap(argon2id(passphrase, salt, opslimit, memlimit), b"coffer.identity.wrap", public, wrap)
        if seed:
            return XWing(seed)
    raise VaultError("the passphrase does not open the identity")

def slot_keys(slot, given):
    """The key-encryption keys K to try for a slot, one by one, for each may take a second."""
    secret = given.get(slot["type"])
    if secret is None or slot["type"] not in MEMBERS:
        return
    salt, encapsulated, public = (decoded(slot, name) if name in slot else b"" for name in
                                  ("salt", "encapsulated", "recipient"))
    if slot["type"] == "passphrase":
        for form in passphrase_forms(secret):
            yield argon2id(form, salt, slot["opslimit"], slot["memlimit"])
    elif slot["type"] == "keyfile":
        digest = blake2b(256, b"", secret)
        yield (argon2id(digest, salt, slot["opslimit"], slot["memlimit"]) if slot["kdf"] == "argon2id13" else
               blake2b(256, digest, b"coffer.slot.keyfile" + salt))
    elif slot["type"] == "recovery":
        yield blake2b(256, secret + bytes(10), b"coffer.slot.recovery" + salt)
    elif slot["type"] == "shares" and (slot["set"], slot["threshold"]) in secret:
        yield blake2b(256, secret[slot["set"], slot["threshold"]] + bytes(10), b"coffer.slot.shares" + salt)
    elif slot["type"] == "recipient" and public == secret.public:
        yield blake2b(256, secret.decapsulate(encapsulated), b"coffer.slot.recipient" + encapsulated + public)

def renewed_key(slot, key):
    """"Renewing a slot without its secret": what stands in the place of K; None if K is another."""
    pair = XWing(blake2b(256, key, b"coffer.slot.renewal"))
    public, encapsulated = decoded(slot, "renewal", 1216), decoded(slot, "renewed", 1120)
    if pair.public != public:
        return None
    return blake2b(256, pair.decapsulate(encapsulated), b"coffer.slot.renewed" + encapsulated + public)


# ---- The tree --------------------------------------------------------------------------------------------------------

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
         stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}

@dataclass
class Entry:
    """Something in the vault. It is found by its directory's descriptor: stored names are several times as long as
    names, and the paths of a deep tree would be too long for the system."""
    fd: int                                                                  # the directory that it is in
    stored: bytes                                                            # its name there
    path: tuple                                                              # of names, from the root
    status: os.stat_result
    place: bytes                                                             # the id that a directory derives here

    @property
    def kind(self):
        return KINDS[stat.S_IFMT(self.status.st_mode)]

    def open(self):
        """A descriptor for a file or directory, safe from what may be put in its place meanwhile."""
        fd = os.open(self.stored, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=self.fd)
        if stat.S_IFMT(os.fstat(fd).st_mode) != stat.S_IFMT(self.status.st_mode):
            os.close(fd)
            raise VaultError("it was exchanged while it was read")
        return fd

def read_small(fd, name, limit):
    """All of a file of Coffer's own in the directory `fd`; None if it is not there."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=fd)
    except FileNotFoundError:
        return None
    with open(file, "rb") as stream:
        data = stream.read(limit + 1)
    require(len(data) <= limit, f"{show(name)} is too large")
    return data

class Vault:
    def __init__(self, directory, config, ring):
        self.config, self.ring, self.failed = config, ring, False
        self.directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def problem(self, path, problem):
        self.failed = True
        problem = problem.strerror or problem if isinstance(problem, OSError) else problem
        print(f"coffer_decode: {show(b'/'.join(path)) or '/'}: {problem}", file=sys.stderr)

    def root(self):
        place = directory_id(bytes.fromhex(self.config["vault"]))
        return Entry(self.directory, b".", (), os.fstat(self.directory), place)

    def entries(self, fd, directory):
        """A directory's entries in the order of their names, and problems, for what does not verify."""
        problems, found = [], {}
        try:
            data = read_small(fd, b"coffer.dir", 8 + RECORD * RECORDS_MAX)
            pins, _, closed = open_records(self.ring, directory.place, data) if data is not None else ([], False, False)
        except (VaultError, OSError) as error:                               # what verifies without pins is still right
            problems.append((directory.path, error))
            pins, closed = [], False
        ids = pins if pins and closed else pins + [directory.place]
        candidates = []
        for stored, sealed in sealed_names(sorted(os.fsencode(name) for name in os.listdir(fd))):
            names = ((rank, identity, open_name(self.ring, identity, sealed)) for rank, identity in enumerate(ids))
            rank, identity, name = next((each for each in names if each[2]), (0, None, None))
            if name:
                candidates.append((rank, stored, identity, name))
            else:
                problems.append((directory.path + (stored,), "the name does not verify in this directory" if sealed else
                                 "the pieces of the long name do not fit together"))
        for rank, stored, identity, name in sorted(candidates):              # in the order of the ids that it accepts
            path = directory.path + (name,)
            try:
                require(name not in found, f"there is another one of this name: {show(stored)} is left out")
                found[name] = Entry(fd, stored, path,
                                    os.stat(stored, dir_fd=fd, follow_symlinks=False), directory_id(identity, name))
            except (VaultError, OSError) as error:
                problems.append((path, error))
        return [found[name] for name in sorted(found)], problems

    def resolve(self, path):
        """The entry at a path in plain text. The directories on the way stay open."""
        entry = self.root()
        for name in filter(None, path.split(b"/")):
            require(entry.kind == "directory", f"{show(b'/'.join(entry.path))} is not a directory")
            found, problems = self.entries(entry.open(), entry)
            following = [each for each in found if each.path[-1] == name]
            if not following:
                for where, problem in problems:
                    self.problem(where, problem)
                raise VaultError(f"{show(b'/'.join(entry.path + (name,)))} is not there")
            entry = following[0]
        return entry

    def target(self, entry):
        """A symlink's target."""
        text = os.fsencode(os.readlink(entry.stored, dir_fd=entry.fd))
        return open_link(self.ring, text, lambda name: read_small(entry.fd, name, LINK_MAX))

    def attributes(self, entry, fd, owner):
        """The extended attributes of an entry, which `fd` is open for if it is a file or directory."""
        where, prefix = fd, b"user.coffer."
        if fd is None:
            where, prefix = beside(entry.fd, entry.stored), b"trusted.coffer."
        try:
            stored_names = os.listxattr(where, follow_symlinks=fd is not None)
        except (OSError, AttributeError) as error:                           # not on this file system, or this system
            if getattr(error, "errno", errno.ENOTSUP) != errno.ENOTSUP:
                self.problem(entry.path, error)
            return
        for stored_name in map(os.fsencode, stored_names):
            def value():
                return os.getxattr(where, stored_name, follow_symlinks=fd is not None)
            try:
                if stored_name.startswith(b"system.posix_acl_"):             # system.* are the backing's own
                    yield stored_name, value()
                elif opened := open_attribute(self.ring, prefix, owner, stored_name, value):
                    yield opened
            except (VaultError, OSError) as error:
                self.problem(entry.path, error)

    def mode(self, entry):
        mode = stat.S_IMODE(entry.status.st_mode)
        return mode if entry.kind == "directory" else mode & ~(stat.S_ISUID | stat.S_ISGID)

    def link_key(self, entry):
        """What the names of one file or symlink have in common; None where there is only one name."""
        return (entry.status.st_dev, entry.status.st_ino) if entry.status.st_nlink > 1 else None

def beside(fd, name):
    """A path for what has no descriptor, such as a symlink: the calls for attributes take no directory's."""
    return b"/proc/self/fd/%d/%s" % (fd, name)


# ---- Commands --------------------------------------------------------------------------------------------------------

def show(raw):
    """Bytes or text with escapes for all that a terminal or a line could be upset by."""
    text = raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else raw
    return "".join(f"\\x{ord(c) - 0xdc00:02x}" if "\udc80" <= c <= "\udcff" else "\\\\" if c == "\\" else
                   c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)

def note(entry, text):
    print(f"coffer_decode: note: {show(b'/'.join(entry.path))}: {text}", file=sys.stderr)

def show_info(config, ring):
    for name in ("vault", "cipher", "name_max", "counter"):
        print(f"{name:9} {config[name]}")
    for epoch in sorted(ring.epochs) if ring else ():
        print(f"epoch     {epoch}, fingerprint {blake2b(128, ring.key(epoch, CONFIG), b'coffer.fingerprint').hex()}")
    for slot in config["slots"]:
        rest = (f", {show(name)} {show(str(value)) or '-'}" for name, value in slot.items() if name not in
                ("type", "id", "mac", "wrap", "salt", "recipient", "encapsulated", "renewal", "renewed"))
        print(f"slot      {slot['id']}: {show(slot['type'])}{''.join(rest)}{', renewed' if 'renewed' in slot else ''}")

def for_each(vault, directory, work):
    """Calls `work` with each entry of a directory, and tells what does not verify."""
    fd = None
    try:
        fd = directory.open()
        entries, problems = vault.entries(fd, directory)
    except (VaultError, OSError) as error:
        entries, problems = [], [(directory.path, error)]
    for where, problem in problems:
        vault.problem(where, problem)
    for entry in entries:
        work(entry)
    if fd is not None:
        os.close(fd)

def list_entry(vault, entry, as_json):
    """A line for an entry, and for all that is below it."""
    line = {"type": entry.kind, "size": 0, "path": os.fsdecode(b"/".join(entry.path)), "mode": vault.mode(entry),
            "mtime_ns": entry.status.st_mtime_ns}
    try:
        if entry.kind == "file":
            line["size"] = plain_size(entry.status.st_size)
        elif entry.kind == "symlink":
            target = vault.target(entry)
            line.update(size=len(target), target=os.fsdecode(target))
    except (VaultError, OSError) as error:
        return vault.problem(entry.path, error)
    if entry.path:
        print(json.dumps(line) if as_json else f"{entry.kind:9} {line['size']:15} {show(line['path'])}"
              + (f" -> {show(line['target'])}" if "target" in line else ""))
    if entry.kind == "directory":
        for_each(vault, entry, lambda each: list_entry(vault, each, as_json))

def cat(vault, entry, out):
    require(entry.kind == "file", f"{show(b'/'.join(entry.path)) or '/'} is a {entry.kind}")
    try:
        for _, length, plain in read_contents(vault.ring, entry.open()):
            for at in range(0, length, 1 << 20) if plain is None else ():
                out.write(bytes(min(1 << 20, length - at)))
            out.write(plain or b"")
    except BrokenPipeError:
        raise
    except (VaultError, OSError) as error:
        vault.problem(entry.path, error)

class Extraction:
    """Writes under one directory only: by the descriptors of the directories that it has made, under names that are
    single components, never through a symlink, and never over what is there."""

    def __init__(self, vault, destination):
        self.vault, self.made = vault, {}                                    # by link key: where the first name is
        try:
            os.mkdir(destination, 0o700)
        except FileExistsError:
            pass
        self.root = os.open(destination, os.O_RDONLY | os.O_DIRECTORY)
        require(not os.listdir(self.root), "the destination is not empty")

    def extract(self, entry, to, path):
        """Makes an entry in the directory `to`, at `path` under the destination."""
        try:
            if entry.kind == "directory":
                os.mkdir(path[-1], 0o700, dir_fd=to)
                fd = os.open(path[-1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=to)
                try:
                    self.fill(entry, fd, path)
                finally:
                    os.close(fd)
            elif entry.kind == "file":
                self.file(entry, to, path)
            elif entry.kind == "device":
                note(entry, "a device node is left out")
            elif not self.link(self.vault.link_key(entry), to, path):
                self.special(entry, to, path[-1])
        except (VaultError, OSError, ValueError) as error:
            self.vault.problem(entry.path, error)

    def fill(self, entry, to, path):
        """Makes what is in a directory, and then gives it its mode, which may not allow that, and its times."""
        for_each(self.vault, entry, lambda each: self.extract(each, to, path + each.path[-1:]))
        source = entry.open()
        try:
            self.finish(entry, source, bytes(16), to)
        finally:
            os.close(source)

    def finish(self, entry, source, owner, made):
        """Gives a file or directory its attributes, mode and times, where the destination allows."""
        self.attributes(entry, source, owner, made)
        try:
            os.fchmod(made, self.vault.mode(entry))
            os.utime(made, ns=(entry.status.st_atime_ns, entry.status.st_mtime_ns))
        except OSError as error:
            note(entry, f"its mode or times are not set: {error.strerror}")

    def attributes(self, entry, source, owner, made):
        for name, value in self.vault.attributes(entry, source, owner):
            try:
                os.setxattr(made, name, value, follow_symlinks=source is not None)
            except (OSError, ValueError) as error:
                note(entry, f"the attribute {show(name)} is left out: {error}")

    def special(self, entry, to, name):
        if entry.kind == "symlink":
            os.symlink(self.vault.target(entry), name, dir_fd=to)
        else:
            os.mknod(name, stat.S_IFMT(entry.status.st_mode) | 0o600, dir_fd=to)
            os.chmod(name, self.vault.mode(entry), dir_fd=to)
        self.attributes(entry, None, bytes(16), beside(to, name))
        os.utime(name, ns=(entry.status.st_atime_ns, entry.status.st_mtime_ns), dir_fd=to, follow_symlinks=False)

    def file(self, entry, to, path):
        source = entry.open()
        partial = b".coffer-decode-" + os.urandom(8).hex().encode()          # until all of it is there
        try:
            file_id = open_header(self.vault.ring, os.pread(source, HEADER, 0))[0]
            if self.link(self.vault.link_key(entry), to, path):
                return
            made = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=to)
            with open(made, "wb") as out:
                try:
                    for offset, length, plain in read_contents(self.vault.ring, source):
                        if plain is not None:
                            out.seek(offset)
                            out.write(plain)
                    out.truncate(plain_size(os.fstat(source).st_size))
                    self.finish(entry, source, file_id, out.fileno())
                    self.check_absent(path[-1], to)
                    os.rename(partial, path[-1], src_dir_fd=to, dst_dir_fd=to)
                except BaseException:
                    os.unlink(partial, dir_fd=to)
                    raise
        finally:
            os.close(source)

    def check_absent(self, name, to):
        """Where the file system takes two names for one, as by their case, no file is to be lost to another."""
        try:
            os.stat(name, dir_fd=to, follow_symlinks=False)
        except FileNotFoundError:
            return
        raise VaultError("the destination takes its name for another one's")

    def link(self, key, to, path):
        """Whether this was made as one more name of something that is there. Where it cannot be, it is made anew."""
        if key in self.made:
            try:
                os.link(b"/".join(self.made[key]), path[-1], src_dir_fd=self.root, dst_dir_fd=to, follow_symlinks=False)
                return True
            except OSError:
                pass
        if key:
            self.made[key] = path
        return False


# ---- The command line ------------------------------------------------------------------------------------------------

def read_secret(path, limit=64 << 20):
    with (open(0, "rb", closefd=False) if path == "-" else open(path, "rb")) as stream:
        data = stream.read(limit + 1)
    require(len(data) <= limit, f"{path} is too large for a secret")
    return data

def gather_secrets(options):
    """What was given, by the type of the slots that it may open."""
    given = {}

    def code(path):
        return read_secret(path, 1 << 16).decode("utf-8", "replace")

    def passphrase():
        if not options.passphrase_file:
            return os.fsencode(getpass.getpass("Passphrase: "))
        return read_secret(options.passphrase_file).partition(b"\n")[0]      # whose CR, if it has one, belongs to it

    if options.identity:
        given["recipient"] = parse_identity(read_secret(options.identity), passphrase)
    if options.key_file:
        given["keyfile"] = read_secret(options.key_file)
    if options.recovery_code_file:
        given["recovery"] = parse_code(code(options.recovery_code_file), 1, 9)
    if options.share_file:
        given["shares"] = combine_shares(map(code, options.share_file))
    if not given or options.passphrase_file and not options.identity:
        given["passphrase"] = passphrase()
    return given

def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("passphrase", "key", "recovery-code"):
        parser.add_argument(f"--{name}-file", metavar="FILE")
    parser.add_argument("--identity", metavar="FILE")
    parser.add_argument("--share-file", metavar="FILE", action="append")
    parser.add_argument("--config", metavar="FILE", help="read this in the place of VAULT/coffer.json")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("info", "list", "cat", "extract"):
        command = commands.add_parser(name)
        command.add_argument("vault", type=os.fsencode)
        if name == "list":
            command.add_argument("--json", action="store_true", help="a JSON object a line")
        if name == "extract":
            command.add_argument("dest", type=os.fsencode)
        if name != "info":
            command.add_argument("path", type=os.fsencode, **({} if name == "cat" else {"nargs": "?", "default": b""}))
    return parser.parse_args()

def allow_depth():
    """A verified tree may be deep, and each level takes some calls and two descriptors. This is not for before: the
    JSON of a hostile coffer.json could nest so deep that the parser overflows its stack."""
    sys.setrecursionlimit(20_000)
    try:
        import resource
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, OSError, ValueError):
        pass

def run(options):
    check_xchacha20()
    with open(options.config or os.path.join(options.vault, b"coffer.json"), "rb") as stream:
        data = stream.read(CONFIG_MAX + 1)
    secret = any((options.passphrase_file, options.key_file, options.recovery_code_file, options.identity,
                  options.share_file))
    if options.command == "info" and not secret:
        show_info(parse_config(data), None)
        print("coffer_decode: note: without a secret, nothing of this is verified", file=sys.stderr)
        return 0
    config, ring = open_config(data, gather_secrets(options))
    if options.command == "info":
        show_info(config, ring)
        return 0
    allow_depth()
    vault = Vault(options.vault, config, ring)
    entry = vault.resolve(options.path)
    if options.command == "list":
        list_entry(vault, entry, options.json)
    elif options.command == "cat":
        cat(vault, entry, sys.stdout.buffer)
    else:
        extraction = Extraction(vault, options.dest)
        if entry.kind == "directory":
            extraction.fill(entry, extraction.root, ())
        else:
            extraction.extract(entry, extraction.root, entry.path[-1:])
    sys.stdout.flush()
    return 1 if vault.failed else 0

def main():
    options = parse_arguments()
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.stderr.reconfigure(errors="backslashreplace")
    try:
        return run(options)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except (EOFError, KeyboardInterrupt):
        print("coffer_decode: broken off", file=sys.stderr)
    except VaultError as error:
        print(f"coffer_decode: {error}", file=sys.stderr)
    except OSError as error:
        where = show(os.fsencode(error.filename)) + ": " if isinstance(error.filename, (str, bytes)) else ""
        print(f"coffer_decode: {where}{error.strerror}", file=sys.stderr)
    return 1

if __name__ == "__main__":
    sys.exit(main())
