"""What is done in a mount, the cuts meanwhile, and what each left."""
import collections
import os
import pickle
import subprocess
import threading
import time

from choices import Chooser
from commands import copy, run
from place import Place, sync
from tree import Model, Violation, contents, target


class Cut:
    """A clone, and what was known when it was made."""

    def __init__(self, image, model, count, doing):
        self.image, self.model, self.count, self.doing = image, pickle.dumps(model), count, doing


class Run:
    """Random things in a mount, or those of a list, and the cuts meanwhile."""

    def __init__(self, arguments, base, start, chance):
        self.arguments, self.base, self.start, self.chance = arguments, base, start, chance
        self.outer = os.path.join(base, "outer")
        self.ops, self.cuts = [], []
        self.noise = chance.choice([0, 0, 0.2])
        self.steps = chance.choice([arguments.steps // 3, arguments.steps])
        self.lasts = collections.defaultdict(lambda: 0.002)

    def cut(self, model, doing):
        image = os.path.join(self.outer, f"cut.{len(self.cuts)}")
        copy(os.path.join(self.outer, "image"), image)
        self.cuts.append(Cut(image, model, len(self.ops), doing))

    def work(self, ops=None):
        """Does what `ops` says, or random things; ends with what is there being what it must be."""
        copy(self.start, os.path.join(self.outer, "image"))
        place = Place(self.arguments, self.base, "disk", os.path.join(self.outer, "image"))
        try:
            place.mount()
            model = Model.of(place.guarded(place.walk))
            chooser = Chooser(self.chance)
            waiting = list(ops or [])
            for step in range(len(waiting) if ops is not None else self.steps):
                if ops is None and not waiting:
                    waiting = chooser.choose(model)
                op = waiting.pop(0)
                if model.is_valid(op):
                    self.step(place, model, op, ops is not None)
            model.compare(place.guarded(place.walk), exactly=True)
            place.unmount()
        finally:
            place.close()

    def step(self, place, model, op, isReplay):
        before = pickle.dumps(model)
        model.begin(op)
        self.ops.append(op)
        node = model.find(op[-1] if op[0] in ("link", "rename") else op[1]) if op[0] in ("create", "write", "mkdir", "symlink") else None
        if node is not None:
            place.data = node.states[-1]
        isSync = op[0] in ("fsync", "backing", "outside", "syncdisk")
        chance, failure, began = self.chance, [], time.monotonic()

        def deed():
            try:
                place.perform(op)
            except (OSError, Violation, subprocess.SubprocessError) as error:
                failure.append(error)
        noise = threading.Thread(target=self.disturb, args=(place, chance.choice([path for path, node in model.walk() if node.kind != "l"])))
        if chance.random() < self.noise:
            noise.start()
        isKilled = op[0] not in ("remount", "kill", "syncdisk") and chance.random() < self.arguments.kills and not self.arguments.native
        if isKilled or op[0] not in ("kill", "remount") and chance.random() < (0.5 if isReplay else 0.2):
            thread = threading.Thread(target=deed)
            thread.start()
            time.sleep(chance.random() * self.lasts[op[0]])
            if isKilled:
                place.driver.kill()
                self.ops[-1] = ["killed", *op]
            else:
                self.cut(model, f"in {op}")
            thread.join()
        else:
            deed()
        if noise.ident:
            noise.join()
        self.lasts[op[0]] += (min(time.monotonic() - began, 0.05) - self.lasts[op[0]]) / 4
        if isKilled:
            place.kill()
            place.mount()
            return self.resume(place, model, before, failure)
        if failure:
            raise Violation(f"refused: {op}: {failure[0]} {getattr(failure[0], 'stderr', '')}")
        if op[0] == "mkdir":
            node.ino = os.lstat(place.path(op[1])).st_ino
        model.end(op)
        if op[0] == "kill":
            model.compare(place.guarded(place.walk), exactly=True)
        if chance.random() < (0.7 if isReplay else 0.5 if isSync else 0.05):
            self.cut(model, f"after {op}")

    @staticmethod
    def disturb(place, path):
        """Somebody syncs meanwhile, of which nothing is expected."""
        try:
            sync(place.path(path))
        except OSError:
            # It may be gone.
            pass

    def resume(self, place, model, before, failure):
        """After a kill in the middle of something: it was done, or it was not. All is synced then, so that it is known."""
        found, half = place.guarded(place.walk), pickle.loads(pickle.dumps(model))
        for _, node in half.walk():
            # Made, and not written to yet.
            node.states = node.states[:-1] if node.states[-1] == contents(node.number, 0) and node.states[:-1] == [b""] else node.states
        words = []
        for one in [model, half, pickle.loads(before)][:3 if failure else 1]:
            try:
                one.compare(found, exactly=True)
                break
            except Violation as violation:
                words.append(str(violation))
        else:
            raise Violation(f"after a kill neither as before nor as after: {words}")
        place.perform(["syncdisk"])
        fresh = Model.of(found)
        fresh.next = max(fresh.next, model.next)
        model.__dict__.update(fresh.__dict__)

    def look(self, cut):
        """Opens a clone and compares."""
        image, second = os.path.join(self.outer, "clone"), os.path.join(self.outer, "second")
        copy(cut.image, image)
        if os.path.exists(second):
            os.remove(second)
        log = os.path.join(self.base, "clone.log")
        if os.path.exists(log):
            os.remove(log)
        if self.arguments.plant:
            self.plant(image)
        place = Place(self.arguments, self.base, "clone", image)
        try:
            place.mount()
            found = place.guarded(place.walk)
            pickle.loads(cut.model).compare(found)
            place.guarded(lambda: self.go_on(place, found))
            if not self.arguments.native:
                place.shared_ids()
            now = place.guarded(place.walk)
            how = self.chance.choice(["cut", "cut", "kill", "unmount"])
            if how == "cut":
                again = os.path.join(self.outer, "again")
                copy(image, again)
                copy(again, second)
                place.close()
                place = Place(self.arguments, self.base, "clone", again)
            elif how == "kill":
                place.kill()
            else:
                place.unmount()
            place.mount()
            then = place.guarded(place.walk)
            if how != "cut" and now != then:
                raise Violation(f"after what was made in the clone, and {how}, it is {then} and not {now}")
            if not self.arguments.native:
                place.shared_ids()
                if self.chance.random() < 0.5:
                    place.unmount()
                    done = run(self.arguments.program, "check", "--key-file", os.path.join(self.base, "key"), place.vault, check=False,
                               env=dict(os.environ, COFFER_STATE_DIR=place.state))
                    if done.returncode != 0:
                        raise Violation(f"check: {done.stdout}{done.stderr}")
        finally:
            place.close()

    def go_on(self, place, found):
        """Makes something in every directory."""
        paths = [""] + [path.strip("/") for path, thing in Model().every(found) if thing[0] == "d"]
        for path in paths:
            place.data = contents(1, 0)
            place.perform(["create", f"{path}/probe".strip("/")])
            if self.chance.random() < 0.3:
                place.perform(["create", f"{path}/Probe".strip("/")])
            if self.chance.random() < 0.3:
                place.perform(["mkdir", f"{path}/under".strip("/")])
                place.perform(["create", f"{path}/under/probe".strip("/")])
            if self.chance.random() < 0.2:
                place.data = target(1, 3000)
                place.perform(["symlink", f"{path}/longlink".strip("/")])
            if self.chance.random() < 0.2:
                place.perform(["fsync", path])

    def plant(self, image):
        """By hand: a clone in which a directory has lost its records."""
        place = Place(self.arguments, self.base, "clone", image)
        for at, _, files in os.walk(place.vault):
            if "coffer.dir" in files:
                os.remove(os.path.join(at, "coffer.dir"))
                break
        place.close()
