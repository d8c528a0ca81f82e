#!/usr/bin/env python3
"""Stores that must not be written, or that hold what no store makes.

Readers work on a read-only mount and for a user who may only read, and write nothing. Writers
there fail before any change and say why. What lies in a store and is not the store's - foreign
files, folders, links, FIFOs, sockets - is passed over or named in an error, never followed,
never waited for, never removed.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import mounts
import operations
import oracle as oracles
import rig as rigs
import states
from oracle import KILLS, Oracle
from store import Done, Store

NOBODY = 65534
FOREIGN = b"not the store's"
# Where links lead that lead out of a store; it must stay empty.
OUTSIDE = Path(tempfile.gettempdir(), f"milepost-outside-{os.getpid()}")

# Exit codes that a thing in the wrong place may lead to; being locked for ever is none of them.
REFUSALS = {1, 3, 10, 12, 13, 14}


def made(milepost: Path, root: Path, files: Path) -> tuple[Store, Oracle]:
    """A store with two runs, tags and something to collect."""
    store, oracle = Store(milepost, root), Oracle()
    history = [
        operations.init(),
        operations.save(files, ("main", 1), tag="tag-1"),
        operations.save(files, ("main", 2)),
        operations.save(files, ("main", 3)),
        operations.fork(("main", 2), "side"),
        operations.save(files, ("gone", 8)),
        operations.forget(("gone", 8), collect=False),
    ]
    for operation in history:
        operation.begin(oracle)
        done = store.run("--json", *operation.words)
        if done.code != 0:
            raise OSError(f"{operation}: {done.err}")
        operation.acknowledged(oracle, done.out)
    return store, oracle


def readers() -> Iterator[list[str]]:
    yield from (["log"], ["log", "--unique"], ["ls", "latest"], ["show", "latest"], ["stats"])
    yield from (["tag"], ["diff", "main@step:1", "latest"], ["verify", "--read-data"])
    yield from (["restore", "main@step:2", "-o", "-"], ["gc", "-n"])
    yield ["forget", "-n", "main@step:1"]


def writers(files: Path) -> Iterator[list[str]]:
    operation = operations.save(files, ("main", 9))
    operation.begin(Oracle())
    yield operation.words
    yield from (["fork", "main@step:1", "new"], ["tag", "main@step:1", "mark"], ["gc"], ["compact"])
    yield from (["tag", "-d", "tag-1"], ["forget", "--drop", states.OPTIMIZER, "main@step:1"])
    yield from (["forget", "--keep-last", "1"], ["forget", "main@step:1"])


def picture(root: Path) -> dict[str, tuple[object, ...]]:
    """All that can be seen of a tree from outside: what is where, since when, with what in it."""
    found = {}
    for path in [root, *root.rglob("*")]:
        of = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(of.st_mode) else b""
        found[str(path)] = (of.st_mode, of.st_size, of.st_mtime_ns, of.st_ino, content)
    return found


class Look:
    """Commands on a store that must not change."""

    def __init__(self, rig: rigs.Rig, store: Store, files: Path, where: str) -> None:
        self.rig, self.store, self.files, self.where = rig, store, files, where

    def fault(self, story: str) -> None:
        self.rig.violation("faults", f"{self.where}: {story}")

    def all(self, oracle: Oracle, **how: object) -> None:
        """Readers work, writers fail, nothing changes; `how` says who runs them."""
        before = picture(self.store.root)
        for words in readers():
            done = self.store.run(*words, **how)
            self.rig.count("commands that read")
            if done.code != 0:
                self.fault(f"{' '.join(words)} exits with {done.code}: {done.err.strip()}")
        for words in writers(self.files):
            self.refused(words, self.store.run(*words, **how))
        for wrong in oracles.check(self.store, oracle, KILLS):
            self.fault(wrong)
        if picture(self.store.root) != before:
            self.fault("something was changed")

    def refused(self, words: list[str], done: Done) -> None:
        self.rig.count("commands that write and may not")
        if done.code == 0:
            self.fault(f"{' '.join(words)} says that it is done")
        elif complaint := done.complaint():
            self.fault(f"{' '.join(words)} {complaint}")


def read_only(rig: rigs.Rig, folder: Path, files: Path) -> None:
    """Mounted so that nobody may write, after and while a writer had it."""
    image = folder / "disk.img"
    mounts.make(image, "ext4")
    with mounts.mounted(image, folder / "disk") as at:
        store, oracle = made(rig.milepost, at / "store", files)
        mounts.call("mount", "-o", "remount,ro", at)
        Look(rig, store, files, "remounted read-only").all(oracle)
    with mounts.mounted(image, folder / "disk", options="ro") as at:
        Look(rig, Store(rig.milepost, at / "store"), files, "mounted read-only").all(oracle)


def may_only_read(rig: rigs.Rig, folder: Path, files: Path) -> None:
    """Owned by another user, or by nobody who may write: all of it, or one folder of it."""
    store, oracle = made(rig.milepost, folder / "of-root", files)
    nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    Look(rig, store, files, "of another user").all(oracle, **nobody)
    for part in ["", "txn", "packs", "runs", "runs/main", "tags"]:
        store, _ = made(rig.milepost, folder / f"without-{part.replace('/', '-')}", files)
        for path in [store.root, *store.root.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        (store.root / part).chmod(0o555)
        look = Look(rig, store, files, f"without the right to write in {part or 'the root'}")
        for words in writers(files):
            done = store.run(*words, **nobody)
            rig.count("commands in stores that may be written in part")
            if complaint := done.complaint():
                look.fault(f"{' '.join(words)} {complaint}")
        done = store.run("verify", "--read-data")
        if done.code != 0:
            look.fault(f"verify exits with {done.code}: {done.err.strip()}")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    # The path of a socket may not be long.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def a_link_out(path: Path) -> None:
    path.symlink_to(OUTSIDE)


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def an_empty_file(path: Path) -> None:
    path.touch()


def a_foreign_file(path: Path) -> None:
    path.write_bytes(FOREIGN)


PLANTED: list[Callable[[Path], None]] = [
    *(a_folder, a_fifo, a_socket, a_link_out, a_link_to_itself, an_empty_file, a_foreign_file)
]


def commands(files: Path) -> list[list[str]]:
    return [*readers(), *writers(files)]


def in_place_of(rig: rigs.Rig, folder: Path, files: Path, every: int) -> None:
    """Each file and each folder of a store is something else: all commands end, with sense."""
    origin, _ = made(rig.milepost, folder / "origin", files)
    places = sorted(p.relative_to(origin.root) for p in origin.root.rglob("*"))
    store = Store(rig.milepost, folder / "planted")
    number = 0
    for place in places:
        for plant in PLANTED:
            number += 1
            if number % every or (plant is a_folder and (origin.root / place).is_dir()):
                continue
            renew(origin, store)
            remove(store.root / place)
            plant(store.root / place)
            look = Look(rig, store, files, f"{plant.__name__} in place of {place}")
            for words in commands(files):
                ends_with_sense(look, words, store.run(*words))


def ends_with_sense(look: Look, words: list[str], done: Done) -> None:
    look.rig.count("commands on stores with a thing in the wrong place")
    if done.code not in {0} | REFUSALS:
        look.fault(f"{' '.join(words)} exits with {done.code}: {done.err.strip()}")
    elif complaint := done.complaint():
        look.fault(f"{' '.join(words)} {complaint}")


def renew(origin: Store, store: Store) -> None:
    shutil.rmtree(store.root, ignore_errors=True)
    shutil.copytree(origin.root, store.root, copy_function=shutil.copy)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def foreign(rig: rigs.Rig, folder: Path, files: Path) -> None:
    """Things that nobody's name is on, in every folder: passed over, and left where they are."""
    store, oracle = made(rig.milepost, folder / "foreign", files)
    folders = [p for p in [store.root, *store.root.rglob("*")] if p.is_dir()]
    planted = []
    for place in folders:
        for plant in PLANTED:
            path = place / f"foreign {plant.__name__}"
            # What may hide a run stops every removal; a file cannot.
            if place.name == "runs" and plant not in (an_empty_file, a_foreign_file):
                continue
            plant(path)
            planted.append((path, path.lstat().st_mode))
    look = Look(rig, store, files, "with foreign things everywhere")
    rig.count("foreign things", len(planted))
    for wrong in oracles.check(store, oracle, KILLS):
        look.fault(wrong)
    for words in commands(files):
        done = store.run(*words)
        if done.code != 0:
            look.fault(f"{' '.join(words)} exits with {done.code}: {done.err.strip()}")
    for path, mode in planted:
        if not os.path.lexists(path) or path.lstat().st_mode != mode:
            look.fault(f"{path.relative_to(store.root)} is gone or changed")


def main() -> int:
    meaning = "try each so many-th thing in the wrong place"
    parser = rigs.arguments(__doc__, "every", 1, meaning)
    given = parser.parse_args()
    rig = rigs.Rig("permissions", given)
    with rigs.in_memory() as folder:
        # Another user must be able to come here.
        folder.chmod(0o755)
        files = folder / "files"
        files.mkdir()
        if why := rigs.lacking("mount", "mkfs.ext4", root=True):
            rig.skip(f"read-only mounts and other users: {why}")
        else:
            try:
                mounts.private()
                read_only(rig, folder, files)
            except OSError as error:
                rig.skip(f"read-only mounts: {error}")
            may_only_read(rig, folder, files)
        OUTSIDE.mkdir()
        try:
            in_place_of(rig, folder, files, given.every)
            foreign(rig, folder, files)
            for path in OUTSIDE.iterdir():
                rig.violation("faults", f"{path.name} was made outside of the store")
        finally:
            shutil.rmtree(OUTSIDE)
    return rig.end()


if __name__ == "__main__":
    sys.exit(main())
