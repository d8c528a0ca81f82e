#!/usr/bin/env python3
"""Saves, forgets and collects on disks that are full, at every amount of room.

A store lies on a small file system, in memory and on ext4, with so much room left: no byte, a
block, two blocks, until there is enough; the same with names (inodes), with open files and with
the length of a file. A save works, or exits with 15, says why in a sentence, and leaves nothing:
the disk is as full as before. What was saved is there. On a disk without a free byte checkpoints
can still be forgotten, their space comes back, and the save works then.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import mounts
import operations
import oracle as oracles
import rig as rigs
from operations import Operation
from oracle import KILLS, Oracle
from store import NO_SPACE, Store

BLOCK = 4096
SIZE = 8 << 20
STEPS = 4
# Of two sizes: one that is written at once, and one that takes many blocks.
RUNS = ("main", "large")
# Room that is surely enough for one save.
MOST_BLOCKS = 400
# Blocks that folders may keep once they have grown, and lock files their names.
SLACK = 4 * BLOCK
SLACK_NAMES = 8


def filled(
    milepost: Path, root: Path, files: Path, run: str = "main"
) -> tuple[Store, Oracle]:
    """A store with a few checkpoints that share nothing, so that each gives room when it goes."""
    store, oracle = Store(milepost, root), Oracle()
    done_to(store, oracle, operations.init())
    for step in range(1, STEPS + 1):
        operation = operations.save(files, (run, step))
        operation.words.append("--self-contained")
        done_to(store, oracle, operation)
    return store, oracle


def done_to(store: Store, oracle: Oracle, operation: Operation) -> None:
    operation.begin(oracle)
    done = store.run("--json", *operation.words)
    if done.code != 0:
        raise OSError(f"{operation}: {done.err}")
    operation.acknowledged(oracle, done.out)


def used(at: Path) -> tuple[int, int]:
    """Bytes and names that a file system holds."""
    stat = os.statvfs(at)
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize, stat.f_files - stat.f_ffree


class Sweep:
    """One file system, and saves into it with more and more room."""

    def __init__(self, rig: rigs.Rig, at: Path, files: Path, name: str, run: str) -> None:
        self.rig, self.at, self.files, self.name = rig, at, files, name
        self.store, self.oracle = filled(rig.milepost, at / "store", files, run)
        self.run, self.next = run, (run, STEPS + 1)

    def fault(self, room: int, story: str) -> None:
        self.rig.violation("faults", f"{self.name}, room {room}: {story}")

    def save(self, room: int) -> bool:
        """Whether there was enough room; if not, all must be as it was."""
        before, oracle = used(self.at), self.oracle.copy()
        operation = operations.save(self.files, self.next)
        operation.words.append("--self-contained")
        operation.begin(oracle)
        done = self.store.run(*operation.words)
        self.rig.count(f"saves on {self.name}")
        if done.code == 0:
            for wrong in oracles.check(self.store, self.with_save(), KILLS):
                self.fault(room, wrong)
            return True
        if complaint := done.complaint():
            self.fault(room, complaint)
        if done.code != NO_SPACE:
            self.fault(room, f"exits with {done.code}, not {NO_SPACE}: {done.err.strip()}")
        after = used(self.at)
        if after[0] > before[0] + SLACK or after[1] > before[1] + SLACK_NAMES:
            self.fault(room, f"leaves {after[0] - before[0]} bytes, {after[1] - before[1]} names")
        for wrong in oracles.check(self.store, oracle, KILLS):
            self.fault(room, wrong)
        return False

    def rescue(self) -> None:
        """What must be possible without any room: forgetting, collecting, and then saving."""
        before = used(self.at)
        # Two: the folder of the new pack may be a new one, and takes room as well.
        going = [(self.run, step) for step in (1, 2)]
        forget = [operations.forget(key, collect=False).words for key in going]
        for words in [*forget, ["gc"]]:
            done = self.store.run(*words)
            if done.code != 0:
                self.fault(0, f"{words[0]} on a full disk exits with {done.code}: {done.err}")
        for key in going:
            self.oracle.is_gone(key)
        after = used(self.at)
        if after[0] >= before[0]:
            self.fault(0, f"nothing is freed: {before[0]} bytes used before, {after[0]} after")
        self.rig.count(f"rescues of a full {self.name}")
        if not self.save(0):
            self.fault(0, "no room for a save in place of two checkpoints as large")

    def with_save(self) -> Oracle:
        oracle = self.oracle.copy()
        oracle.entries[self.next] = oracles.Entry(self.next, self.next, oracles.POWER_CUTS)
        return oracle


def until_enough(sweep: Sweep, limit: Callable[[int], None], step: int) -> None:
    """Saves with room for nothing, and for `step` more each time, until one works."""
    for room in range(0, MOST_BLOCKS, step):
        limit(room)
        if sweep.save(room):
            sweep.rig.count(f"rooms that were enough on {sweep.name}")
            return
    sweep.fault(MOST_BLOCKS, "still not enough")


def in_memory(
    rig: rigs.Rig, folder: Path, files: Path, run: str, step: int, rescue: bool
) -> None:
    with mounts.in_memory(folder / "memory", SIZE) as at:
        sweep = Sweep(rig, at, files, "tmpfs", run)

        def limit(room: int) -> None:
            size = used(at)[0] + room * BLOCK
            mounts.call("mount", "-o", f"remount,size={size}", at)

        limit(0)
        sweep.rescue() if rescue else until_enough(sweep, limit, step)


def on_ext4(
    rig: rigs.Rig, folder: Path, files: Path, run: str, step: int, rescue: bool
) -> None:
    image = folder / "disk.img"
    mounts.make(image, "ext4", SIZE, "-b", BLOCK, "-O", "^has_journal")
    with mounts.mounted(image, folder / "disk") as at:
        sweep, ballast = Sweep(rig, at, files, "ext4", run), at / "ballast"
        names = used(at)[1]

        def limit(room: int) -> None:
            ballast.unlink(missing_ok=True)
            os.sync()
            stat = os.statvfs(at)
            fill(ballast, (stat.f_bavail - room) * BLOCK)

        limit(0)
        sweep.rescue() if rescue else until_enough(sweep, limit, step)
        if used(at)[1] < names:
            sweep.fault(0, "names were lost")
    image.unlink()


def fill(ballast: Path, length: int) -> None:
    """A file of so many bytes, or as large as there is room: its own map takes blocks as well."""
    with open(ballast, "wb") as file:
        while length > 0:
            try:
                os.posix_fallocate(file.fileno(), 0, length)
                return
            except OSError:
                length -= BLOCK


def out_of_names(rig: rigs.Rig, folder: Path, files: Path) -> None:
    """Room for bytes, but for so many more names only."""
    image = folder / "names.img"
    mounts.make(image, "ext4", SIZE, "-b", BLOCK, "-N", 128)
    with mounts.mounted(image, folder / "names") as at:
        sweep, ballast = Sweep(rig, at, files, "a disk without names", "main"), at / "ballast"

        def limit(room: int) -> None:
            shutil.rmtree(ballast, ignore_errors=True)
            ballast.mkdir()
            for number in range(os.statvfs(at).f_ffree - room):
                (ballast / str(number)).touch()

        until_enough(sweep, limit, 1)
    image.unlink()


def few_open_files(rig: rigs.Rig, folder: Path, files: Path, most: int) -> None:
    """Every small number of files that a process may have open."""
    store, oracle = filled(rig.milepost, folder / "few", files)
    enough = 0
    for limit in range(3, most):
        operation = operations.save(files, ("main", STEPS + limit))
        operation.begin(oracle)

        def apply(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

        done = store.run(*operation.words, preexec_fn=apply)
        rig.count("saves with few open files")
        # Below that, the system cannot even load the program.
        if done.code == 0:
            operation.acknowledge(oracle, {})
            enough += 1
        elif done.code != 127 and (complaint := done.complaint()):
            rig.violation("faults", f"{limit} open files: {complaint}")
        for wrong in oracles.check(store, oracle, KILLS):
            rig.violation("faults", f"{limit} open files: {wrong}")
        oracle.settle(store)
    if enough == 0:
        rig.violation("faults", f"{most} open files are not enough for any save")


def main() -> int:
    parser = rigs.arguments(__doc__, "blocks", 1, "blocks of 4 KiB between two amounts of room")
    given: argparse.Namespace = parser.parse_args()
    rig = rigs.Rig("full disks", given)
    if why := rigs.lacking("mount", "mkfs.ext4", root=True):
        return rig.skip(why)
    with rigs.in_memory() as folder:
        files = folder / "files"
        files.mkdir()
        try:
            mounts.private()
        except OSError as error:
            return rig.skip(f"needs mounts: {error}")
        for disk, run in itertools.product((in_memory, on_ext4), RUNS):
            step = given.blocks if run == "large" else 1
            disk(rig, folder, files, run, step, rescue=False)
            disk(rig, folder, files, run, step, rescue=True)
        out_of_names(rig, folder, files)
        few_open_files(rig, folder, files, 32)
    return rig.end()


if __name__ == "__main__":
    sys.exit(main())
