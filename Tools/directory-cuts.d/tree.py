"""What a tree must be, and may be, after a power cut: for each name in each directory all that it may stand for."""
DEPTH = 4
SIZE = 100
LONG = {"L": "L" + "l" * 169, "M": "M" + "m" * 229, "Probe": "P" + "p" * 199}
SHORT = {real: token for token, real in LONG.items()}


class Violation(Exception):
    pass


def real(path):
    """Long names have short ones in here."""
    return "/".join(LONG.get(part, part) for part in path.split("/"))


def contents(number, version):
    return f"{number}.{version}.".encode().ljust(SIZE, b"#")


def target(number, size):
    return f"{number}.".ljust(size, "t")


class Node:
    def __init__(self, kind, number):
        self.kind, self.number = kind, number
        # A directory: name -> all that may be there after a power cut (None: nothing), what is there now last.
        self.entries = {}
        # A file: contents since they were synced, those first. A link: its target.
        self.states = [b""]
        self.version = 0
        self.ino = None
        # It has been there for good under some name, and not been removed since.
        self.placed = False

    def now(self, name):
        return self.entries.get(name, [None])[-1]

    def living(self):
        return {name: cell[-1] for name, cell in self.entries.items() if cell[-1] is not None}


class Model:
    def __init__(self):
        self.root = Node("d", 0)
        self.root.placed = True
        self.next = 1

    def new(self, kind):
        self.next += 1
        return Node(kind, self.next)

    def find(self, path):
        node = self.root
        for part in filter(None, path.split("/")):
            node = node.now(part) if node is not None and node.kind == "d" else None
        return node

    def parent(self, path):
        head, _, name = path.rpartition("/")
        return self.find(head), name

    def walk(self, node=None, path=""):
        node = node or self.root
        yield path, node
        if node.kind == "d":
            for name, child in node.living().items():
                yield from self.walk(child, f"{path}/{name}" if path else name)

    def is_valid(self, op):
        """Whether the system lets this be done."""
        deed, *rest = op
        if deed in ("syncdisk", "syncmount", "outside", "remount", "kill"):
            return True
        node = self.find(rest[0])
        parent = self.parent(rest[0])[0]
        if parent is None or parent.kind != "d":
            return False
        if deed in ("mkdir", "create", "symlink"):
            return node is None and rest[0].count("/") < DEPTH
        if node is None:
            return False
        if deed == "rmdir":
            return node.kind == "d" and not node.living() and node is not self.root
        if deed == "write":
            return node.kind == "f"
        if deed == "unlink":
            return node.kind != "d"
        if deed == "chmod":
            return node.kind == "d"
        if deed in ("fsync", "backing"):
            return node.kind != "l"
        other, there = self.parent(rest[1])
        if other is None or other.kind != "d" or node is self.root or rest[1].count("/") >= DEPTH:
            return False
        there = other.now(there)
        if deed == "link":
            return node.kind != "d" and there is None
        if (rest[1] + "/").startswith(rest[0] + "/") or (rest[0] + "/").startswith(rest[1] + "/") or node is there:
            return False
        if deed == "exchange":
            return there is not None
        return there is None or (node.kind == "d") == (there.kind == "d") and not (there.kind == "d" and there.living())

    def put(self, path, node):
        parent, name = self.parent(path)
        if node is not None or (node is None and parent.now(name) is not None):
            parent.entries.setdefault(name, [None]).append(node)

    def begin(self, op):
        """From here on what is done may be there."""
        deed, *rest = op
        node = self.find(rest[0]) if rest else None
        if deed in ("mkdir", "create", "symlink"):
            node = self.new({"mkdir": "d", "create": "f", "symlink": "l"}[deed])
            if deed == "create":
                node.states.append(contents(node.number, 0))
            if deed == "symlink":
                node.states = [target(node.number, int(rest[1]))]
            self.put(rest[0], node)
        elif deed in ("rmdir", "unlink"):
            node.placed = False
            self.put(rest[0], None)
        elif deed == "write":
            node.version += 1
            node.states.append(contents(node.number, node.version))
        elif deed == "link":
            self.put(rest[1], node)
        elif deed in ("rename", "exchange"):
            there = self.find(rest[1])
            if deed == "rename" and there is not None:
                there.placed = False
            if deed == "exchange":
                # One of them may be synced by its new name, and the other, if new, not at all: nothing says that a name that was exchanged is there.
                self.put(rest[0], None)
                self.put(rest[1], None)
            self.put(rest[0], there if deed == "exchange" else None)
            self.put(rest[1], node)

    def end(self, op):
        """It is done: what a sync promises."""
        deed, *rest = op
        if deed == "syncdisk":
            for _, node in self.walk():
                self.settle(node)
        elif deed == "fsync":
            node = self.find(rest[0])
            self.settle(node)
            if node.kind == "f":
                for _, directory in self.walk():
                    for cell in directory.entries.values():
                        if cell[-1] is node:
                            cell[:] = [node]
        if deed in ("syncdisk", "fsync"):
            self.place(self.root)

    def settle(self, node):
        node.states = node.states[-1:]
        for cell in node.entries.values():
            cell[:] = cell[-1:]

    def place(self, node):
        """What is reached by names that are certain."""
        node.placed = True
        for cell in node.entries.values():
            if len(cell) == 1 and cell[0] is not None and cell[0].states[0] != (b"" if cell[0].kind == "f" else None):
                self.place(cell[0])

    # What was found: name -> (kind, inode number, what is in it).

    def compare(self, found, exactly=False):
        """What a power cut has left, or with `exactly` what is there now."""
        self.compare_directory(self.root, found, "", exactly)
        if exactly:
            return
        there, inodes, data = list(self.every(found)), {}, {}
        for path, (kind, ino, inside) in there:
            if kind == "d":
                if ino in inodes:
                    raise Violation(f"one directory at two places: {inodes[ino]} and {path}")
                inodes[ino] = path
            elif inside:
                data.setdefault(inside[:12].split("." if kind == "l" else b".")[0], []).append(inside)
        for path, node in self.walk():
            if not node.placed or node is self.root:
                continue
            key = str(node.number).encode() if node.kind == "f" else str(node.number)
            if node.kind == "d" and node.ino not in inodes or node.kind != "d" and key not in data:
                raise Violation(f"lost: what is at {path} now, was there for good, and was not removed")

    def compare_directory(self, node, found, path, exactly):
        for name in found:
            if name not in node.entries:
                raise Violation(f"{path}/{name} never was there")
        for name, cell in node.entries.items():
            there, may = found.get(name), cell[-1:] if exactly else cell
            if there is None:
                if None not in may:
                    raise Violation(f"{path}/{name} is gone")
                continue
            same = {one for one in may if one is not None and self.matches(one, there, exactly)}
            if not same:
                raise Violation(f"{path}/{name} is {str(there)[:90]}, and none of {[one and (one.kind, one.number, one.ino) for one in may]}"
                                f", {[one and one.states for one in may if one and one.kind == 'f']}")
            if there[0] == "d" and len(same) == 1:
                one = same.pop()
                # What is gone may come back as it was at any time.
                if exactly or any(one is other for _, other in self.walk()):
                    self.compare_directory(one, there[2], f"{path}/{name}", exactly)

    @staticmethod
    def matches(node, there, exactly):
        kind, ino, inside = there
        if kind != node.kind:
            return False
        if kind == "d":
            return node.ino is None or node.ino == ino
        return inside in (node.states[-1:] if exactly else node.states)

    def every(self, found, path=""):
        for name, thing in found.items():
            yield f"{path}/{name}", thing
            if thing[0] == "d":
                yield from self.every(thing[2], f"{path}/{name}")

    @classmethod
    def of(cls, found):
        """What was found, all of it durable."""
        model, files = cls(), {}

        def fill(node, found):
            for name, (kind, ino, inside) in found.items():
                one = files.get((kind, ino)) or model.new(kind)
                files[(kind, ino)] = one
                one.ino = ino
                if kind == "d":
                    fill(one, inside)
                else:
                    one.states = [inside]
                    if inside:
                        one.number = int(inside[:12].split("." if kind == "l" else b".")[0])
                        if kind == "f":
                            one.version = int(inside.split(b".")[1])
                        model.next = max(model.next, one.number)
                node.entries[name] = [one]
        fill(model.root, found)
        model.next += 100
        model.place(model.root)
        return model
