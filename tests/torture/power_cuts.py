#!/usr/bin/env python3
"""Cuts the power of a real file system under milepost at work, again and again.

Trainers save, fork, tag, forget and collect on a file system in a file. At random moments that
file is cloned, in one instant: the page cache is lost, and the device keeps what it was given.
Each clone is mounted, which replays the journal, as if the machine had been started again, and
holds the store against what had been acknowledged before the cut.

With --savers the same cut is made behind other ways to save as well: see savers.py.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import random
import shutil
import signal
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import mounts
import oracle as oracles
import rig as rigs
import savers
from operations import Operation, Trainer, init
from oracle import POWER_CUTS, Oracle
from store import NO_STORE, Store

TRAINERS = ("north", "south")
# Cuts behind which a new, empty file system is made: its first save is as much at risk.
CUTS_OF_A_WORLD = 100
# What a cut is called behind which a store was looked at, and how long that may take.
CHECKED, CHECK_SECONDS = "cuts checked", 300
# How many of the last things that were done are told when something is wrong.
HISTORY = 12


class Cut(NamedTuple):
    """A clone, and what must be on it."""

    number: int
    image: Path
    oracle: Oracle
    history: list[str]


class World:
    """A mounted file system, the trainers at work on it, and what was acknowledged so far."""

    def __init__(self, rig: rigs.Rig, at: Path, files: Path, seed: str, relaxed: bool) -> None:
        self.rig, self.store = rig, Store(rig.milepost, at / "store")
        self.oracle = Oracle()
        self.history: deque[str] = deque(maxlen=HISTORY)
        self.wrong: list[str] = []
        # Who holds it may look at the oracle; no operation begins or is acknowledged meanwhile.
        self.lock = threading.Lock()
        self.stop = threading.Event()
        generators = [random.Random(f"{seed}/{name}") for name in TRAINERS]
        self.trainers = [Trainer(n, files, g, relaxed) for n, g in zip(TRAINERS, generators)]
        self.threads = [rig.thread(self.work, rigs.OTHER)]

    def work(self) -> None:
        """Makes the store, then lets every trainer work until it is told to stop."""
        with self.lock:
            created = init()
        self.do(created)
        act = [lambda t=t: self.train(t) for t in self.trainers]
        threads = [self.rig.thread(train, rigs.OTHER) for train in act]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def train(self, trainer: Trainer) -> None:
        while not self.stop.is_set():
            with self.lock:
                operation = trainer.next(self.oracle)
            if not self.do(operation):
                with self.lock:
                    self.oracle.settle(self.store, trainer.name)

    def do(self, operation: Operation) -> bool:
        with self.lock:
            operation.begin(self.oracle)
            self.history.append(f"begins: {operation}")
        done = self.store.run("--json", *operation.words)
        with self.lock:
            if done.code == 0:
                operation.acknowledged(self.oracle, done.out)
                self.history.append(f"acknowledged: {operation}")
            elif done.code not in operation.excused:
                self.wrong.append(f"{operation} exits with {done.code}: {done.err.strip()}")
        return done.code == 0

    def cut(self, image: Path, number: int, to: Path) -> Cut:
        with self.lock:
            mounts.clone(image, to)
            return Cut(number, to, self.oracle.copy(), list(self.history))

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


def after(store: Store, cut: Cut) -> list[str]:
    """What is wrong with a store behind a power cut."""
    if not cut.oracle.created:
        done = store.run("log")
        if done.code == NO_STORE:
            done = store.run("init")
        if done.code != 0:
            return [f"a store that was being made: {done.err.strip()}"]
    wrong = oracles.check(store, cut.oracle, POWER_CUTS)
    if cut.oracle.may_have_remains():
        wrong += oracles.clear(store)
    return wrong + oracles.recover(store, cut.oracle)


def checker(given: argparse.Namespace, folder: Path, cuts: Any, found: Any) -> None:
    """A process that mounts clones and checks them, as another boot would see them."""
    # Who is told to end is told by the process that waits for this one.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    mounts.end_with_parent()
    mounts.private()
    mounts.another_boot(folder)
    at = folder / f"checked-{multiprocessing.current_process().name}"
    while (cut := cuts.get()) is not None:
        store = Store(given.milepost.resolve(), at / "store")
        try:
            with mounts.mounted(cut.image, at, given.fs, given.mount_options):
                wrong = after(store, cut)
        except Exception as error:  # nobody would be told of it, and the next cut would wait
            wrong = [f"the check itself fails: {error!r}"]
        # Before the clone goes: one that shows a fault is worth keeping.
        if wrong and given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(cut.image, given.keep / f"cut-{cut.number}.img")
        cut.image.unlink()
        found.put((cut.number, store.compared, wrong, cut.history if wrong else []))


def cut_often(rig: rigs.Rig, given: argparse.Namespace, folder: Path) -> None:
    """Fresh worlds, one after the other, until the power was cut often enough."""
    forking = multiprocessing.get_context("fork")
    cuts, found = forking.Queue(maxsize=given.checkers), forking.Queue()
    checkers = [
        forking.Process(target=checker, args=(given, folder, cuts, found), name=f"checker-{i}")
        for i in range(given.checkers)
    ]
    for process in checkers:
        process.start()
    try:
        done = 0
        while done < given.cuts:
            count = min(CUTS_OF_A_WORLD, given.cuts - done)
            cut_a_world(rig, given, folder, range(done, done + count), cuts, found)
            done += count
    finally:
        for _ in checkers:
            with suppress(queue.Full):
                cuts.put(None, timeout=CHECK_SECONDS)
        for process in checkers:
            process.join(CHECK_SECONDS)
            if process.is_alive():
                process.kill()
        note(rig, found)
    if lost := given.cuts - rig.counts[CHECKED]:
        rig.violation(rigs.OTHER, f"{lost} cuts were not checked")


def cut_a_world(
    rig: rigs.Rig,
    given: argparse.Namespace,
    folder: Path,
    numbers: range,
    cuts: Any,
    found: Any,
) -> None:
    pool, files = folder / "pool", folder / "files"
    image, seed = pool / "world.img", f"{rig.seed}/{numbers.start}"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    mounts.make(image, given.fs)
    chance = random.Random(seed)
    with mounts.mounted(image, folder / "world", given.fs, given.mount_options) as at:
        # Relaxed saves may leave remains, which excuses something: every second world has none.
        relaxed = numbers.start // CUTS_OF_A_WORLD % 2 == 1
        world = World(rig, at, files, seed, relaxed)
        for thread in world.threads:
            thread.start()
        try:
            for number in numbers:
                # Longer than most operations: any moment of any of them.
                time.sleep(chance.uniform(0.0, given.pause))
                cuts.put(world.cut(image, number, pool / f"cut-{number}.img"))
                note(rig, found)
        finally:
            world.end()
    acknowledged = sum(trainer.step for trainer in world.trainers)
    rig.count("saves", acknowledged)
    for story in world.wrong:
        rig.violation(rigs.OTHER, f"a world of cut {numbers.start}: {story}")


def note(rig: rigs.Rig, found: Any) -> None:
    """Takes in what checkers found so far."""
    while not found.empty():
        number, compared, wrong, history = found.get()
        rig.count(CHECKED)
        rig.count("checkpoints restored and compared", compared)
        for story in wrong:
            kind = rigs.LOST if story.startswith("lost") else rigs.OTHER
            rig.violation(kind, f"cut {number}: {story}; before: {'; '.join(history)}")


def main() -> int:
    parser = rigs.arguments(__doc__, "cuts", 200, "how often the power is cut")
    parser.add_argument("--fs", choices=sorted(mounts.KINDS), default="ext4")
    parser.add_argument("--mount-options", default="", help="such as data=writeback")
    parser.add_argument("--pause", type=float, default=0.06, help="most seconds between two cuts")
    parser.add_argument("--checkers", type=int, default=2, help="processes that check clones")
    parser.add_argument("--savers", action="store_true", help="compare with other ways to save")
    parser.add_argument("--torch-python", type=Path, help="a python that has them, for --savers")
    parser.add_argument("--idle", type=float, default=7.0, help="seconds before the later cut")
    parser.add_argument("--keep", type=Path, help="a folder for the images of cuts that failed")
    given = parser.parse_args()
    name = "savers" if given.savers else f"power cuts on {given.fs}"
    rig = rigs.Rig(name, given, (rigs.LOST, rigs.OTHER))
    if given.savers and not (given.torch_python and given.torch_python.exists()):
        return rig.skip("needs --torch-python, a python with torch and safetensors")
    if why := rigs.lacking("mount", "mkfs.xfs", f"mkfs.{given.fs}", root=True):
        return rig.skip(why)
    with rigs.in_memory() as folder:
        try:
            mounts.private()
            with mounts.pool(folder):
                pass
        except OSError as error:
            return rig.skip(f"needs loop mounts, and clones on xfs: {error}")
        with mounts.pool(folder):
            (savers.compare if given.savers else cut_often)(rig, given, folder)
    return rig.end()


if __name__ == "__main__":
    sys.exit(main())
