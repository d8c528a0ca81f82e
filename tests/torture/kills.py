#!/usr/bin/env python3
"""Kills processes at random moments of all that changes a store, on one store that lives on.

Several trainers each begin something at the same time; each of these processes is killed at a
moment of its own, or comes to its end. Then the store is held against what was acknowledged, and
the next round begins on what is there. Now and then a collection must leave nothing behind.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import oracle as oracles
import rig as rigs
from operations import Operation, Trainer, compact, gc, init
from oracle import KILLS, Oracle
from store import HUNG, PATIENCE, Done, Store

KILLED = -9
# Rounds between two looks for leftovers.
COLLECT_EVERY = 10
# A process is killed up to so many seconds after its start: most take less.
LONGEST = 0.015


class Started:
    """An operation at work in a process that may be killed."""

    def __init__(self, store: Store, operation: Operation, kill_after: float | None) -> None:
        self.operation, self.kill_after = operation, kill_after
        command = store.command("--json", *operation.words)
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, **pipes)
        self.done = Done(HUNG, b"", "")
        self.thread = threading.Thread(target=self.wait)
        self.thread.start()

    def wait(self) -> None:
        if self.kill_after is not None:
            time.sleep(self.kill_after)
            self.process.kill()
        try:
            out, err = self.process.communicate(timeout=PATIENCE)
            self.done = Done(self.process.returncode, out, err.decode(errors="replace"))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()

    def __str__(self) -> str:
        moment = "" if self.kill_after is None else f", killed after {self.kill_after * 1e3:.1f} ms"
        return f"{self.operation} ({self.done.code}{moment})"


def kill_often(rig: rigs.Rig, kills: int, trainers: int, folder: Path) -> None:
    chance, store, oracle = random.Random(rig.seed), Store(rig.milepost, folder / "store"), Oracle()
    work = [Trainer(f"t{i}", folder, random.Random(f"{rig.seed}/{i}")) for i in range(trainers)]
    made = init()
    made.acknowledged(oracle, store.run("--json", *made.words).out)
    number = 0
    while rig.counts["kills"] < kills and not rig.wrong.total():
        number += 1
        begun = [trainer.next(oracle) for trainer in work]
        if chance.random() < 0.3:
            begun.append(chance.choice([gc(), compact("--idle-min", "0"), compact("--reencode")]))
        story = a_round(rig, store, oracle, begun, chance)
        rig.count("operations", len(begun))
        wrong = oracles.check(store, oracle, KILLS)
        if not wrong:
            oracle.settle(store)
        if number % COLLECT_EVERY == 0:
            wrong += collect(store)
        for what in wrong:
            kind = rigs.LOST if what.startswith("lost") else rigs.OTHER
            rig.violation(kind, f"round {number}: {what}; done at once: {story}")
    rig.count("rounds, each checked whole", number)
    rig.count("checkpoints restored and compared", store.compared)


def a_round(
    rig: rigs.Rig, store: Store, oracle: Oracle, begun: list[Operation], chance: random.Random
) -> str:
    """Begins all at once and waits for their ends; returns what happened."""
    for operation in begun:
        operation.begin(oracle)
    moments = [chance.uniform(0, LONGEST) if chance.random() < 0.85 else None for _ in begun]
    started = [Started(store, operation, moment) for operation, moment in zip(begun, moments)]
    for each in started:
        each.thread.join()
        if each.done.code == 0:
            each.operation.acknowledged(oracle, each.done.out)
            rig.count("acknowledged")
        elif each.done.code == KILLED:
            rig.count("kills")
        elif each.done.code not in each.operation.excused:
            rig.violation(rigs.OTHER, f"{each}: {each.done.err.strip()}")
    return "; ".join(map(str, started))


def collect(store: Store) -> list[str]:
    done = store.run("gc")
    if done.code != 0:
        return [f"gc exits with {done.code}: {done.err.strip()}"]
    return [f"left over after a collection: {name}" for name in store.leftovers()]


def main() -> int:
    parser = rigs.arguments(__doc__, "kills", 500, "how many processes are killed")
    parser.add_argument("--trainers", type=int, default=3, help="processes at the same time")
    given = parser.parse_args()
    rig = rigs.Rig("kills", given, (rigs.LOST, rigs.OTHER))
    with rigs.in_memory() as folder:
        kill_often(rig, given.kills, given.trainers, folder)
    return rig.end()


if __name__ == "__main__":
    sys.exit(main())
