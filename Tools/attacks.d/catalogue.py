"""The attacks: each changes a copy of the ciphertext, and says what of it has to be found.

Whoever attacks has the copy and older states of it, and no secret. They keep size and time of what they change where
they can: that is what a verification might go by.
"""
import ctypes
import os
import shutil
import stat
import struct

import stored
from hand import Unfit, attack, open_gap
from stored import BLOCK, HEADER

libc = ctypes.CDLL(None, use_errno=True)


# ---- Bytes of a file -------------------------------------------------------------------------------------------------

@attack("a bit of a header flipped", "damaged")
def flip_in_header(hand):
    hand.rewrite(hand.file(), lambda data: hand.flip(data, 0, HEADER))


# Without the key, a file that has another time may as well be a newer or an older one.
@attack("a bit of a block flipped", "damaged")
@attack("a bit of a block flipped, with a newer time", "damaged", "newer damaged", when="newer")
@attack("a bit of a block flipped, with an older time", "damaged", "incomplete damaged", when="older")
def flip_in_block(hand, when="sealed"):
    hand.rewrite(hand.file(), lambda data: hand.flip(data, HEADER), when)


@attack("a bit of the last byte flipped", "damaged")
def flip_in_last_byte(hand):
    hand.rewrite(hand.file(0), lambda data: hand.flip(data, len(data) - 1))


@attack("a bit of an empty file flipped", "damaged")
def flip_in_empty_file(hand):
    hand.rewrite(hand.one("empty file"), lambda data: hand.flip(data, HEADER))


@attack("a bit of the middle of a large file flipped", "damaged")
def flip_in_large_file(hand):
    hand.rewrite(hand.one("large"), lambda data: hand.flip(data, 1_100_000, 1_200_000))


@attack("two blocks of a file exchanged", "damaged")
def exchange_blocks(hand):
    def change(blocks):
        one, other = hand.random.sample(range(len(blocks) - 1), 2)
        blocks[one], blocks[other] = blocks[other], blocks[one]
        return blocks

    hand.rewrite_blocks(hand.file(3), change)


@attack("the same block of two files exchanged", "damaged")
def exchange_blocks_of_two(hand):
    one, other = hand.one("equal", 2)
    at = hand.random.randrange(8)
    parts = [stored.blocks(hand.old_bytes(each))[1][at] for each in (one, other)]
    for entry, part in ((one, parts[1]), (other, parts[0])):
        hand.rewrite_blocks(entry, lambda blocks: blocks[:at] + [part] + blocks[at + 1:])


@attack("a block repeated in the place of the next", "damaged")
def repeat_block(hand):
    def change(blocks):
        at = hand.random.randrange(len(blocks) - 2)
        return blocks[:at + 1] + [blocks[at]] + blocks[at + 2:]

    hand.rewrite_blocks(hand.file(4), change)


@attack("a block put in twice", "damaged", "damaged incomplete")
def insert_block(hand):
    def change(blocks):
        at = hand.random.randrange(len(blocks) - 1)
        return blocks[:at + 1] + blocks[at:]

    hand.rewrite_blocks(hand.file(3), change)


@attack("a block in the middle left out", "damaged", "damaged incomplete")
def drop_block(hand):
    def change(blocks):
        at = hand.random.randrange(1, len(blocks) - 1)
        return blocks[:at] + blocks[at + 1:]

    hand.rewrite_blocks(hand.file(4), change)


@attack("the first block left out", "damaged", "damaged incomplete")
def drop_first_block(hand):
    hand.rewrite_blocks(hand.file(3), lambda blocks: blocks[1:])


@attack("cut between blocks", "damaged", "damaged incomplete")
@attack("cut between blocks, with a newer time", "damaged", "newer damaged incomplete", when="newer")
def cut_between_blocks(hand, when="sealed"):
    hand.rewrite_blocks(hand.file(4), lambda blocks: blocks[:hand.random.randrange(1, len(blocks) - 1)], when)


@attack("cut within a block", "damaged", "damaged incomplete")
def cut_within_block(hand):
    hand.rewrite(hand.file(2), lambda data: data[:-hand.random.randrange(1, 33)])


@attack("cut to the size of an empty file", "damaged", "damaged incomplete")
def cut_to_empty_file(hand):
    hand.rewrite(hand.file(), lambda data: data[:64])


@attack("cut to its header", "damaged", "damaged incomplete")
def cut_to_header(hand):
    hand.rewrite(hand.file(), lambda data: data[:HEADER])


@attack("cut to nothing", "damaged", "damaged incomplete")
def cut_to_nothing(hand):
    hand.rewrite(hand.file(), lambda data: b"")


@attack("bytes put behind a file", "damaged", "damaged incomplete")
def append_bytes(hand):
    hand.rewrite(hand.file(0), lambda data: data + hand.random.randbytes(hand.random.randint(1, 100)))


@attack("a hole put behind a file", "damaged", "damaged incomplete")
def append_hole(hand):
    hand.rewrite(hand.one("equal"), lambda data: data + bytes(BLOCK))


@attack("a block of zeros", "damaged")
def zero_block(hand):
    def change(blocks):
        at = hand.random.randrange(len(blocks) - 1)
        return blocks[:at] + [bytes(BLOCK)] + blocks[at + 1:]

    hand.rewrite_blocks(hand.file(3), change)


@attack("a hole punched", "damaged")
def punch_hole(hand):
    entry = hand.file(3)
    count = (entry.size - HEADER) // BLOCK
    with open(hand.at(entry.stored), "r+b") as stream:
        offset, length = HEADER + hand.random.randrange(count - 1) * BLOCK, BLOCK
        keep_size_and_punch = 3
        if libc.fallocate(stream.fileno(), keep_size_and_punch, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
            raise Unfit("this file system has no holes")
    hand.set_time(entry)
    hand.hit(entry)


@attack("a block before a hole taken for a part of it", "damaged")
def widen_hole(hand):
    hand.rewrite_blocks(hand.one("sparse"), lambda blocks: blocks[:3] + [bytes(BLOCK)] + blocks[4:])


# ---- Older states of a file ------------------------------------------------------------------------------------------

def differing_blocks(hand, entry):
    """The older blocks of a file that was overwritten in its place, and where they are others now."""
    with open(hand.at(entry.stored), "rb") as stream:
        header, blocks = stored.blocks(stream.read())
    old_header, old_blocks = stored.blocks(hand.old_bytes(entry))
    if header != old_header or len(blocks) != len(old_blocks):
        raise Unfit("it was written anew")
    return old_blocks, [at for at in range(len(blocks)) if blocks[at] != old_blocks[at]]


@attack("one of two blocks put back to what it was", "damaged incomplete")
@attack("one of two blocks put back to what it was, with a time in the future", "newer incomplete damaged",
        when="future")
@attack("one of two blocks put back to what it was, with the older time", "damaged incomplete", when="old")
def put_block_back(hand, when="sealed"):
    entry = hand.one("two blocks written")
    old_blocks, differing = differing_blocks(hand, entry)
    if len(differing) < 2:
        raise Unfit("fewer than two blocks were written")
    at = hand.random.choice(differing)
    when = os.stat(hand.was(entry.stored)).st_mtime_ns if when == "old" else when
    hand.rewrite_blocks(entry, lambda blocks: blocks[:at] + [old_blocks[at]] + blocks[at + 1:], when)


@attack("the only block that was written put back", "damaged incomplete")
def put_only_block_back(hand):
    entry = hand.one("one block written")
    old_blocks, differing = differing_blocks(hand, entry)
    if len(differing) != 1:
        raise Unfit("more than one block was written")
    hand.rewrite_blocks(entry, lambda blocks: old_blocks)


@attack("an older state of a hole", "damaged incomplete")
def put_hole_back(hand):
    entry = hand.one("hole to be filled")
    old_blocks, differing = differing_blocks(hand, entry)
    if not any(at > 3 and not old_blocks[at].strip(b"\0") for at in differing):
        raise Unfit("no hole was filled")
    hand.rewrite_blocks(entry, lambda blocks: blocks[:4] + old_blocks[4:])


@attack("an older end behind a file that was cut", "damaged incomplete")
def put_end_back(hand):
    entry = hand.one("cut by a block")
    hand.rewrite(entry, lambda data: data + hand.old_bytes(entry)[len(data):])


@attack("an older file with its time", "incomplete")
@attack("an older file of the same size, with the newer time", "damaged incomplete", when="sealed")
@attack("an older file of the same size, with a time in the future", "newer incomplete damaged", when="future")
@attack("an older file of another size, with its time", "incomplete", role="rewritten")
@attack("an older file of another size, with the newer time", "damaged incomplete", role="rewritten", when="sealed")
@attack("an older file of another size, with a time in the future", "newer incomplete damaged", role="rewritten",
        when="future")
@attack("an older file where a program had saved a new one, with its time", "incomplete", role="to be overwritten")
@attack("an older file where it was appended to, with the newer time", "damaged incomplete", role="appended",
        when="sealed")
def put_file_back(hand, role="rewritten in its size", when="old"):
    entry = hand.one(role)
    when = os.stat(hand.was(entry.stored)).st_mtime_ns if when == "old" else when
    hand.rewrite(entry, lambda data: hand.old_bytes(entry), when)


# ---- Files in each other's place -------------------------------------------------------------------------------------

@attack("two files of one size exchanged", "damaged incomplete")
@attack("two files of one size exchanged, with their times", "damaged incomplete", when="own")
def exchange_equal_files(hand, when="sealed"):
    hand.exchange(*hand.one("equal", 2), when)


@attack("two files of one size in two directories exchanged", "damaged incomplete")
def exchange_equal_files_elsewhere(hand):
    hand.exchange(hand.one("equal"), hand.one("equal elsewhere"))


@attack("two files of different sizes exchanged", "damaged incomplete")
@attack("two files of different sizes exchanged, with their times", "damaged incomplete", when="own")
def exchange_files(hand, when="sealed"):
    one = hand.file(0)
    hand.exchange(one, hand.pick(lambda each: each.size != one.size), when)


@attack("a file written over another", "damaged incomplete")
@attack("a file written over another, with a newer time", "newer damaged incomplete", when="newer")
def overwrite_file(hand, when="sealed"):
    source, target = hand.one("equal", 2)
    hand.rewrite(target, lambda data: hand.old_bytes(source), when)


@attack("a file with another's name, in its directory", "damaged incomplete")
def rename_over(hand):
    source, target = hand.one("equal", 2)
    os.rename(hand.at(source.stored), hand.at(target.stored))
    hand.set_time(target)
    hand.hit(source)
    hand.hit(target)


# What stands in a wrong directory cannot be named by a path: its name is not to be read there.
@attack("a file moved to another directory", "damaged incomplete")
def move_file(hand):
    source = hand.pick(lambda each: not os.path.basename(each.stored).startswith("coffer."))
    target = hand.pick(lambda each: each.stored != source.directory, "directory")
    place = os.path.join(target.stored, os.path.basename(source.stored))
    os.rename(hand.at(source.stored), hand.at(place))
    hand.hit(source)
    hand.hit(place)


@attack("a directory moved to another", "damaged incomplete")
def move_directory(hand):
    source = hand.a_directory(lambda each: not os.path.basename(each.stored).startswith("coffer."))
    target = hand.pick(lambda each: each.stored != source.directory
                       and not f"{each.stored}/".startswith(source.stored + "/"), "directory")
    place = os.path.join(target.stored, os.path.basename(source.stored))
    os.rename(hand.at(source.stored), hand.at(place))
    hand.hit(source)
    hand.hit(place, below=True)


@attack("two directories exchanged", "damaged incomplete")
def exchange_directories(hand):
    hand.exchange(*hand.one("sibling", 2))


@attack("two directories that were renamed exchanged", "damaged incomplete")
def exchange_renamed_directories(hand):
    hand.exchange(*hand.one("renamed once", 2))


# ---- What is left out ------------------------------------------------------------------------------------------------

@attack("a file left out", "incomplete")
def drop_file(hand):
    hand.remove(hand.pick())


@attack("a file of a long name left out", "incomplete")
def drop_long_file(hand):
    hand.remove(hand.one("long name"))


@attack("one name of two for a file left out", "incomplete")
def drop_hard_link(hand):
    pair = hand.random.choice(hand.world.roles["hard link"])
    hand.remove(hand.world.new_entries[hand.random.choice(pair)])


@attack("a directory left out", "incomplete")
def drop_directory(hand):
    hand.remove(hand.a_directory())


@attack("all that is in a directory left out", "incomplete")
def empty_directory(hand):
    directory = hand.a_directory()
    for name in os.listdir(hand.at(directory.stored)):
        path = hand.at(f"{directory.stored}/{name}")
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)
    hand.hit(directory)


@attack("an empty directory left out", "incomplete")
def drop_empty_directory(hand):
    hand.remove(hand.one("empty"))


@attack("a fifo left out", "incomplete")
def drop_fifo(hand):
    hand.remove(hand.one("fifo"))


@attack("a link left out", "incomplete")
def drop_link(hand):
    hand.remove(hand.one("link"))


@attack("a long link left out, with its file", "incomplete")
def drop_long_link(hand):
    hand.remove(hand.one("long link"))


# A name or target of which a part is missing cannot be read either, so that there is damage as well.
@attack("a piece of a long name left out", "damaged incomplete")
def drop_piece(hand):
    entry = hand.one("long name")
    piece = hand.random.choice(hand.companions(entry))
    os.remove(hand.at(piece))
    hand.hit(piece)
    hand.hit(entry, must=False)


@attack("a piece of a directory's long name left out", "damaged incomplete")
def drop_directory_piece(hand):
    entry = hand.one("directory of a long name")
    piece = hand.random.choice(hand.companions(entry))
    os.remove(hand.at(piece))
    hand.hit(piece)
    hand.hit(entry, must=False)


@attack("the file of a long link left out", "damaged incomplete")
def drop_companion(hand):
    entry = hand.one("long link")
    companion = hand.companions(entry)[0]
    os.remove(hand.at(companion))
    hand.hit(companion)
    hand.hit(entry, must=False)


@attack("a coffer.dir left out", "damaged incomplete", "incomplete")
def drop_records(hand):
    directory = hand.one("renamed once")
    os.remove(hand.at(directory.stored + "/coffer.dir"))
    hand.hit(directory)


@attack("an older coffer.dir, with its time", "damaged incomplete")
@attack("an older coffer.dir, with the newer time", "damaged incomplete", when="sealed")
def put_records_back(hand, when="old"):
    # Where a directory was before: the entry is another one there, and the record does not count at its new place.
    now, before = next(
        (entry, was) for path in hand.world.roles["renamed twice"] for entry in [hand.world.new_entries[path]]
        for was in hand.world.old_entries.values() if was.status.st_ino == entry.status.st_ino)
    place = now.stored + "/coffer.dir"
    moment = os.stat(hand.was(before.stored + "/coffer.dir") if when == "old" else hand.at(place)).st_mtime_ns
    with open(hand.was(before.stored + "/coffer.dir"), "rb") as source, open(hand.at(place), "r+b") as target:
        data = source.read()
        if data == target.read():
            raise Unfit("it is the same as before")
        target.seek(0)
        target.write(data)
        target.truncate()
    os.utime(hand.at(place), ns=(moment, moment))
    hand.hit(now)


@attack("coffer.json.previous left out", "incomplete")
def drop_previous_config(hand):
    os.remove(hand.at("coffer.json.previous"))
    hand.hit("coffer.json.previous")


# A verification with the key may refuse a vault that is not the one that this machine remembers (7), that was changed
# (5), or that is none (3).
@attack("an older coffer.json", "damaged incomplete", refusals={5, 7})
def put_config_back(hand):
    times = os.stat(hand.at("coffer.json"))
    shutil.copyfile(hand.at("coffer.json.previous"), hand.at("coffer.json"))
    os.utime(hand.at("coffer.json"), ns=(times.st_atime_ns, times.st_mtime_ns))
    hand.hit("coffer.json")


@attack("a changed coffer.json", "damaged", refusals={5})
def change_config(hand):
    times = os.stat(hand.at("coffer.json"))
    with open(hand.at("coffer.json"), "r+b") as stream:
        data = stream.read()
        at = data.rindex(b'"mac": "') + 8
        stream.seek(at)
        stream.write(b"1" if data[at:at + 1] != b"1" else b"2")
    os.utime(hand.at("coffer.json"), ns=(times.st_atime_ns, times.st_mtime_ns))
    hand.hit("coffer.json")


@attack("coffer.json left out", "incomplete damaged", refusals={3})
def drop_config(hand):
    os.remove(hand.at("coffer.json"))
    hand.hit("coffer.json")


# ---- What is put back, or added --------------------------------------------------------------------------------------

@attack("a removed file put back", "newer incomplete damaged")
def put_removed_file_back(hand):
    entry = hand.old_one("removed")
    hand.put_back(entry.stored)
    hand.hit(entry)


@attack("a removed directory put back", "newer incomplete damaged")
def put_removed_directory_back(hand):
    entry = hand.old_one("removed directory")
    hand.put_back(entry.stored)
    hand.hit(entry)


def renamed(hand):
    old, new = hand.random.choice(hand.world.roles["renamed"])
    return hand.world.old_entries[old], hand.world.new_entries[new]


@attack("a renamed file under its old name, too", "newer incomplete damaged")
def put_old_name_back(hand):
    old, new = renamed(hand)
    shutil.copy2(hand.at(new.stored), hand.at(old.stored))
    hand.hit(old)


@attack("a renamed file under its old name only", "incomplete damaged")
def undo_renaming(hand):
    old, new = renamed(hand)
    os.rename(hand.at(new.stored), hand.at(old.stored))
    hand.hit(old)
    hand.hit(new)


@attack("a directory put back to what it was", "incomplete damaged")
def put_directory_back(hand):
    entry = hand.one("changing directory")
    shutil.rmtree(hand.at(entry.stored))
    hand.put_back(entry.stored)
    for path in hand.world.changed:
        if path.startswith(entry.stored + "/"):
            hand.hit(path, below=False)
    if not hand.hits:
        raise Unfit("nothing in it has changed")


@attack("a file under a name of nobody", "damaged incomplete", "newer damaged incomplete")
def add_name(hand):
    directory = hand.pick(kind="directory")
    place = os.path.join(directory.stored, hand.any_name())
    shutil.copy2(hand.at(hand.file(0).stored), hand.at(place))
    hand.hit(place)


@attack("a second link to a file, under a name of nobody", "damaged incomplete", "newer damaged incomplete")
def link_to_any_name(hand):
    entry = hand.pick()
    place = os.path.join(entry.directory, hand.any_name())
    os.link(hand.at(entry.stored), hand.at(place))
    hand.hit(place)


@attack("a second link to a file, under a name that was removed", "newer damaged incomplete")
def link_to_old_name(hand):
    entry = hand.old_one("removed")
    os.link(hand.at(hand.file(0).stored), hand.at(entry.stored))
    hand.hit(entry)


@attack("a character of a name changed", "damaged incomplete", "incomplete damaged")
def change_name(hand):
    entry = hand.pick(lambda each: len(os.path.basename(each.stored)) == 44)
    name = os.path.basename(entry.stored)
    at = hand.random.randrange(1, 40)
    place = os.path.join(entry.directory, name[:at] + ("A" if name[at] != "A" else "B") + name[at + 1:])
    os.rename(hand.at(entry.stored), hand.at(place))
    hand.hit(entry)
    hand.hit(place)


@attack("a character of a name changed so that it is none of Coffer's", "incomplete")
def spoil_name(hand):
    entry = hand.pick(lambda each: len(os.path.basename(each.stored)) == 44)
    place = entry.stored[:-1] + "."
    os.rename(hand.at(entry.stored), hand.at(place))
    hand.hit(entry)
    hand.hit(place, must=False)


@attack("a character of a directory's name changed so that it is none of Coffer's", "incomplete")
def spoil_directory_name(hand):
    entry = hand.a_directory(lambda each: not os.path.basename(each.stored).startswith("coffer."))
    place = entry.stored[:-5] + "!" + entry.stored[-4:]
    os.rename(hand.at(entry.stored), hand.at(place))
    hand.hit(entry)
    hand.hit(place, below=True, must=False)


# ---- Links, and other types ------------------------------------------------------------------------------------------

def set_link(hand, entry, text, when="sealed"):
    if os.readlink(hand.at(entry.stored)) == text:
        raise Unfit("it is the same text")
    os.remove(hand.at(entry.stored))
    os.symlink(text, hand.at(entry.stored))
    hand.set_time(entry, when)
    hand.hit(entry)


@attack("a link's text changed", "damaged", "damaged incomplete")
def change_link(hand):
    entry = hand.one("link")
    text = os.readlink(hand.at(entry.stored))
    at = hand.random.randrange(40, len(text) - 1)
    set_link(hand, entry, text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1:])


@attack("the texts of two links exchanged", "damaged incomplete")
@attack("two links exchanged, with their times", "damaged incomplete", when="own")
def exchange_links(hand, when="sealed"):
    one, other = hand.one("link", 2)
    hand.exchange(one, other, when)


@attack("a link's older text", "damaged incomplete")
@attack("a link's older text, with its time", "incomplete damaged", when="old")
def put_link_back(hand, when="sealed"):
    entry = hand.one("changing link")
    when = os.lstat(hand.was(entry.stored)).st_mtime_ns if when == "old" else when
    set_link(hand, entry, os.readlink(hand.was(entry.stored)), when)


@attack("a bit of a long link's file flipped", "damaged")
def change_companion(hand):
    entry = hand.one("long link")
    companion = hand.companions(entry)[0]
    times = os.stat(hand.at(companion))
    with open(hand.at(companion), "r+b") as stream:
        data = hand.flip(stream.read(), 1)
        stream.seek(0)
        stream.write(data)
    os.utime(hand.at(companion), ns=(times.st_atime_ns, times.st_mtime_ns))
    hand.hit(companion)
    hand.hit(entry, must=False)


def put_in_place(hand, entry, make):
    hand.remove(entry)
    make(hand.at(entry.stored))
    hand.set_time(entry)


@attack("a link in the place of a file", "damaged incomplete")
def link_for_file(hand):
    text = os.readlink(hand.at(hand.one("link").stored))
    put_in_place(hand, hand.pick(lambda each: "coffer.long." not in each.stored), lambda path: os.symlink(text, path))


@attack("a directory in the place of a file", "damaged incomplete")
def directory_for_file(hand):
    put_in_place(hand, hand.pick(lambda each: "coffer.long." not in each.stored), os.mkdir)


@attack("a file in the place of a directory", "damaged incomplete")
def file_for_directory(hand):
    source = hand.at(hand.one("equal").stored)
    put_in_place(hand, hand.one("empty"), lambda path: shutil.copyfile(source, path))


@attack("a file in the place of a link", "damaged incomplete")
def file_for_link(hand):
    source = hand.at(hand.one("equal").stored)
    put_in_place(hand, hand.one("link"), lambda path: shutil.copyfile(source, path))


@attack("a device in the place of a fifo", "damaged incomplete")
def device_for_fifo(hand):
    entry = hand.one("fifo")
    mode = stat.S_IFCHR | stat.S_IMODE(entry.status.st_mode)
    put_in_place(hand, entry, lambda path: os.mknod(path, mode, os.makedev(1, 3)))


# ---- Modes, owners, attributes ---------------------------------------------------------------------------------------

@attack("a file set-user-id", "incomplete damaged", mode=0o4755)
@attack("a file of mode 000", "incomplete damaged", mode=0)
@attack("a directory that all may write to", "incomplete damaged", mode=0o777, kind="directory")
def change_mode(hand, mode, kind="file"):
    entry = hand.pick(lambda each: stat.S_IMODE(each.status.st_mode) != mode, kind)
    os.chmod(hand.at(entry.stored), mode)
    hand.hit(entry, below=False)


@attack("another mode of the vault's own directory", "incomplete damaged")
def change_mode_of_root(hand):
    os.chmod(hand.copy, stat.S_IMODE(os.stat(hand.copy).st_mode) ^ 0o011)
    hand.hit("", below=False)


@attack("another owner of a file, with --owners", "incomplete damaged")
def change_owner(hand):
    entry = hand.pick()
    os.chown(hand.at(entry.stored), 12345, 54321)
    os.chmod(hand.at(entry.stored), stat.S_IMODE(entry.status.st_mode))       # chown(2) may take bits away
    hand.options.append("--owners")
    hand.hit(entry)


def stored_attributes(path):
    return {name: os.getxattr(path, name) for name in sorted(os.listxattr(path)) if name.startswith("user.coffer.")}


@attack("an attribute of a file left out", "incomplete damaged")
@attack("an attribute of a directory left out", "incomplete damaged", role="attribute of a directory")
def drop_attribute(hand, role="attribute"):
    entry = hand.hit(hand.one(role), below=False)
    os.removexattr(hand.at(entry.stored), hand.random.choice(list(stored_attributes(hand.at(entry.stored)))))


@attack("a bit of an attribute's value flipped", "incomplete damaged")
def change_attribute(hand):
    entry = hand.hit(hand.one("attribute"), below=False)
    name, value = hand.random.choice(list(stored_attributes(hand.at(entry.stored)).items()))
    os.setxattr(hand.at(entry.stored), name, hand.flip(value, 1))


@attack("the attributes of two files exchanged", "incomplete damaged")
@attack("the attributes of two directories exchanged", "incomplete damaged", role="attribute of a directory")
def exchange_attributes(hand, role="attribute"):
    pair = hand.one(role, 2)
    values = [stored_attributes(hand.at(each.stored)) for each in pair]
    for entry, others in zip(pair, reversed(values)):
        for name in stored_attributes(hand.at(entry.stored)):
            os.removexattr(hand.at(entry.stored), name)
        for name, value in others.items():
            os.setxattr(hand.at(entry.stored), name, value)
        hand.hit(entry, below=False)


@attack("an older value of a file's attribute", "incomplete damaged")
@attack("an older value of a directory's attribute", "incomplete damaged", role="changing attribute of a directory")
def put_attribute_back(hand, role="changing attribute"):
    entry = hand.hit(hand.one(role), below=False)
    for name, value in stored_attributes(hand.was(entry.stored)).items():
        os.setxattr(hand.at(entry.stored), name, value)


@attack("somebody added to an access control list", "incomplete damaged")
def add_to_access_control(hand):
    entry = hand.hit(hand.pick(lambda each: not os.listxattr(hand.at(each.stored))))
    mode, nobody = stat.S_IMODE(entry.status.st_mode), 0xFFFFFFFF
    owner, group, others = mode >> 6 & 7, mode >> 3 & 7, mode & 7
    # The mask is what the mode shows as the group's permissions, so the mode stays as it is.
    entries = ((1, owner, nobody), (2, group, 65534), (4, group, nobody), (16, group, nobody), (32, others, nobody))
    try:
        os.setxattr(hand.at(entry.stored), "system.posix_acl_access",
                    struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries))
    except OSError as error:
        raise Unfit(f"no access control lists here: {error}") from error


# ---- Seals -----------------------------------------------------------------------------------------------------------
# Where the newest seal does not count, the one before it may be what is compared with: then it is newer things that are
# found, or there is no seal left with a manifest in it.

WITHOUT_THE_NEWEST = "incomplete damaged noSeal", "newer incomplete damaged noSeal"


@attack("an older seal in the place of the newest", *WITHOUT_THE_NEWEST, kinds={"rolledBack"}, public_kinds=())
def replay_seal(hand):
    shutil.rmtree(hand.at(stored.SEALS))
    shutil.copytree(hand.was(stored.SEALS), hand.at(stored.SEALS))
    hand.everything_since()


@attack("the newest seal left out", *WITHOUT_THE_NEWEST, of_seals=True)
def drop_newest_seal(hand):
    os.remove(hand.seal_path(hand.world.counter))
    hand.everything_since()


@attack("all seals left out", "noSeal", of_seals=True)
def drop_seals(hand):
    shutil.rmtree(hand.at(stored.SEALS))


@attack("the newest seal cut", *WITHOUT_THE_NEWEST, kinds={"sealIncomplete", "sealForged"})
def cut_seal(hand):
    data = hand.read_seal(hand.world.counter)
    hand.write_seal(hand.world.counter, data[:hand.random.randrange(stored.HEAD_SIZE + 1, len(data))])
    hand.everything_since()


@attack("the newest seal cut to its head", *WITHOUT_THE_NEWEST, of_seals=True)
def cut_seal_to_head(hand):
    hand.write_seal(hand.world.counter, hand.read_seal(hand.world.counter)[:stored.HEAD_SIZE])
    hand.everything_since()


@attack("the newest seal cut within its head", *WITHOUT_THE_NEWEST, kinds={"sealIncomplete", "sealForged"})
def cut_seal_in_head(hand):
    hand.write_seal(hand.world.counter, hand.read_seal(hand.world.counter)[:hand.random.randrange(stored.HEAD_SIZE)])
    hand.everything_since()


@attack("a bit of a seal's head flipped", *WITHOUT_THE_NEWEST, kinds={"sealIncomplete", "sealForged"}, end=168)
@attack("a bit of a seal's signature flipped", *WITHOUT_THE_NEWEST, kinds={"sealIncomplete", "sealForged"}, start=168,
        end=232)
@attack("a bit of a seal's manifest flipped", *WITHOUT_THE_NEWEST, kinds={"sealIncomplete", "sealForged"}, start=232)
def flip_in_seal(hand, start=0, end=None):
    hand.write_seal(hand.world.counter, hand.flip(hand.read_seal(hand.world.counter), start, end))
    hand.everything_since()


@attack("the newest seal's head with an older manifest", *WITHOUT_THE_NEWEST, kinds={"sealIncomplete", "sealForged"})
def mix_seals(hand):
    head = hand.read_seal(hand.world.counter)[:stored.HEAD_SIZE]
    older = hand.read_seal(hand.world.old_counter, hand.world.old)[stored.HEAD_SIZE:]
    hand.write_seal(hand.world.counter, head + older)
    hand.everything_since()


@attack("an older seal's head with the newest manifest", *WITHOUT_THE_NEWEST, kinds={"sealIncomplete", "sealForged"})
def mix_seals_the_other_way(hand):
    head = hand.read_seal(hand.world.old_counter, hand.world.old)[:stored.HEAD_SIZE]
    hand.write_seal(hand.world.counter, head + hand.read_seal(hand.world.counter)[stored.HEAD_SIZE:])
    hand.everything_since()


@attack("the newest seal under the next number", *WITHOUT_THE_NEWEST, kinds={"sealForged"})
def renumber_seal(hand):
    os.rename(hand.seal_path(hand.world.counter), hand.seal_path(hand.world.counter + 1))
    hand.everything_since()


# The genuine seal is there, too, and what it says is so: then it is enough that the other one is named.
@attack("the newest seal under the next number, too", "damaged incomplete whole", kinds={"sealForged"})
def copy_seal(hand):
    shutil.copy2(hand.seal_path(hand.world.counter), hand.seal_path(hand.world.counter + 1))


def other_seal(hand, counter):
    """A seal of another vault with this counter, or with any."""
    found = stored.seals(hand.world.other)
    name = next((each for each in found if int(each) == counter), found[-1])
    return hand.read_seal(int(name), hand.world.other)


@attack("a seal by another vault's key in the place of the newest", *WITHOUT_THE_NEWEST, kinds={"sealForged"})
def forge_seal(hand):
    hand.write_seal(hand.world.counter, other_seal(hand, hand.world.counter))
    hand.everything_since()


@attack("a seal by another vault's key beside the newest", "damaged incomplete whole", kinds={"sealForged"})
def add_forged_seal(hand):
    hand.write_seal(hand.world.counter + 1, other_seal(hand, hand.world.counter + 1))


@attack("seals by another vault's key only", "noSeal", of_seals=True)
def forge_all_seals(hand):
    shutil.rmtree(hand.at(stored.SEALS))
    shutil.copytree(os.path.join(hand.world.other, stored.SEALS), hand.at(stored.SEALS))


# A machine that has never seen the newer seal cannot tell, unless it is told by an anchor; see `open_gaps`.
@attack("the whole vault put back, where a newer seal was seen", "incomplete", "whole", kinds={"rolledBack"},
        public_kinds=())
def roll_back(hand):
    shutil.rmtree(hand.copy)
    hand.put_back()


@attack("the whole vault put back, where an anchor of the newer seal is at hand", "incomplete", kinds={"anchor"},
        elsewhere=True)
def roll_back_with_anchor(hand):
    roll_back(hand)
    hand.options += ["--anchor", hand.world.anchor]


@attack("an anchor of another vault", "incomplete damaged", kinds={"anchor"}, elsewhere=True)
def wrong_anchor(hand):
    hand.options += ["--anchor", hand.world.other_anchor]


@attack("the public key of another vault", "whole", "noSeal", of_seals=True)
def wrong_public_key(hand):
    hand.public_key = hand.world.other_public_key


# ---- What is said openly not to be found -----------------------------------------------------------------------------

@open_gap("two names of one file made two files of the same contents")
def break_hard_link(hand):
    pair = hand.random.choice(hand.world.roles["hard link"])
    path = hand.at(hand.world.new_entries[hand.random.choice(pair)].stored)
    shutil.copy2(path, path + ".copy")
    os.rename(path + ".copy", path)


@open_gap("two files of the same contents made one")
def join_files(hand):
    pair = hand.random.choice(hand.world.roles["hard link"])
    one, other = (hand.at(hand.world.new_entries[path].stored) for path in pair)
    break_hard_link(hand)
    os.remove(one)
    os.link(other, one)


@open_gap("another time of a directory")
def change_directory_time(hand):
    os.utime(hand.at(hand.pick(kind="directory").stored), ns=(1, 1))


@open_gap("an attribute that is none of Coffer's")
def add_foreign_attribute(hand):
    os.setxattr(hand.at(hand.pick().stored), "user.comment", b"of a file manager")


@open_gap("zeros stored where a hole was")
def fill_hole(hand):
    entry = hand.one("sparse")
    with open(hand.at(entry.stored), "r+b") as stream:
        data = stream.read()
        stream.seek(0)
        stream.write(data)
    hand.set_time(entry)


@open_gap("another owner, without --owners")
def change_owner_unasked(hand):
    entry = hand.pick()
    os.chown(hand.at(entry.stored), 12345, 54321)
    os.chmod(hand.at(entry.stored), stat.S_IMODE(entry.status.st_mode))
    hand.hit(entry, must=False)


@open_gap("an attribute of a link, which is stored under trusted.coffer.")
def drop_link_attribute(hand):
    path = hand.at(hand.one("link with an attribute").stored)
    names = [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith("trusted.coffer.")]
    if not names:
        raise Unfit("it was not copied")
    os.removexattr(path, names[0], follow_symlinks=False)


@open_gap("the whole vault put back, elsewhere and without an anchor", elsewhere=True)
def roll_back_elsewhere(hand):
    roll_back(hand)


# Some things are told of as a note, and the rest is whole: times, which not every copy keeps, and what is not Coffer's.

@open_gap("another time of a file, and nothing else: newer")
@open_gap("another time of a file, and nothing else: older", when="older")
def change_time(hand, when="newer"):
    hand.set_time(hand.hit(hand.file(0)), when)


@open_gap("files that are none of Coffer's")
def add_foreign_files(hand):
    directory = hand.a_directory()
    for name in ("README.txt", f".{hand.any_name()}.a1B2c3", f"{hand.any_name()} (conflicted copy)"):
        place = os.path.join(directory.stored, name)
        with open(hand.at(place), "wb") as stream:
            stream.write(b"none of Coffer's")
        hand.hit(place)


@open_gap("a directory that is none of Coffer's")
def add_foreign_directory(hand):
    os.makedirs(hand.at(".Trash-1000/files"))
    shutil.copy2(hand.at(hand.file(0).stored), hand.at(".Trash-1000/files"))
    hand.hit(".Trash-1000", below=True)

