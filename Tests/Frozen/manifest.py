#!/usr/bin/env python3
"""Writes down what is in a directory, or compares it with what was written down: manifest.py DIRECTORY [MANIFEST]."""

import base64
import hashlib
import json
import os
import stat
import sys


def entries(top):
    """What can be told of every entry wherever it was copied to: no owners, no inode numbers, no directories' sizes."""
    result, names = {}, {}
    for directory, directories, files in os.walk(os.fsencode(top)):
        directories.sort()
        for name in directories + files:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            key = base64.b64encode(os.path.relpath(path, os.fsencode(top))).decode()
            entry = {"type": stat.S_IFMT(status.st_mode) >> 12, "mtime": status.st_mtime_ns}
            if not stat.S_ISLNK(status.st_mode):
                # Set-id bits of files are not brought back by everybody.
                entry["mode"] = stat.S_IMODE(status.st_mode) & ~(0 if stat.S_ISDIR(status.st_mode) else 0o6000)
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as stream:
                    entry["size"], entry["sha256"] = status.st_size, hashlib.sha256(stream.read()).hexdigest()
                names.setdefault((status.st_dev, status.st_ino), []).append(key)
            if stat.S_ISLNK(status.st_mode):
                entry["target"] = base64.b64encode(os.readlink(path)).decode()
            else:
                attributes = {each: os.getxattr(path, each, follow_symlinks=False).hex()
                              for each in os.listxattr(path, follow_symlinks=False) if each.startswith("user.")}
                if attributes:
                    entry["attributes"] = dict(sorted(attributes.items()))
            result[key] = entry
    for group in names.values():
        if len(group) > 1:
            for key in group:
                result[key]["same_as"] = sorted(group)
    return dict(sorted(result.items()))


def main():
    found = entries(sys.argv[1])
    if len(sys.argv) == 2:
        print(json.dumps(found, indent=1))
        return 0
    with open(sys.argv[2]) as stream:
        expected = json.load(stream)
    for key in sorted(set(found) | set(expected)):
        if found.get(key) != expected.get(key):
            print(f"{base64.b64decode(key)!r}: {found.get(key)} is not {expected.get(key)}")
    return 0 if found == expected else 1


if __name__ == "__main__":
    sys.exit(main())
