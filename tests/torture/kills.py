#!/usr/bin/env python3
"""Kills processes at random moments of saves, forks, deletions, collections and compactions.

Usage: kills.py [--kills N] [--seed N] [--workers N] [--milepost PATH]

Several trainers work on one store, each on its own runs; most of what they start is killed with
SIGKILL. Now and then all pause, and the store is held against what was acknowledged.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from subject import TIMEOUT_S, Ledger, Subject, Violation, leftovers
from workload import Trainer

ROUND = 60  # kills between two checks
KILL_WITHIN_S = 0.03


class Killer:
    """Runs commands; most do not come to their end."""

    def __init__(self, subject: Subject, rng: random.Random) -> None:
        self.subject, self.rng, self.kills = subject, rng, 0

    def __call__(self, argv: list[str]) -> subprocess.CompletedProcess[str] | None:
        process = subprocess.Popen(
            self.subject.argv(*argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if self.rng.random() < 0.7:
            time.sleep(self.rng.random() * KILL_WITHIN_S)
            process.kill()
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as hang:
            process.kill()
            raise Violation(f"{argv} hangs") from hang
        if process.returncode == -9:
            self.kills += 1
            return None
        return subprocess.CompletedProcess(argv, process.returncode, out, err)


def round_of(trainers: list[Trainer], killers: list[Killer], goal: int) -> None:
    """All work until together they were killed so often."""
    failures: list[Violation] = []

    def work(trainer: Trainer) -> None:
        try:
            while sum(k.kills for k in killers) < goal and not failures:
                trainer.act()
        except Violation as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(t,)) for t in trainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def torture(args: argparse.Namespace, folder: Path) -> tuple[int, int, int]:
    rng = random.Random(args.seed)
    subject, ledger = Subject(args.milepost, folder / "store", folder), Ledger()
    subject.must("init")
    killers = [Killer(subject, random.Random(rng.random())) for _ in range(args.workers)]
    trainers = [
        Trainer(subject, ledger, f"run{n}", random.Random(rng.random()), killer, relaxed_lasts=True)
        for n, killer in enumerate(killers)
    ]
    kills = checked = 0
    while kills < args.kills:
        round_of(trainers, killers, min(kills + ROUND, args.kills))
        kills = sum(k.kills for k in killers)
        checked += ledger.promise().check(subject)
        subject.must("gc")
        if left := leftovers(subject.store):
            raise Violation(f"left behind after {kills} kills: {left}")
        subject.must("verify", "--read-data")
    return kills, checked, sum(t.done for t in trainers)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--milepost", type=Path, default=Path("target/release/milepost"))
    args = parser.parse_args()
    args.milepost = args.milepost.resolve()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            kills, checked, done = torture(args, Path(folder))
        except Violation as violation:
            print(f"kills: FAILED with seed {args.seed}: {violation}")
            return 1
    print(
        f"kills: {kills} of {done} operations, {checked} checkpoints found and compared, "
        f"0 acknowledged ones lost, 0 wrong, {time.monotonic() - started:.0f} s, seed {args.seed}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
