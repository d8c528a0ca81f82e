#!/usr/bin/env python3
"""Writers, readers and a collector on one store for a while; nobody may notice the others.

Usage: soak.py [--seconds N] [--writers N] [--readers N] [--seed N] [--milepost PATH]
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

import training
from subject import LOCKED, NOT_FOUND, Ledger, Subject, Violation
from workload import Trainer


class Soak:
    """All threads, and the first thing that went wrong."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.ledger = Ledger()
        self.end = time.monotonic() + args.seconds
        self.failure: Violation | None = None
        self.counts = {"written": 0, "restored": 0, "collected": 0}

    def subject(self, name: str) -> Subject:
        scratch = self.folder / name
        scratch.mkdir(exist_ok=True)
        return Subject(self.args.milepost, self.folder / "store", scratch)

    def until_the_end(self, act) -> None:
        try:
            while time.monotonic() < self.end and not self.failure:
                act()
        except Violation as failure:
            self.failure = self.failure or failure

    def writer(self, number: int) -> None:
        subject = self.subject(f"writer{number}")

        def runner(argv: list[str]) -> subprocess.CompletedProcess[str]:
            return subject.run(*argv)

        rng = random.Random(f"{self.args.seed} {number}")
        trainer = Trainer(subject, self.ledger, f"run{number}", rng, runner, relaxed_lasts=True)
        self.until_the_end(trainer.act)
        self.counts["written"] += trainer.done

    def reader(self, number: int) -> None:
        subject, rng = self.subject(f"reader{number}"), random.Random(number)

        def act() -> None:
            promise = self.ledger.promise()
            if not promise.must:
                return
            key = rng.choice(sorted(promise.must))
            out = subject.scratch / "out"
            out.unlink(missing_ok=True)
            done = subject.run("restore", f"{key[0]}@step:{key[1]}", "-o", str(out))
            dropped = key not in self.ledger.promise().must
            if done.returncode == NOT_FOUND and dropped:
                return
            if done.returncode != 0:
                raise Violation(f"{key}: exit {done.returncode}: {done.stderr.strip()}")
            if out.read_bytes() != training.state(promise.content.get(key, key)):
                raise Violation(f"{key} comes back wrong")
            self.counts["restored"] += 1

        self.until_the_end(act)

    def collector(self) -> None:
        subject = self.subject("collector")

        def act() -> None:
            done = subject.run("gc")
            if done.returncode not in (0, LOCKED):
                raise Violation(f"gc: exit {done.returncode}: {done.stderr.strip()}")
            self.counts["collected"] += done.returncode == 0

        self.until_the_end(act)

    def run(self) -> None:
        subject = self.subject("checker")
        subject.must("init")
        threads = [threading.Thread(target=self.writer, args=(n,)) for n in range(self.args.writers)]
        threads += [threading.Thread(target=self.reader, args=(n,)) for n in range(self.args.readers)]
        threads.append(threading.Thread(target=self.collector))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failure:
            raise self.failure
        self.ledger.promise().check(subject, sample=1000)
        subject.must("verify", "--read-data")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--milepost", type=Path, default=Path("target/release/milepost"))
    args = parser.parse_args()
    args.milepost = args.milepost.resolve()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(args, Path(folder))
        try:
            soak.run()
        except Violation as violation:
            print(f"soak: FAILED with seed {args.seed}: {violation}")
            return 1
    counts = ", ".join(f"{count} {what}" for what, count in soak.counts.items())
    print(f"soak: {args.writers} writers, {args.readers} readers, {args.seconds:.0f} s: {counts}, 0 errors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
