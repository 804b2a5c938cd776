#!/usr/bin/env python3
"""Writes the test vectors of the vault format, version 1, as JSON files beside this script.

Written from the format document alone, with hashlib's BLAKE2b and the `cryptography` package: it shares no code with the
implementation that is tested. Byte strings are hexadecimal unless the member's name ends in `_text`. Running it again
writes the same bytes. config.json has a generator of its own.
"""

import base64
import hashlib
import json
import pathlib
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

HERE = pathlib.Path(__file__).parent


def fixed(label, count):
    """Bytes that look random and are the same each time."""
    return hashlib.shake_256(("coffer vectors: " + label).encode()).digest(count)


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# Primitives


def blake2b(data, count, key=b""):
    return hashlib.blake2b(data, digest_size=count, key=key).digest()


def subkey(vault_key, number):
    return hashlib.blake2b(
        b"", digest_size=32, key=vault_key, salt=struct.pack("<Q", number) + bytes(8), person=b"CofferV1" + bytes(8)
    ).digest()


def hchacha20(key, nonce):
    state = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce)]

    def rotate(value, count):
        return ((value << count) | (value >> (32 - count))) & 0xFFFFFFFF

    def quarter(a, b, c, d):
        state[a] = (state[a] + state[b]) & 0xFFFFFFFF
        state[d] = rotate(state[d] ^ state[a], 16)
        state[c] = (state[c] + state[d]) & 0xFFFFFFFF
        state[b] = rotate(state[b] ^ state[c], 12)
        state[a] = (state[a] + state[b]) & 0xFFFFFFFF
        state[d] = rotate(state[d] ^ state[a], 8)
        state[c] = (state[c] + state[d]) & 0xFFFFFFFF
        state[b] = rotate(state[b] ^ state[c], 7)

    for _ in range(10):
        quarter(0, 4, 8, 12)
        quarter(1, 5, 9, 13)
        quarter(2, 6, 10, 14)
        quarter(3, 7, 11, 15)
        quarter(0, 5, 10, 15)
        quarter(1, 6, 11, 12)
        quarter(2, 7, 8, 13)
        quarter(3, 4, 9, 14)
    return struct.pack("<8I", *state[:4], *state[12:])


def xchacha20(key, nonce, data):
    cipher = Cipher(algorithms.ChaCha20(hchacha20(key, nonce[:16]), bytes(8) + nonce[16:]), mode=None)
    return cipher.encryptor().update(data)


def xchacha20poly1305(key, nonce, associated, data):
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])).encrypt(bytes(4) + nonce[16:], data, associated)


def siv(mac_key, encryption_key, associated, data):
    assert len(associated) == 16
    tag = blake2b(associated + data, 16, mac_key)
    return tag + xchacha20(encryption_key, tag + bytes(8), data)


# The draft's own example of HChaCha20 (draft-irtf-cfrg-xchacha-03, section 2.2.1).
assert (
    hchacha20(bytes(range(32)), bytes.fromhex("000000090000004a0000000031415927")).hex()
    == "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
)

VAULT_KEYS = {0: fixed("vault key 0", 32), 3: fixed("vault key 3", 32)}


def flip(data, position):
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def hexed(value):
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, dict):
        return {key: hexed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hexed(item) for item in value]
    return value


def write(name, value):
    (HERE / name).write_text(json.dumps(hexed(value), indent=1) + "\n")


# Files


def keys():
    names = [
        "contents", "names, MAC", "names, encryption", "directory records, MAC", "directory records, encryption", "symlinks",
        "xattr names, MAC", "xattr names, encryption", "xattr values", "configuration", "intent log", "seals",
    ]
    rings = [bytes(32), VAULT_KEYS[0], VAULT_KEYS[3]]
    return [
        {
            "vault_key": key,
            "subkeys": [
                {"id": number, "purpose_text": name, "key": subkey(key, number)} for number, name in enumerate(names, 1)
            ],
        }
        for key in rings
    ]


def header_bytes(cipher, epoch, file_id, salt):
    return b"COFR" + bytes([1, cipher, epoch, 0]) + file_id + salt


def headers():
    valid = []
    for cipher in (1, 2):
        for epoch, vault_key in VAULT_KEYS.items():
            file_id, salt = fixed(f"file id {cipher} {epoch}", 16), fixed(f"salt {cipher} {epoch}", 8)
            raw = header_bytes(cipher, epoch, file_id, salt)
            valid.append(
                {
                    "vault_key": vault_key, "cipher": cipher, "epoch": epoch, "file_id": file_id, "salt": salt,
                    "header": raw, "file_key": blake2b(raw, 32, subkey(vault_key, 1)),
                }
            )
    good = header_bytes(1, 0, bytes(16), bytes(8))
    invalid = [
        {"header": b"", "error_text": "malformed"},
        {"header": good[:31], "error_text": "malformed"},
        {"header": good + b"\0", "error_text": "malformed"},
        {"header": b"COFD" + good[4:], "error_text": "malformed"},
        {"header": bytes(32), "error_text": "malformed"},
        {"header": good[:4] + b"\0" + good[5:], "error_text": "unsupported"},
        {"header": good[:4] + b"\2" + good[5:], "error_text": "unsupported"},
        {"header": good[:5] + b"\0" + good[6:], "error_text": "unsupported"},
        {"header": good[:5] + b"\3" + good[6:], "error_text": "unsupported"},
        {"header": good[:7] + b"\1" + good[8:], "error_text": "unsupported"},
        {"header": good[:7] + b"\x80" + good[8:], "error_text": "unsupported"},
    ]
    return {"valid": valid, "invalid": invalid}


def seal_block(cipher, key, index, info, nonce, plaintext):
    aead = {1: AESGCM, 2: ChaCha20Poly1305}[cipher](key)
    info_bytes = struct.pack("<I", info)
    return nonce + info_bytes + aead.encrypt(nonce, plaintext, struct.pack("<Q", index) + info_bytes)


def blocks():
    valid, invalid = [], []
    cases = [
        (0, True, False, 0, 0), (0, True, False, 0, 1), (0, False, False, 0, 4096), (1, True, False, 0, 100),
        (2, True, True, 0, 4095), (9, False, False, 8, 4096), (300, True, False, 299, 17),
        (2**40 + 5, True, False, 2**30 - 1, 64),
    ]
    for cipher in (1, 2):
        for index, final, reconstructed, gap, count in cases:
            label = f"{cipher} {index} {count}"
            key, nonce, plain = fixed("file key " + label, 32), fixed("nonce " + label, 12), fixed("plain " + label, count)
            info = final << 31 | reconstructed << 30 | gap
            stored = seal_block(cipher, key, index, info, nonce, plain)
            valid.append(
                {
                    "cipher": cipher, "key": key, "index": index, "final": final, "reconstructed": reconstructed, "gap": gap,
                    "nonce": nonce, "plaintext": plain, "block": stored,
                }
            )
            if count > 100:
                continue

            def bad(why, stored=stored, index=index, cipher=cipher, key=key):
                invalid.append({"why_text": why, "cipher": cipher, "key": key, "index": index, "block": stored})

            bad("the next block's number", index=index + 1)
            bad("another key", key=flip(key, 31))
            bad("the other cipher", cipher=3 - cipher)
            bad("a nonce changed", flip(stored, 0))
            bad("a gap changed", flip(stored, 12))
            bad("the final mark changed", stored[:15] + bytes([stored[15] ^ 0x80]) + stored[16:])
            bad("the reconstructed mark changed", stored[:15] + bytes([stored[15] ^ 0x40]) + stored[16:])
            bad("the tag changed", flip(stored, len(stored) - 1))
            bad("zeros", bytes(len(stored)))
            if count:
                bad("the ciphertext changed", flip(stored, 16))
                bad("cut by a byte", stored[:-1])
    return {"valid": valid, "invalid": invalid}


# Names and directories


def pad(name):
    return name + b"\x80" + bytes(-(len(name) + 1) % 16)


def encode_name(vault_key, directory, name, limit):
    sealed = siv(subkey(vault_key, 2), subkey(vault_key, 3), directory, pad(name))
    stored = "c" + base64url(sealed)
    if len(stored) <= limit:
        return sealed, stored, []
    entry = "coffer.long." + base64url(sealed[:16])
    text = base64url(sealed[16:])
    room = limit - 38
    pieces = [text[start : start + room] for start in range(0, len(text), room)]
    return sealed, entry, [f"{entry}.{number:02}.{piece}" for number, piece in enumerate(pieces)]


def names():
    directory = fixed("directory id", 16)
    plain = [
        b"a", b"hello.txt", b"fifteen bytes..", b"sixteen bytes...", b"seventeen bytes..", "Größe 零.odt".encode(), b"\xff\xfe \n",
        b"-rf", b".hidden", b"...", b"ends in the mark\x80", b"n" * 31, b"n" * 32, b"x" * 63, b"x" * 79, b"x" * 80, b"y" * 159,
        b"y" * 160, b"z" * 254, b"z" * 255, bytes(b for b in range(1, 256) if b != 0x2F),
    ]
    valid = []
    for epoch, vault_key in VAULT_KEYS.items():
        for limit in (255, 143, 64):
            for name in plain:
                sealed, entry, companions = encode_name(vault_key, directory, name, limit)
                valid.append(
                    {
                        "epoch": epoch, "limit": limit, "name": name, "sealed": sealed, "entry_text": entry,
                        "companions_text": companions,
                    }
                )
    vault_key = VAULT_KEYS[0]
    good = siv(subkey(vault_key, 2), subkey(vault_key, 3), directory, pad(b"hello.txt"))

    def sealed(padded):
        return siv(subkey(vault_key, 2), subkey(vault_key, 3), directory, padded)

    invalid = [
        {"why_text": "a tag changed", "sealed": flip(good, 0)},
        {"why_text": "a ciphertext changed", "sealed": flip(good, 31)},
        {"why_text": "another directory", "sealed": encode_name(vault_key, bytes(16), b"hello.txt", 255)[0]},
        {"why_text": "another key", "sealed": encode_name(bytes(32), directory, b"hello.txt", 255)[0]},
        {"why_text": "keys exchanged", "sealed": siv(subkey(vault_key, 3), subkey(vault_key, 2), directory, pad(b"hello.txt"))},
        {"why_text": "no padding", "sealed": sealed(b"sixteen bytes...")},
        {"why_text": "all padding", "sealed": sealed(pad(b""))},
        {"why_text": "a block of padding too much", "sealed": sealed(pad(b"hello.txt") + bytes(16))},
        {"why_text": "padding that is not zeros", "sealed": sealed(b"hello\x80" + b"\1" * 10)},
        {"why_text": "zeros", "sealed": sealed(bytes(16))},
        {"why_text": "a dot", "sealed": sealed(pad(b"."))},
        {"why_text": "two dots", "sealed": sealed(pad(b".."))},
        {"why_text": "a slash", "sealed": sealed(pad(b"a/b"))},
        {"why_text": "a NUL", "sealed": sealed(pad(b"a\0b"))},
        {"why_text": "256 bytes", "sealed": sealed(pad(b"n" * 256))},
        {"why_text": "not a multiple of 16", "sealed": sealed(b"hello\x80")},
        {"why_text": "a tag alone", "sealed": sealed(b"")},
    ]
    short = encode_name(vault_key, directory, b"hello.txt", 255)[1]
    _, entry, companions = encode_name(vault_key, directory, b"z" * 255, 255)
    foreign = [
        "", "c", "README", "b" + short[1:], short + "A", short[:-1], short + "=", short[:10] + "+" + short[11:], "C" + short[1:],
        ".git", ".c", "...", "desktop.ini", "c" + base64url(bytes(16)), "c" + base64url(bytes(31)), "c" + base64url(bytes(33)),
        "c" + base64url(bytes(288)),
    ]
    reserved = [
        "coffer.json", "coffer.json.previous", "coffer.json.new", "coffer.dir", "coffer.dir.new", "coffer.log", "coffer.seals",
        "coffer.lost+found", "coffer.", "coffer.new.AAAAAAAAAAAAAAAAAAAAAA", "coffer.link.AAAAAAAAAAAAAAAAAAAAAA", "coffer.long.",
        entry[:-1], entry + "A", entry + ".", entry + ".00", entry + ".00.", entry + ".0.A", entry + ".000.A", entry + ".xx.A",
        companions[0] + ".A",
    ]
    return {
        "vault_keys": {str(epoch): key for epoch, key in VAULT_KEYS.items()}, "directory": directory, "valid": valid,
        "invalid": invalid, "foreign_text": foreign, "reserved_text": reserved,
    }


def root_id(vault_id):
    return blake2b(b"coffer.directory" + vault_id, 16)


def child_id(parent, name):
    return blake2b(b"coffer.directory" + parent + name, 16)


def record(vault_key, place, kind, pinned):
    return siv(subkey(vault_key, 4), subkey(vault_key, 5), place, bytes([kind]) + bytes(15) + pinned)


def directories():
    vault_id = fixed("vault id", 16)
    root = root_id(vault_id)
    children = []
    parent = root
    for name in [b"a", b"photos", b"\xff", b"n" * 255, b"photos"]:
        child = child_id(parent, name)
        children.append({"parent": parent, "name": name, "id": child})
        parent = child
    key = VAULT_KEYS[3]
    places = [fixed(f"place {number}", 16) for number in range(3)]
    pins = [fixed(f"pin {number}", 16) for number in range(3)]

    def file(records):
        return b"COFD" + bytes([1, 0]) + struct.pack("<H", len(records)) + b"".join(records)

    files = []
    for identities in [
        [],
        [(places[0], [pins[0]], False, False)],
        [(places[0], [], True, False)],
        [(places[0], [pins[0]], False, True)],
        [(places[0], [pins[0], pins[1]], True, True), (places[1], [pins[2]], False, False), (places[2], [], True, False)],
        [(places[0], [fixed(f"many {number}", 16) for number in range(64)], False, False)],
    ]:
        records = []
        for place, pinned, marked, closed in identities:
            records += [record(key, place, 1, pin) for pin in pinned]
            if marked:
                records.append(record(key, place, 2, bytes(16)))
            if closed:
                records.append(record(key, place, 3, bytes(16)))
        files.append(
            {
                "identities": [
                    {"derived": place, "pins": pinned, "marked": marked, "closed": closed}
                    for place, pinned, marked, closed in identities
                ],
                "file": file(records),
            }
        )
    good = file([record(key, places[0], 1, pins[0])])
    passed_over = [
        {"why_text": "an unknown kind", "file": file([record(key, places[0], 7, pins[0])])},
        {"why_text": "another place", "file": file([record(key, places[1], 1, pins[0])])},
        {"why_text": "another key", "file": file([record(bytes(32), places[0], 1, pins[0])])},
        {"why_text": "a record changed", "file": flip(good, len(good) - 1)},
    ]
    invalid = [
        {"error_text": "malformed", "file": b""},
        {"error_text": "malformed", "file": b"COFR" + good[4:]},
        {"error_text": "malformed", "file": good[:-1]},
        {"error_text": "malformed", "file": good + b"\0"},
        {"error_text": "malformed", "file": good[:6] + b"\2\0" + good[8:]},
        {"error_text": "malformed", "file": good[:6] + b"\1\1" + good[8:]},
        {"error_text": "malformed", "file": file([record(key, places[0], 1, pins[0])] * 65)},
        {"error_text": "unsupported", "file": good[:4] + b"\2" + good[5:]},
        {"error_text": "unsupported", "file": good[:5] + b"\1" + good[6:]},
    ]
    return {
        "vault_id": vault_id, "root": root, "children": children,
        "records": {
            "vault_key": key, "epoch": 3, "place": places[0], "files": files, "passed_over": passed_over, "invalid": invalid,
        },
    }


# Links and attributes


def small_aead(key, epoch, nonce, associated, data):
    return bytes([epoch]) + nonce + xchacha20poly1305(key, nonce, associated, data)


def links():
    label = b"coffer.symlink"
    inline, overflow = [], []
    for epoch, vault_key in VAULT_KEYS.items():
        key = subkey(vault_key, 6)
        for target in [b"a", b"../other/file", "/größe".encode(), b"t" * 255, b"t" * 3000]:
            nonce = fixed(f"link nonce {epoch} {len(target)}", 24)
            sealed = small_aead(key, epoch, nonce, label, target)
            inline.append(
                {"epoch": epoch, "nonce": nonce, "target": target, "sealed": sealed, "link_text": base64url(sealed)}
            )
        for target in [b"t" * 3500, b"/" + b"u" * 4094]:
            nonce, companion = fixed(f"overflow nonce {epoch} {len(target)}", 24), fixed(f"companion {epoch} {len(target)}", 16)
            file_name = "coffer.link." + base64url(companion)
            overflow.append(
                {
                    "epoch": epoch, "nonce": nonce, "companion": companion, "target": target,
                    "link_text": f"{file_name}.{len(target):04}", "file_name_text": file_name,
                    "file": small_aead(key, epoch, nonce, label + companion, target),
                }
            )
    good = inline[0]["sealed"]
    invalid = [
        {"why_text": "nothing", "sealed": b""},
        {"why_text": "an epoch that is not in the ring", "sealed": b"\1" + good[1:]},
        {"why_text": "another epoch of the ring", "sealed": b"\3" + good[1:]},
        {"why_text": "a nonce changed", "sealed": flip(good, 1)},
        {"why_text": "a ciphertext changed", "sealed": flip(good, 25)},
        {"why_text": "a tag changed", "sealed": flip(good, len(good) - 1)},
        {"why_text": "cut", "sealed": good[:-1]},
        {"why_text": "an epoch alone", "sealed": good[:1]},
        {"why_text": "an overflow's file as a link", "sealed": overflow[0]["file"]},
        {
            "why_text": "a key of another purpose",
            "sealed": small_aead(subkey(VAULT_KEYS[0], 9), 0, good[1:25], label, b"a"),
        },
    ]
    text = overflow[0]["link_text"]
    not_overflow = [
        "", text[:-1], text + "0", text[:-1] + "x", text[:-4] + "+123", text[:-4] + "-123", text[:-5] + "00000",
        "coffer.long" + text[11:], text[:20] + "." + text[21:], text[:33] + "_" + text[34:], inline[0]["link_text"],
    ]
    return {
        "vault_keys": {str(epoch): key for epoch, key in VAULT_KEYS.items()}, "inline": inline, "overflow": overflow,
        "invalid": invalid, "not_overflow_text": not_overflow,
    }


def attributes():
    owner, nobody = fixed("owner id", 16), bytes(16)
    valid = []
    cases = [
        (b"user.comment", b"a remark", owner, b"user.coffer."), (b"user.empty", b"", owner, b"user.coffer."),
        (b"security.capability", fixed("capability", 20), owner, b"user.coffer."),
        (b"user.comment", b"a directory's", nobody, b"user.coffer."), (b"trusted.x", b"a link's", nobody, b"trusted.coffer."),
        (b"user." + b"n" * 161, b"the longest short name", owner, b"user.coffer."),
        (b"user." + b"n" * 162, b"the shortest long name", owner, b"user.coffer."),
        (b"user." + b"n" * 159, b"short", nobody, b"trusted.coffer."), (b"user." + b"n" * 160, b"long", nobody, b"trusted.coffer."),
        (b"user." + b"n" * 250, fixed("value", 300), owner, b"user.coffer."), (b"user." + b"n" * 250, b"", owner, b"user.coffer."),
        (b"user.large", fixed("large", 4000), owner, b"user.coffer."),
    ]
    for epoch, vault_key in VAULT_KEYS.items():
        for number, (name, value, whose, prefix) in enumerate(cases):
            nonce = fixed(f"attribute nonce {epoch} {number}", 24)
            sealed = siv(subkey(vault_key, 7), subkey(vault_key, 8), whose, name)
            stored_name = prefix + base64url(sealed).encode()
            plain, bound = value, name
            if len(stored_name) > 255:
                stored_name = prefix + b"long." + base64url(sealed[:16]).encode()
                plain, bound = struct.pack("<H", len(name)) + name + value, sealed[:16]
            valid.append(
                {
                    "epoch": epoch, "owner": whose, "prefix_text": prefix.decode(), "name_text": name.decode(), "value": value,
                    "nonce": nonce, "sealed_name": sealed, "stored_name_text": stored_name.decode(),
                    "stored_value": small_aead(subkey(vault_key, 9), epoch, nonce, whose + bound, plain),
                }
            )
    first = valid[0]
    stored = first["stored_value"]

    def bad(why, **changes):
        return {"why_text": why, "owner": owner, "name_text": "user.comment", "stored_value": stored, **changes}

    long_name = b"user." + b"n" * 250
    long_tag = siv(subkey(VAULT_KEYS[0], 7), subkey(VAULT_KEYS[0], 8), owner, long_name)[:16]

    def long_value(why, plain):
        sealed = small_aead(subkey(VAULT_KEYS[0], 9), 0, fixed("n", 24), owner + long_tag, plain)
        return bad(why, name_text=long_name.decode(), stored_value=sealed)

    invalid = [
        bad("another owner", owner=nobody), bad("another name", name_text="user.commens"), bad("nothing", stored_value=b""),
        bad("an epoch that is not in the ring", stored_value=b"\2" + stored[1:]),
        bad("another epoch of the ring", stored_value=b"\3" + stored[1:]), bad("a nonce changed", stored_value=flip(stored, 5)),
        bad("a tag changed", stored_value=flip(stored, len(stored) - 1)), bad("cut", stored_value=stored[:-1]),
        long_value("a long name's value without the name", b"value"), long_value("an empty value", b""),
        long_value("a name cut short", struct.pack("<H", 255) + b"user."),
        long_value("another name", struct.pack("<H", 255) + b"user." + b"m" * 250 + b"value"),
    ]
    foreign = [
        "", "user.comment", "user.coffer", "user.coffer.", "user.coffer.long.", "user.coffer.AA==", "trusted.other", "security.selinux",
        "system.posix_acl_access", "user.coffer." + base64url(bytes(16)), "user.coffer.long." + base64url(bytes(15)),
        "user.coffer.long." + base64url(bytes(17)), "xuser.coffer." + base64url(bytes(20)),
    ]
    return {
        "vault_keys": {str(epoch): key for epoch, key in VAULT_KEYS.items()}, "valid": valid, "invalid": invalid,
        "foreign_text": foreign,
    }


def geometry():
    def cipher_size(plain):
        if plain == 0:
            return 64
        return 32 + 32 * -(-plain // 4096) + plain

    plain = [0, 1, 2, 4095, 4096, 4097, 8191, 8192, 8193, 10**6, 2**20, 2**31 - 1, 2**31, 2**32 + 1, 2**40, 2**50 + 4095]
    damaged = [0, 1, 31, 32, 33, 63]
    for block in (1, 2, 3, 1000, 2**30):
        damaged += [32 + 4128 * block + extra for extra in (1, 2, 31, 32)]
    return {"sizes": [{"plain": size, "cipher": cipher_size(size)} for size in plain], "damaged": damaged}


write("keys.json", keys())
write("header.json", headers())
write("blocks.json", blocks())
write("names.json", names())
write("directories.json", directories())
write("links.json", links())
write("attributes.json", attributes())
write("geometry.json", geometry())
