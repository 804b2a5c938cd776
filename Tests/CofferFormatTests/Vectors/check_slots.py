#!/usr/bin/env python3
"""Opens slots.json, one coffer.json with a slot of every kind, with each of its secrets, by an implementation that shares no code with the one that is tested.

Written from the format document alone, with PyNaCl and `cryptography`. With --write, makes the file anew.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

sys.path.insert(0, str(Path(__file__).parent))
from check_config import blake2b, canonical, decode, encode, ring_keys, slot_key, subkey, unwrap, wrap  # noqa: E402

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def times_a(value):
    """In GF(32) with x^5 = x^2 + 1."""
    value <<= 1
    return value ^ 0b100101 if value & 32 else value


def code_text(secret):
    """The recovery code of 22 bytes: version 1, then the secret, in 9 groups of 20 bits."""
    return group_text(f"{1:04b}" + "".join(f"{byte:08b}" for byte in secret))


def code_secret(text):
    groups = text.split("-")
    bits = ""
    for number, group in enumerate(groups):
        digits = [ALPHABET.index(letter) for letter in group]
        check = 0
        for digit in digits[:4]:
            check = times_a(check ^ digit)
        if check ^ (number + 1) != digits[4]:
            raise ValueError(f"group {number + 1}")
        bits += "".join(f"{digit:05b}" for digit in digits[:4])
    if len(groups) != 9 or bits[:4] != "0001":
        raise ValueError("no recovery code")
    return int(bits[4:], 2).to_bytes(22, "big")


def gf256(a, b):
    """The product in GF(256) with a^8 = a^4 + a^3 + a^2 + 1."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 256:
            a ^= 0x11D
        b >>= 1
    return product


def gf256_inverse(a):
    power = 1
    for _ in range(254):
        power = gf256(power, a)
    return power


def split(secret, threshold, count):
    """Pieces with the numbers 1 to count."""
    polynomials = [[byte] + list(os.urandom(threshold - 1)) for byte in secret]
    pieces = {}
    for number in range(1, count + 1):
        piece = []
        for polynomial in polynomials:
            value = 0
            for coefficient in reversed(polynomial):
                value = gf256(value, number) ^ coefficient
            piece.append(value)
        pieces[number] = bytes(piece)
    return pieces


def join(pieces):
    """The polynomials at 0, by Lagrange."""
    secret = bytearray(22)
    for number, piece in pieces.items():
        weight = 1
        for other in pieces:
            if other != number:
                weight = gf256(weight, gf256(other, gf256_inverse(other ^ number)))
        for index, byte in enumerate(piece):
            secret[index] ^= gf256(weight, byte)
    return bytes(secret)


def group_text(bits):
    groups = []
    for number in range(len(bits) // 20):
        digits = [int(bits[number * 20 + 5 * i:number * 20 + 5 * i + 5], 2) for i in range(4)]
        check = 0
        for digit in digits:
            check = times_a(check ^ digit)
        groups.append("".join(ALPHABET[d] for d in digits + [check ^ (number + 1)]))
    return "-".join(groups)


def piece_text(number, threshold, group, piece):
    return group_text(f"{2:04b}{number:08b}{threshold:08b}" + "".join(f"{byte:08b}" for byte in group + piece))


def piece_of(text):
    """Number, threshold, set and bytes of a piece."""
    bits = "".join(f"{ALPHABET.index(letter):05b}" for group in text.split("-") for letter in group[:4])
    if group_text(bits) != text or len(bits) != 220 or bits[:4] != "0010":
        raise ValueError("no piece")
    data = int(bits[4:], 2).to_bytes(27, "big")
    return data[0], data[1], data[2:5], data[5:]


def xwing_keys(seed):
    expanded = hashlib.shake_256(seed).digest(96)
    return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])


def xwing_public(seed):
    kem, curve = xwing_keys(seed)
    return kem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()


def xwing_combine(kem_secret, curve_secret, curve_sent, curve_public):
    return hashlib.sha3_256(kem_secret + curve_secret + curve_sent + curve_public + b"\\.//^\\").digest()


def xwing_encapsulate(public):
    shared, sent = MLKEM768PublicKey.from_public_bytes(public[:1184]).encapsulate()
    ephemeral = X25519PrivateKey.generate()
    curve_secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(public[1184:]))
    curve_sent = ephemeral.public_key().public_bytes_raw()
    return sent + curve_sent, xwing_combine(shared, curve_secret, curve_sent, public[1184:])


def xwing_decapsulate(sent, seed):
    kem, curve = xwing_keys(seed)
    curve_secret = curve.exchange(X25519PublicKey.from_public_bytes(sent[1088:]))
    return xwing_combine(
        kem.decapsulate(sent[:1088]), curve_secret, sent[1088:], curve.public_key().public_bytes_raw())


def wrap_key(slot, key):
    """What a slot is wrapped under: the key that its secret yields, or one that it finds."""
    if "renewed" not in slot:
        return key
    sent, public = decode(slot["renewed"]), decode(slot["renewal"])
    seed = blake2b(key, b"coffer.slot.renewal", 32)
    if xwing_public(seed) != public:
        raise ValueError("the public key is not the secret's")
    return blake2b(xwing_decapsulate(sent, seed), b"coffer.slot.renewed" + sent + public, 32)


def key_of(slot, secrets):
    """The key-encryption key that a slot's secret yields."""
    kind = slot["type"]
    if kind == "passphrase":
        return slot_key(slot, secrets["passphrase_normalized"].encode())
    if kind == "keyfile":
        digest = blake2b(b"", bytes.fromhex(secrets["keyfile_" + slot["label"]]), 32)
        if slot["kdf"] == "blake2b":
            return blake2b(digest, b"coffer.slot.keyfile" + decode(slot["salt"]), 32)
        return slot_key(slot, digest)
    if kind == "recovery":
        secret = code_secret(secrets["recovery"]) + bytes(10)
        return blake2b(secret, b"coffer.slot.recovery" + decode(slot["salt"]), 32)
    if kind == "shares":
        found = {}
        for text in secrets["shares"].split("\n"):
            number, threshold, group, piece = piece_of(text)
            if group.hex() != slot["set"] or threshold != slot["threshold"]:
                raise ValueError("a piece of something else")
            found[number] = piece
        return blake2b(join(found) + bytes(10), b"coffer.slot.shares" + decode(slot["salt"]), 32)
    if kind == "recipient" and slot["kem"] == "x-wing":
        sent, public = decode(slot["encapsulated"]), decode(slot["recipient"])
        shared = xwing_decapsulate(sent, bytes.fromhex(secrets["identity"]))
        return blake2b(shared, b"coffer.slot.recipient" + sent + public, 32)
    raise ValueError(kind)


def text_of(config):
    lines = []
    for name, value in config.items():
        if name == "slots":
            slots = ["    {\n" + ",\n".join(f"      {json.dumps(n, ensure_ascii=False)}: {json.dumps(v, ensure_ascii=False)}"
                                           for n, v in slot.items()) + "\n    }" for slot in value]
            lines.append('  "slots": [\n' + ",\n".join(slots) + "\n  ]")
        else:
            lines.append(f"  {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + ',\n  "mac": "'


def write(path):
    seed, ring_key, vault_key, vault_id = os.urandom(32), os.urandom(32), os.urandom(32), os.urandom(16)
    secrets = {
        # As typed on a machine that takes letters apart, and what counts.
        "passphrase": "Ka\u0308se und Weißbrot", "passphrase_normalized": "K\u00e4se und Weißbrot",
        "keyfile_strong": os.urandom(32).hex(), "keyfile_renewed": os.urandom(32).hex(),
        "keyfile_typed": b"correct horse battery staple\n".hex(),
        "recovery": code_text(os.urandom(22)), "identity": seed.hex(),
    }
    group, pieces = os.urandom(3), split(os.urandom(22), 3, 5)
    # Any three, in any order.
    secrets["shares"] = "\n".join(piece_text(number, 3, group, pieces[number]) for number in (4, 1, 5))
    public = xwing_public(seed)
    sent, _ = xwing_encapsulate(public)
    argon = {"kdf": "argon2id13", "opslimit": 1, "memlimit": 8 << 20}
    kinds = [
        ("passphrase", "", dict(argon, salt=encode(os.urandom(16)))),
        ("keyfile", "strong", {"kdf": "blake2b", "salt": encode(os.urandom(16))}),
        ("keyfile", "typed", dict(argon, salt=encode(os.urandom(16)))),
        ("recovery", "", {"salt": encode(os.urandom(16))}),
        ("shares", "", {"set": group.hex(), "threshold": 3, "count": 5, "salt": encode(os.urandom(16))}),
        # Given another ring key by somebody who did not have the secret.
        ("keyfile", "renewed", {"kdf": "blake2b", "salt": encode(os.urandom(16)), "renewed": ""}),
        ("recipient", "", {"kem": "x-wing", "recipient": encode(public), "encapsulated": encode(sent)}),
    ]
    config_key = subkey(vault_key, 10)
    slots = []
    for kind, label, members in kinds:
        slot = {"type": kind, "id": os.urandom(8).hex(), "label": label, "created": "2026-01-31T12:00:00Z", **members}
        key = key_of(slot, secrets)
        if kind != "recipient":
            slot["renewal"] = encode(xwing_public(blake2b(key, b"coffer.slot.renewal", 32)))
        if "renewed" in slot:
            renewed, shared = xwing_encapsulate(decode(slot["renewal"]))
            slot["renewed"] = encode(renewed)
            key = blake2b(shared, b"coffer.slot.renewed" + renewed + decode(slot["renewal"]), 32)
        associated = canonical(slot, {"name", "mac", "wrap"})
        slot["wrap"] = encode(wrap(key, b"coffer.slot.wrap", associated, ring_key, os.urandom(24)))
        if kind == "recovery":
            # Given later, by somebody who had not the code at hand.
            slot["name"] = "in the safe"
        slot["mac"] = blake2b(config_key, b"coffer.slot.mac" + canonical(slot, {"mac"}), 32).hex()
        slots.append(slot)
    ring = wrap(ring_key, b"coffer.ring.wrap", vault_id, b"\0" + vault_key, os.urandom(24))
    head = text_of({
        "format": 1, "vault": vault_id.hex(), "cipher": "aes-256-gcm", "name_max": 255, "counter": 5,
        "ring": encode(ring), "slots": slots})
    text = head + blake2b(config_key, b"coffer.config.mac" + head.encode(), 32).hex() + '"\n}\n'
    recipient = public + blake2b(b"", b"coffer.recipient.check" + public, 16)[:4]
    vector = {
        "text": text, "secrets": secrets, "ring_key": ring_key.hex(), "vault_key": vault_key.hex(),
        "recipient": "coffer-recipient-1:" + encode(recipient),
        "recipient_fingerprint": blake2b(b"", b"coffer.recipient.fingerprint" + public, 16)[:8].hex(),
    }
    path.write_text(json.dumps(vector, indent=1, ensure_ascii=False) + "\n")


def main():
    path = Path(__file__).with_name("slots.json")
    if sys.argv[1:] == ["--write"]:
        write(path)
    vector = json.loads(path.read_text())
    config = json.loads(vector["text"])
    for slot in config["slots"]:
        ring_key = unwrap(
            wrap_key(slot, key_of(slot, vector["secrets"])), b"coffer.slot.wrap", canonical(slot, {"name", "mac", "wrap"}),
            decode(slot["wrap"]))
        keys = ring_keys(unwrap(ring_key, b"coffer.ring.wrap", bytes.fromhex(config["vault"]), decode(config["ring"])))
        if ring_key.hex() != vector["ring_key"] or keys != {0: bytes.fromhex(vector["vault_key"])}:
            raise SystemExit(f"slot {slot['id']}, {slot['type']}, holds another key")
    public = xwing_public(bytes.fromhex(vector["secrets"]["identity"]))
    if decode(vector["recipient"].removeprefix("coffer-recipient-1:"))[:1216] != public:
        raise SystemExit("the recipient is not the identity's public half")
    print(f"slots.json: {len(config['slots'])} slots open")


if __name__ == "__main__":
    main()
