#!/usr/bin/env python3
"""Whether what the processes say is read whole: a line of which only a part can be seen yet must be missed by neither the look before it nor the one after."""
import json
import os
import tempfile

import model


def main():
    with tempfile.TemporaryDirectory() as directory:
        said = [json.dumps(words).encode() + b"\n" for words in
                ({"o": "mkdir", "d": 0, "in": None, "name": "d", "n": 1}, {"done": 1},
                 {"o": "unlink", "f": 7, "in": 0, "name": "x" * 255, "last": True, "n": 2}, {"done": 2})]
        everything = b"".join(said)
        path = os.path.join(directory, "0")
        for seen in range(len(everything) + 1):
            state = model.State(directory, 1)
            with open(path, "wb") as file:
                file.write(everything[:seen])
            before = state.positions()[0]
            with open(path, "ab") as file:
                file.write(everything[seen:])
            after = state.positions()[0]
            first, second = list(state.words(0, 0, before)), list(state.words(0, before, after))
            assert first + second == [json.loads(line) for line in said], f"{seen} bytes seen: {first}, then {second}"
    print(f"{len(everything) + 1} places to look at, none of which loses a word")


main()
