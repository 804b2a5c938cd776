"""Random things to do in a tree."""
import random

from tree import DEPTH

NAMES = ["a", "b", "c", "L", "M"]
WEIGHTS = {
    "mkdir": 14, "create": 8, "write": 4, "unlink": 6, "rmdir": 6, "remove": 4, "symlink": 6, "link": 4, "rename": 12, "renamedir": 14, "exchange": 8,
    "chmod": 2, "fsync": 14, "up": 3, "syncdisk": 1, "syncmount": 1, "backing": 4, "outside": 2, "remount": 0.5, "kill": 0.5,
}


class Chooser:
    """Random things to do, by what is there."""

    def __init__(self, chance):
        self.chance = chance
        self.left = []
        # Some runs do more of one thing and less of another.
        self.weights = [weight * chance.choice([0.3, 1, 1, 3]) for weight in WEIGHTS.values()]
        if chance.random() < 0.3:
            # Without files there is less that the log has synced.
            self.weights = [0 if deed in ("create", "write", "link") else weight for deed, weight in zip(WEIGHTS, self.weights)]
        self.names = chance.sample(NAMES, chance.choice([2, 3, 5]))

    def path(self, model):
        directories = [path for path, node in model.walk() if node.kind == "d" and path.count("/") < DEPTH - 1]
        if self.left and self.chance.random() < 0.25:
            return self.chance.choice(self.left[-4:])
        return "/".join(filter(None, [self.chance.choice(directories), self.chance.choice(self.names)]))

    def existing(self, model, kinds):
        return self.chance.choice([path for path, node in model.walk() if node.kind in kinds] or [""])

    def choose(self, model):
        """What to do next: one thing, or more for what a program does in one."""
        while True:
            deed = self.chance.choices(list(WEIGHTS), self.weights)[0]
            ops = self.make(deed, model)
            if ops and model.is_valid(ops[0]):
                for op in ops:
                    if op[0] in ("rename", "rmdir", "unlink"):
                        self.left.append(op[1])
                return ops

    def make(self, deed, model):
        chance = self.chance
        if deed in ("syncdisk", "syncmount", "outside", "remount", "kill"):
            return [[deed]]
        if deed in ("mkdir", "create"):
            return [[deed, self.path(model)]]
        if deed == "symlink":
            return [[deed, self.path(model), chance.choice([20, 3000])]]
        if deed in ("write", "unlink", "rmdir", "chmod"):
            path = self.existing(model, {"write": "f", "unlink": "fl"}.get(deed, "d"))
            return [[deed, path] + ([chance.choice([0o700, 0o500, 0o755, 0o311])] if deed == "chmod" else [])]
        if deed == "remove":
            path = self.existing(model, "d")
            return [["rmdir" if node.kind == "d" else "unlink", inner] for inner, node in reversed(list(model.walk(model.find(path), path)))] if path else None
        if deed in ("fsync", "backing"):
            return [[deed, self.existing(model, chance.choice(["f", "d", "d"]))]]
        if deed == "up":
            path = self.existing(model, "fd")
            ops = [["fsync", path]]
            while path:
                path = path.rpartition("/")[0]
                ops.append(["fsync", path])
            return ops if chance.random() < 0.5 else ops[::-1]
        if deed == "renamedir":
            return [["rename", self.existing(model, "d"), self.path(model)]]
        if deed == "exchange":
            return [[deed, self.existing(model, chance.choice(["d", "dfl"])), self.existing(model, chance.choice(["d", "dfl"]))]]
        return [[deed, self.existing(model, "fl" if deed == "link" else "dfl"), self.path(model)]]


def chance_of(*seed):
    return random.Random(".".join(map(str, seed)))
