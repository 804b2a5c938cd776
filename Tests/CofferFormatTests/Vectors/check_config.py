#!/usr/bin/env python3
"""Checks config.json against the format document, independently of the Swift code.

Written from Format.md alone. Needs PyNaCl, for Argon2id; everything else is here or in the standard library.

    python3 check_config.py [config.json]
"""

import base64
import hashlib
import hmac
import json
import re
import struct
import sys
from pathlib import Path

import nacl.bindings


def rotate(value, count):
    return ((value << count) | (value >> (32 - count))) & 0xFFFFFFFF


def rounds(state):
    """The twenty rounds of ChaCha20, without the final addition."""
    x = list(state)

    def quarter(a, b, c, d):
        x[a] = (x[a] + x[b]) & 0xFFFFFFFF
        x[d] = rotate(x[d] ^ x[a], 16)
        x[c] = (x[c] + x[d]) & 0xFFFFFFFF
        x[b] = rotate(x[b] ^ x[c], 12)
        x[a] = (x[a] + x[b]) & 0xFFFFFFFF
        x[d] = rotate(x[d] ^ x[a], 8)
        x[c] = (x[c] + x[d]) & 0xFFFFFFFF
        x[b] = rotate(x[b] ^ x[c], 7)

    for _ in range(10):
        for column in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
            quarter(*column)
        for diagonal in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(*diagonal)
    return x


CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")


def xchacha20(key, nonce, data):
    """XChaCha20 with the counter at 0: HChaCha20 over nonce[:16], then ChaCha20 with nonce[16:]."""
    state = CONSTANTS + struct.unpack("<8I", key) + struct.unpack("<4I", nonce[:16])
    mixed = rounds(state)
    subkey = tuple(mixed[:4] + mixed[12:])
    output = bytearray()
    for counter in range((len(data) + 63) // 64):
        state = CONSTANTS + subkey + (counter, 0) + struct.unpack("<2I", nonce[16:])
        block = [(a + b) & 0xFFFFFFFF for a, b in zip(rounds(state), state)]
        output += struct.pack("<16I", *block)
    return bytes(a ^ b for a, b in zip(data, output))


def blake2b(key, message, size):
    return hashlib.blake2b(message, key=key, digest_size=size).digest()


def subkey(vault_key, number):
    return hashlib.blake2b(
        b"", key=vault_key, digest_size=32, salt=struct.pack("<Q", number) + bytes(8), person=b"CofferV1" + bytes(8)
    ).digest()


def decode(text):
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text):
        raise ValueError("not base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode(data) != text:
        raise ValueError("not canonical base64url")
    return data


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def wrap(key, label, associated, secret, nonce):
    both = blake2b(key, label, 64)
    body = nonce + xchacha20(both[:32], nonce, secret)
    return body + blake2b(both[32:], associated + body, 32)


def unwrap(key, label, associated, blob):
    both = blake2b(key, label, 64)
    body, tag = blob[:-32], blob[-32:]
    if not hmac.compare_digest(tag, blake2b(both[32:], associated + body, 32)):
        raise ValueError("wrap does not open")
    return xchacha20(both[:32], body[:24], body[24:])


def canonical(slot, without):
    result = b""
    for name in sorted((name for name in slot if name not in without), key=lambda name: name.encode()):
        for part in (name.encode(), str(slot[name]).encode()):
            result += struct.pack("<I", len(part)) + part
    return result


def slot_key(slot, passphrase):
    if slot["kdf"] != "argon2id13" or not 1 <= slot["opslimit"] <= 64 or not 8 << 20 <= slot["memlimit"] <= 4 << 30:
        raise ValueError("key derivation out of bounds")
    return nacl.bindings.crypto_pwhash_alg(
        32, passphrase, decode(slot["salt"]), slot["opslimit"], slot["memlimit"],
        nacl.bindings.crypto_pwhash_ALG_ARGON2ID13)


def ring_keys(plaintext):
    entries = [plaintext[start : start + 33] for start in range(0, len(plaintext), 33)]
    epochs = [entry[0] for entry in entries]
    if epochs != sorted(set(epochs)) or len(entries[-1]) != 33:
        raise ValueError("ring out of order")
    return {entry[0]: entry[1:] for entry in entries}


def no_duplicates(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a member twice")
    return dict(pairs)


def check(expected, name, actual):
    actual = actual.hex() if isinstance(actual, bytes) else actual
    if expected != actual:
        raise SystemExit(f"{name}: expected {expected}, got {actual}")


def open_config(text, passphrase):
    """Opens a configuration as the document says and gives every value on the way."""
    raw = text.encode()
    tail = re.search(rb'"mac": "([0-9a-f]{64})"\n}\n\Z', raw)
    if tail is None:
        raise ValueError("no tail")
    config = json.loads(raw, object_pairs_hook=no_duplicates)
    if next(iter(config)) != "format" or config["format"] != 1:
        raise ValueError("another format")
    if set(config) != {"format", "vault", "cipher", "name_max", "counter", "ring", "slots", "mac"}:
        raise ValueError("other members")
    vault_id = bytes.fromhex(config["vault"])
    for slot in config["slots"]:
        if slot["type"] != "passphrase":
            continue
        key = slot_key(slot, passphrase)
        try:
            ring_key = unwrap(key, b"coffer.slot.wrap", canonical(slot, {"mac", "wrap"}), decode(slot["wrap"]))
            break
        except ValueError:
            continue
    else:
        raise ValueError("wrong passphrase")
    keys = ring_keys(unwrap(ring_key, b"coffer.ring.wrap", vault_id, decode(config["ring"])))
    config_key = subkey(keys[max(keys)], 10)
    mac = blake2b(config_key, b"coffer.config.mac" + raw[: tail.start(1)], 32)
    if mac.hex().encode() != tail.group(1):
        raise ValueError("the file's mac does not match")
    for other in config["slots"]:
        if blake2b(config_key, b"coffer.slot.mac" + canonical(other, {"mac"}), 32).hex() != other["mac"]:
            raise ValueError("a slot's mac does not match")
    return slot, key, ring_key, keys, config_key, mac


def main():
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("config.json")
    vector = json.loads(path.read_text())
    passphrase = vector["passphrase"].encode()
    slot, key, ring_key, keys, config_key, mac = open_config(vector["text"], passphrase)
    check(vector["slot_key"], "slot key", key)
    check(vector["slot_canonical"], "slot, canonical without mac", canonical(slot, {"mac"}))
    check(vector["slot_canonical_unwrapped"], "slot, canonical without mac and wrap", canonical(slot, {"mac", "wrap"}))
    check(vector["ring_key"], "ring key", ring_key)
    check(vector["vault_keys"], "vault keys", {str(epoch): key.hex() for epoch, key in keys.items()})
    check(vector["config_key"], "configuration key", config_key)
    check(vector["mac"], "the file's mac", mac)
    fingerprints = {
        str(epoch): blake2b(subkey(key, 10), b"coffer.fingerprint", 16).hex() for epoch, key in keys.items()
    }
    check(vector["fingerprints"], "fingerprints", fingerprints)
    for text in vector["refused"]:
        try:
            open_config(text["text"], passphrase)
        except (ValueError, KeyError, TypeError):
            continue
        raise SystemExit(f"opened though {text['why']}")
    print(f"config.json: 8 values and {len(vector['refused'])} refusals agree")


if __name__ == "__main__":
    main()
