#!/usr/bin/env python3
"""Trainers, readers and a collector on one store for a while: nobody may notice the others.

Trainers save, fork, tag and forget, each in runs of its own; the collector forgets by rule in
runs that only it may forget from, and collects and compacts without end. Readers restore what
is listed at any moment and compare every byte. Whatever fails is a fault, but that something is
not found that was deleted meanwhile, or that another collector is at work.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import operations
import oracle as oracles
import rig as rigs
import states
from operations import Operation, Trainer
from oracle import KILLS, Entry, Oracle, Refused
from store import LOCKED, NOT_FOUND, Store

# Checkpoints that the collector leaves in a run.
KEPT = 3


class Soak:
    """Everybody at work on one store."""

    def __init__(self, rig: rigs.Rig, given: argparse.Namespace, folder: Path) -> None:
        self.rig, self.folder = rig, folder
        self.store, self.oracle = Store(rig.milepost, folder / "store"), Oracle()
        self.lock = threading.Lock()
        self.end = time.monotonic() + given.seconds
        self.do(operations.init())
        trainers = [Trainer(f"t{i}", folder, self.chance(f"t{i}")) for i in range(given.writers)]
        work: list[Callable[[], None]] = [lambda t=t: self.train(t) for t in trainers]
        savers = [f"saver-{i}" for i in range(max(1, given.writers // 2))]
        work += [lambda run=run: self.save_on(run) for run in savers]
        work += [lambda i=i: self.read(self.chance(f"r{i}")) for i in range(given.readers)]
        self.collected = savers
        self.threads = [rig.thread(act, "failed") for act in [*work, self.collect]]

    def chance(self, name: str) -> random.Random:
        return random.Random(f"{self.rig.seed}/{name}")

    def going_on(self) -> bool:
        return time.monotonic() < self.end

    def do(self, operation: Operation) -> bool:
        with self.lock:
            operation.begin(self.oracle)
        done = self.store.run("--json", *operation.words)
        with self.lock:
            self.rig.count(f"{operation.words[0]}s")
            if done.code == 0:
                operation.acknowledged(self.oracle, done.out)
            elif done.code not in operation.excused:
                self.rig.violation("failed", f"{operation}: {done.code}: {done.err.strip()}")
        return done.code == 0

    def train(self, trainer: Trainer) -> None:
        while self.going_on():
            with self.lock:
                operation = trainer.next(self.oracle)
            if not self.do(operation):
                with self.lock:
                    self.oracle.settle(self.store, trainer.name)

    def save_on(self, run: str) -> None:
        """A run that grows, and whose old checkpoints the collector takes away."""
        step = 0
        while self.going_on():
            step += 1
            file = self.folder / f"{run}.safetensors"
            file.write_bytes(states.state(run, step))
            words = ["save", file, "--run", run, "--step", step]
            done = self.store.run(*words)
            self.rig.count("saves")
            if done.code != 0:
                self.rig.violation("failed", f"save {run} {step}: {done.code}: {done.err.strip()}")
        # The last ones are there, whatever was collected.
        with self.lock:
            for last in range(max(1, step - KEPT + 1), step + 1):
                self.oracle.entries[run, last] = Entry((run, last), (run, last), KILLS)

    def collect(self) -> None:
        chance = self.chance("collector")
        while self.going_on():
            rule = ["--keep-last", KEPT, "--run", chance.choice(self.collected)]
            for words in [["forget", *rule], chance.choice([["gc"], ["compact", "--idle-min", 0]])]:
                done = self.store.run(*words)
                self.rig.count("collections")
                # A run may not be there yet.
                if done.code not in (0, LOCKED, NOT_FOUND):
                    self.rig.violation("failed", f"{words}: {done.code}: {done.err.strip()}")

    def read(self, chance: random.Random) -> None:
        while self.going_on():
            try:
                log = self.store.ask("log")
            except Refused as refused:
                self.rig.violation("failed", str(refused))
                continue
            if log["damaged"]:
                self.rig.violation("damage", f"{log['damaged']}")
            for listed in chance.sample(log["checkpoints"], min(3, len(log["checkpoints"]))):
                self.restore(listed["run"], listed["step"])

    def restore(self, run: str, step: int) -> None:
        revision = f"{run}@step:{step}"
        done = self.store.run("-q", "restore", revision, "-o", "-")
        thin = done.code == NOT_FOUND and "thinned" in done.err
        if thin:
            done = self.store.run("-q", "restore", revision, "-o", "-", "--kept")
        self.rig.count("restores")
        if done.code == NOT_FOUND:
            self.rig.count("of them gone meanwhile")
            self.is_gone(run, step)
        elif done.code != 0:
            self.rig.violation("failed", f"restore {revision}: {done.code}: {done.err.strip()}")
        elif not self.is_right(run, step, done.out, thin):
            self.rig.violation("wrong bytes", revision)

    def is_gone(self, run: str, step: int) -> None:
        """What was not found must not be promised; a fork may have been made again meanwhile."""
        promised = [self.is_promised(run, step)]
        done = self.store.run("-q", "restore", f"{run}@step:{step}", "-o", "-", "--kept")
        promised.append(self.is_promised(run, step))
        if done.code == NOT_FOUND and all(promised):
            self.rig.violation("lost", f"{run}@step:{step} was not found")

    def is_promised(self, run: str, step: int) -> bool:
        with self.lock:
            entry = self.oracle.entries.get((run, step))
            return entry is not None and entry.promise > oracles.NOTHING

    def is_right(self, run: str, step: int, found: bytes, thin: bool) -> bool:
        """A fork holds what its step was saved as in one of its trainer's runs."""
        trainer = run.split("-trial-")[0]
        names = [run, trainer, *(f"{trainer}-trial-{i}" for i in range(3))]
        if thin:
            return any(not states.differs(found, states.thinned(name, step)) for name in names)
        return any(found == states.state(name, step) for name in names)

    def run(self) -> None:
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        done = self.store.run("forget", "--keep-last", KEPT, *self.runs_collected())
        if done.code != 0:
            self.rig.violation("failed", f"the last forget: {done.err.strip()}")
        for wrong in oracles.check(self.store, self.oracle, KILLS):
            self.rig.violation("at the end", wrong)
        for wrong in oracles.recover(self.store, Oracle()):
            self.rig.violation("at the end", wrong)

    def runs_collected(self) -> list[str]:
        return [word for run in self.collected for word in ("--run", run)]


def main() -> int:
    parser = rigs.arguments(__doc__, "seconds", 60, "how long all are at work")
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument("--readers", type=int, default=3)
    given = parser.parse_args()
    rig = rigs.Rig("soak", given, ("failed", "lost", "wrong bytes", "at the end"))
    with rigs.in_memory() as folder:
        Soak(rig, given, folder).run()
    return rig.end()


if __name__ == "__main__":
    sys.exit(main())
