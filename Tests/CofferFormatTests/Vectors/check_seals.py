#!/usr/bin/env python3
"""Checks seals.json, what seals are made of, by an implementation that shares no code with the one that is tested.

Written from the format document alone, with PyNaCl. With --write, makes the file anew.
"""

import json
import struct
import sys
from pathlib import Path

import nacl.bindings

sys.path.insert(0, str(Path(__file__).parent))
from check_config import blake2b, encode, subkey  # noqa: E402

PART = 1 << 20
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def h(message):
    return blake2b(b"", message, 32)


def contents(data):
    parts = b"".join(h(data[start:start + PART]) for start in range(0, len(data), PART))
    return h(b"coffer.seal.file" + struct.pack("<Q", len(data)) + parts)


def attributes(pairs):
    return h(b"".join(struct.pack("<H", len(name)) + name + struct.pack("<I", len(value)) + value
                      for name, value in sorted(pairs)))


def stored(number, blocks=2):
    """A name of the form that an entry's has."""
    return "c" + encode(bytes([number]) * 16 * blocks)


def record(entry):
    name = entry["name_text"].encode()
    flags = (1 if entry.get("attributes") else 0) | (2 if entry.get("unsure") else 0) | (4 if entry.get("damaged") else 0)
    kind = {"directory": 1, "file": 2, "link": 3, "other": 4}[entry["kind"]]
    raw = bytes([kind, flags]) + struct.pack("<H", len(name)) + name
    raw += struct.pack("<IIIq", entry["mode"], entry["owner"], entry["group"], entry["time"])
    raw += bytes.fromhex(entry.get("attributes") or "")
    if kind == 2:
        raw += struct.pack("<Q", entry["size"]) + bytes.fromhex(entry["contents"])
    if kind == 3:
        raw += struct.pack("<H", len(entry["text"])) + entry["text"].encode()
    if kind == 4:
        raw += struct.pack("<Q", entry["device"])
    return raw


def directory(entries):
    """The manifest of what is in a directory, with its end, and its hash."""
    manifest, hashed, count, size = b"", b"coffer.seal.directory", 0, 0
    for entry in sorted(entries, key=lambda entry: entry["name_text"].encode()):
        raw = record(entry)
        manifest += raw
        hashed += raw
        count += 1
        size += entry.get("size", 0)
        if entry["kind"] == "directory":
            inner, inner_hash, inner_count, inner_size = directory(entry["inside"])
            manifest += inner
            hashed += inner_hash
            count += inner_count
            size += inner_size
    return manifest + b"\0", h(hashed), count, size


def anchor(counter, root):
    number = (0 << 136) | (counter << 96) | int.from_bytes(root[:12], "big")
    groups = [number >> (20 * (6 - index)) & 0xFFFFF for index in range(7)]
    text = []
    for index, value in enumerate(groups):
        digits = [value >> shift & 31 for shift in (15, 10, 5, 0)]
        check = 0
        for digit in digits:
            check = times_a(check ^ digit)
        check ^= (index + 1) & 31
        text.append("".join(ALPHABET[digit] for digit in digits + [check]))
    return "-".join(text)


def times_a(value):
    value <<= 1
    return value if value < 32 else (value ^ 0b100101) & 31


def vector():
    key = bytes(range(32))
    public, secret = nacl.bindings.crypto_sign_seed_keypair(blake2b(subkey(key, 12), b"coffer.seal.sign", 32))
    common = {"owner": 1000, "group": 100}
    some = attributes([(b"user.coffer.b", b"2"), (b"user.coffer.a", b""), (b"system.posix_acl_access", bytes(12))]).hex()
    tree = [
        {"name_text": "coffer.json", "kind": "file", "mode": 0o100600, "time": 1_700_000_000_123_456_789, "size": 3,
         "contents": contents(b"abc").hex(), **common},
        {"name_text": stored(2), "kind": "directory", "mode": 0o40755, "time": 0, "attributes": some, **common, "inside": [
            {"name_text": stored(3, 17), "kind": "link", "mode": 0o120777, "time": -5, "text": "target", **common},
            {"name_text": stored(1), "kind": "directory", "mode": 0o40700, "time": 0, "inside": [], **common}]},
        {"name_text": "coffer.long." + encode(bytes(16)), "kind": "other", "mode": 0o020644, "time": 7, "device": 0x0103, **common},
        {"name_text": stored(255), "kind": "file", "mode": 0o104755, "time": 1, "size": PART + 1, "unsure": True, "damaged": True,
         "contents": bytes(32).hex(), "attributes": some, **common}]
    root = {"name_text": "", "kind": "directory", "mode": 0o40700, "time": 0, **common}
    inner, inner_hash, count, size = directory(tree)
    manifest = record(root) + inner
    root_hash = h(b"coffer.seal.root" + record(root) + inner_hash)
    head = b"COFRSEAL" + struct.pack("<IIQq", 1, 0, 0x1_0000_0005, 1_700_000_001_000_000_007) + bytes(range(50, 66))
    head += h(b"previous") + root_hash + struct.pack("<QQQ", count, size, len(manifest)) + public
    signed = head + nacl.bindings.crypto_sign(head, secret)[:64]
    blocks = bytes(range(256)) * (PART // 256)
    samples = [(0, b""), (1, b"\x01"), (PART, blocks), (PART + 1, blocks + b"\x02"), (3 * PART, bytes(3 * PART))]
    return {
        "vault_keys": {"7": key.hex()}, "vault_id": bytes(range(50, 66)).hex(), "root": root, "tree": tree,
        "manifest": manifest.hex(), "root_hash": root_hash.hex(), "head": signed.hex(), "head_hash": h(signed).hex(),
        "counter": 0x1_0000_0005, "time": 1_700_000_001_000_000_007, "previous": h(b"previous").hex(),
        "entries": count, "bytes": size, "anchor_text": anchor(0x1_0000_0005, root_hash),
        "contents": [{"size": length, "hash": contents(data).hex()} for length, data in samples]}


def main():
    path = Path(__file__).with_name("seals.json")
    if sys.argv[1:] == ["--write"]:
        path.write_text(json.dumps(vector(), indent=1) + "\n")
    found = json.loads(path.read_text())
    if found != vector():
        raise SystemExit("seals.json is not what the format document says")
    print(f"seals.json: a seal of {found['entries']} entries, {len(found['contents'])} contents")


if __name__ == "__main__":
    main()
