#!/usr/bin/env python3
"""Checks rotation.json, what a rotation leaves to be done and what seals are signed with, by an implementation that shares no code with the one that is tested.

Written from the format document alone, with PyNaCl. With --write, makes the file anew.
"""

import json
import sys
from pathlib import Path

import nacl.bindings

sys.path.insert(0, str(Path(__file__).parent))
from check_config import blake2b, decode, encode, subkey  # noqa: E402

SIGN = b"coffer.seal.sign"
CHECK = b"coffer.seal.check"


def text_of(paths):
    return b"".join(b"".join(name.encode() + b"\0" for name in path) + b"\0" for path in paths)


def sealed(vault_key, epoch, kind, nonce, text):
    key = subkey(vault_key, 11)
    body = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(text, b"coffer.rotation" + bytes([kind]), nonce, key)
    return bytes([kind, epoch]) + nonce + body


def seal_key(vault_key):
    public, _ = nacl.bindings.crypto_sign_seed_keypair(blake2b(subkey(vault_key, 12), SIGN, 32))
    return "coffer-seal-1:" + encode(public + blake2b(b"", CHECK + public, 16)[:4])


def vector():
    key, nonce = bytes(range(32)), bytes(range(100, 124))
    header = b"COFR\1\1\6\0" + bytes(range(24))
    paths = [["cAAAA", "coffer.long.BBBB"], ["cCCCC"]]
    heads = {1: header, 2: (0o500).to_bytes(4, "little"), 3: (0x123456789A).to_bytes(8, "little")}
    records = []
    for kind, head in heads.items():
        own = paths if kind != 2 else paths[:1]
        records.append({
            "kind": kind, "head": head.hex(), "paths_text": own,
            "sealed": sealed(key, 7, kind, nonce, head + text_of(own)).hex()})
    records.append({
        "kind": 2, "head": (0o711).to_bytes(4, "little").hex(), "paths_text": [[]],
        "sealed": sealed(key, 7, 2, nonce, (0o711).to_bytes(4, "little") + text_of([[]])).hex()})
    bad = [
        ("a name that is two dots", 2, text_of([[".."]])), ("a slash", 2, text_of([["a/b"]])), ("no end", 2, b"a\0"),
        ("two directories", 2, text_of([["a"], ["b"]])), ("a kind that is none", 9, text_of([["a"]])), ("nothing", 1, b"")]
    invalid = [
        {"why_text": why, "sealed": sealed(key, 7, kind, nonce, (b"" if not text else bytes(4)) + text).hex()}
        for why, kind, text in bad]
    return {"vault_keys": {"7": key.hex()}, "nonce": nonce.hex(), "records": records, "invalid": invalid,
            "seal_key_text": seal_key(key)}


def main():
    path = Path(__file__).with_name("rotation.json")
    if sys.argv[1:] == ["--write"]:
        path.write_text(json.dumps(vector(), indent=1) + "\n")
    found = json.loads(path.read_text())
    if found != vector():
        raise SystemExit("rotation.json is not what the format document says")
    if len(decode(found["seal_key_text"].split(":")[1])) != 36:
        raise SystemExit("a seal's public key is 36 bytes with its check")
    print(f"rotation.json: {len(found['records'])} records and a key")


if __name__ == "__main__":
    main()
