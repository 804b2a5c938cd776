"""Runs, what is kept of those that violate something, and runs that are done again."""
import json
import os
import shutil
import time

from choices import chance_of
from commands import copy, run
from place import MAKE, Place
from session import Run
from tree import Violation


def prepare(arguments, base):
    """The file system that clones are made on, and an image with an empty vault."""
    for name in ("outer", "disk", "disk-view", "clone", "clone-view"):
        os.mkdir(os.path.join(base, name))
    with open(os.path.join(base, "key"), "wb") as key:
        key.write(os.urandom(32))
    image = os.path.join(base, "outer.img")
    run("truncate", "-s", "16G", image)
    run("mkfs.xfs", "-q", "-m", "reflink=1", image)
    device = run("losetup", "--find", "--show", image).stdout.strip()
    run("mount", device, os.path.join(base, "outer"))
    template = os.path.join(base, "outer", "template")
    run("truncate", "-s", "512M" if arguments.on == "xfs" else "256M", template)
    run(*MAKE[arguments.on], template)
    place = Place(arguments, base, "disk", template)
    try:
        os.mkdir(place.vault)
        if not arguments.native:
            run(arguments.program, "init", "--key-file", os.path.join(base, "key"), place.vault, env=dict(os.environ, COFFER_STATE_DIR=place.state))
    finally:
        place.close()
    return device, template


def evidence(arguments, base, label, one, cut, start, violation):
    """Keeps what was seen: the clone as the cut left it, what the run began with, the key, and what was done."""
    where = os.path.join(arguments.keep, label)
    shutil.rmtree(where, ignore_errors=True)
    os.makedirs(where)
    second = os.path.join(base, "outer", "second")
    for image, name in ((start, "start.img"), (cut and cut.image, "clone.img"), (cut and second, "second.img")):
        if image and os.path.exists(image):
            run("cp", "--sparse=always", image, os.path.join(where, name))
    for name in ("key", "disk.log", "clone.log"):
        if os.path.exists(os.path.join(base, name)):
            shutil.copy(os.path.join(base, name), where)
    with open(os.path.join(where, "ops"), "w") as file:
        for op in one.ops[:cut.count if cut else None]:
            file.write(json.dumps(op) + "\n")
    with open(os.path.join(where, "violation"), "w") as file:
        file.write(f"{arguments.on} {label}, cut {cut.doing if cut else '(none: while working)'}: {violation}\n")
    return where


def attempt(arguments, base, start, chance, ops=None, label=None, totals=None):
    """One run. Returns what was violated, and the cuts."""
    one, violations = Run(arguments, base, start, chance), []
    log = os.path.join(base, "disk.log")
    if os.path.exists(log):
        os.remove(log)
    try:
        one.work(ops)
    except Violation as violation:
        violations.append((None, violation))
    for cut in one.cuts:
        # A list that once failed is looked at where it did.
        if ops is not None and cut.count < len(one.ops) - arguments.last:
            continue
        try:
            one.look(cut)
        except Violation as violation:
            violations.append((cut, violation))
        if totals is not None:
            totals["cuts"] += 1
            totals["in the middle"] += cut.doing.startswith("in ")
    for number, (cut, violation) in enumerate(violations):
        if totals is not None:
            totals["violations"] += 1
            where = evidence(arguments, base, f"{label}.{number}", one, cut, start, violation) if number < 3 else "(not kept)"
            print(f"VIOLATION {label}, {cut.doing if cut else 'while working'}, {len(one.ops)} steps: {violation}: {where}", flush=True)
    return one, violations


def seeds(arguments, base, template, totals):
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        start = template
        if time.monotonic() > arguments.end:
            return
        for generation in range(arguments.generations):
            chance = chance_of(seed, generation)
            one, violations = attempt(arguments, base, start, chance, None, f"seed-{seed}-{generation}", totals)
            totals["runs"] += 1
            totals["steps"] += len(one.ops)
            good = [cut for cut in one.cuts if not any(cut is bad for bad, _ in violations)]
            following = None
            if good and not violations:
                following = os.path.join(base, "outer", f"start.{generation % 2}")
                copy(chance.choice(good[-8:]).image, following)
            for cut in one.cuts:
                os.remove(cut.image)
            if following is None:
                break
            start = following
        totals["seeds"] += 1
        if totals["seeds"] % 20 == 0:
            print(f"seed {seed}, {time.monotonic() - arguments.began:.0f} s: {dict(totals)}", flush=True)


def replay(arguments, base, where):
    """Does what a violation's list says again, until something is wrong; with --minimise leaves out what it does not take."""
    start = os.path.join(base, "outer", "start")
    image = os.path.join(where, "start.img")
    if os.path.exists(image):
        run("cp", "--sparse=always", image, start)
        shutil.copy(os.path.join(where, "key"), os.path.join(base, "key"))
        # What this machine remembers is of another vault.
        shutil.rmtree(os.path.join(base, "disk-state"), ignore_errors=True)
    with open(os.path.join(where, "ops") if os.path.isdir(where) else where) as file:
        ops = [json.loads(line) for line in file if line.strip()]
    ops = [op[1:] if op[0] == "killed" else op for op in ops]
    if not os.path.exists(start):
        start = os.path.join(base, "outer", "template")
    arguments.kills = 0

    def fails(ops):
        for number in range(arguments.repeat):
            one, violations = attempt(arguments, base, start, chance_of(number), ops)
            for cut in one.cuts:
                os.remove(cut.image)
            for cut, violation in violations:
                return f"{cut.doing if cut else 'while working'} (of {number + 1} runs): {violation}"
        return None
    found = fails(ops)
    print(f"{len(ops)} steps: {found}", flush=True)
    size = max(1, len(ops) // 4)
    while arguments.minimise and found:
        index, isLess = len(ops), False
        while index > 0:
            less = ops[:max(0, index - size)] + ops[index:]
            again = fails(less) if less else None
            index -= size
            if again:
                ops, found, isLess = less, again, True
                print(f"{len(ops)} steps: {found}", flush=True)
        if size == 1 and not isLess:
            break
        size = max(1, size // 2)
    for op in ops:
        print(json.dumps(op))
    return found
