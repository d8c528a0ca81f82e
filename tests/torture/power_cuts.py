#!/usr/bin/env python3
"""Cuts the power of a machine that saves, at random moments, and looks at what is left.

Usage: power_cuts.py [--cuts N] [--seed N] [--milepost PATH]

The store is on ext4 in an image. The image is copied in an instant while a trainer works on it:
the page cache is lost, the device keeps what it was given. The copy is mounted, which replays
the journal, and held against what had been acknowledged when it was made; then it is used again.
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

import volume
from subject import Ledger, Promise, Subject, Violation
from workload import Trainer

IMAGE_LEN = 64 << 20
PAUSE_MAX_S = 0.06


class Work(threading.Thread):
    """A trainer at work until it is told to stop; remembers what went wrong."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self.trainer, self.stop, self.failure = trainer, threading.Event(), None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.trainer.act()
        except Violation as failure:
            self.failure = failure


def cut(image: Path, copy: Path, ledger: Ledger) -> Promise:
    """Copies the image; what was acknowledged before must be there, what was begun may be."""
    before = ledger.promise()
    copy.unlink(missing_ok=True)
    volume.copy_in_an_instant(image, copy)
    after = ledger.promise()
    must = {key: id for key, id in before.must.items() if key in after.must}
    return Promise(must, before.may | after.may, after.content)


def survives(copy: Path, promise: Promise, command: Path, scratch: Path, again: bool) -> int:
    """Checks what is left and, now and then, goes on with it."""
    with volume.mounted(str(copy), "-o", "loop") as folder:
        subject = Subject(command, folder / "store", scratch)
        # A relaxed save of the boot that ended may be there in part: that is no damage.
        cleared = subject.run("forget", "--damaged", "--no-gc")
        if cleared.returncode != 0:
            raise Violation(f"what was lost cannot be cleared away: {cleared.stderr.strip()}")
        found = promise.check(subject)
        subject.must("verify", "--read-data")
        if again:
            id = subject.must("-q", *subject.save_args(("after", 1))).strip()
            subject.must("gc")
            must, may = promise.must | {("after", 1): id}, promise.may | {("after", 1)}
            Promise(must, may, promise.content).check(subject)
            subject.must("verify", "--read-data")
    return found


def torture(args: argparse.Namespace, shelf: Path, scratch: Path) -> tuple[int, int]:
    rng = random.Random(args.seed)
    image, copy = shelf / "disk", shelf / "cut"
    volume.make_ext4(image, IMAGE_LEN)
    checked = 0
    with volume.mounted(str(image), "-o", "loop") as folder:
        subject = Subject(args.milepost, folder / "store", scratch / "writer")
        subject.scratch.mkdir()
        subject.must("init")
        ledger = Ledger()

        def runner(argv: list[str]) -> subprocess.CompletedProcess[str]:
            return subject.run(*argv)

        work = Work(Trainer(subject, ledger, "main", random.Random(args.seed), runner, relaxed_lasts=False))
        work.start()
        try:
            for number in range(args.cuts):
                time.sleep(rng.random() * PAUSE_MAX_S)
                promise = cut(image, copy, ledger)
                try:
                    checked += survives(copy, promise, args.milepost, scratch, again=number % 4 == 0)
                except Violation as violation:
                    raise Violation(f"cut {number} of seed {args.seed}: {violation}") from violation
                if work.failure:
                    raise work.failure
        finally:
            work.stop.set()
            work.join()
        return checked, work.trainer.done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--milepost", type=Path, default=Path("target/release/milepost"))
    args = parser.parse_args()
    args.milepost = args.milepost.resolve()
    if why := volume.missing("mkfs.ext4", "mkfs.xfs"):
        print(f"power cuts: skipped: {why}")
        return 0
    started = time.monotonic()
    with volume.shelf(IMAGE_LEN * 6) as shelf, tempfile.TemporaryDirectory() as scratch:
        try:
            checked, done = torture(args, shelf, Path(scratch))
        except Violation as violation:
            print(f"power cuts: FAILED: {violation}")
            return 1
    print(
        f"power cuts: {args.cuts} during {done} operations, {checked} checkpoints found and compared, "
        f"0 acknowledged ones lost, 0 wrong, {time.monotonic() - started:.0f} s, seed {args.seed}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
