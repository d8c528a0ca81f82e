#!/usr/bin/env python3
"""Fails, and kills at, every system call that changes something, one by one.

Usage: syscalls.py [--every K] [--milepost PATH]

Each command is traced undisturbed first. Then it is run again and again on a copy of the same
store: once for each call that changes files, names or locks, which fails with an error or in
which the process is killed (`strace --inject`; it counts the calls of each thread by itself).
Whatever happens, what was saved before is there, the command either says what failed or has
done what it was to do, and done again it works. With --every K only each K-th case is tried.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from subject import Ledger, Subject, Violation

CHANGING = (
    "write pwrite64 writev pwritev fsync fdatasync sync_file_range fallocate ftruncate "
    "link linkat rename renameat renameat2 unlink unlinkat rmdir mkdir mkdirat flock fchmod chmod "
    # The store's files, and no others, are opened by this one, to be read and to be made.
    "openat2"
).split()
ERRORS = {
    "write": ["EIO", "ENOSPC", "EINTR"],
    "pwrite64": ["EIO", "ENOSPC", "EINTR"],
    "fallocate": ["EIO", "ENOSPC", "EINTR"],
    "fsync": ["EIO", "ENOSPC"],
    "flock": ["EIO", "EINTR", "ENOLCK"],
    "linkat": ["EIO", "ENOSPC", "EDQUOT"],
    "mkdir": ["EIO", "ENOSPC"],
    "openat2": ["EIO", "ENOSPC", "EMFILE"],
}
SYNCS = ("fsync", "fdatasync")


@dataclasses.dataclass(frozen=True)
class Case:
    """One run of a command, disturbed at the n-th call of a name."""

    name: str
    n: int
    what: str  # an error, or the signal

    def injection(self) -> str:
        how = "signal=SIGKILL" if self.what == "SIGKILL" else f"error={self.what}"
        return f"inject={self.name}:{how}:when={self.n}"


def commands(subject: Subject) -> dict[str, list[str]]:
    """Each is run on a copy of the same store."""
    save = subject.save_args(("main", 9))
    return {
        "save": save,
        "save, verified": [*save, "--durability", "verified", "--tag", "best"],
        "save, relaxed": [*save, "--durability", "relaxed"],
        "fork": ["fork", "main@step:2", "side"],
        "tag": ["tag", "main@step:2", "best"],
        "forget": ["forget", "--keep-last", "1", "--no-gc"],
        "forget --drop": ["forget", "--keep-last", "1", "--drop", "optim.*", "--no-gc"],
        "gc": ["gc"],
        "compact": ["compact", "--idle-min", "0"],
        "compact --reencode": ["compact", "--reencode"],
    }


def template(subject: Subject) -> Ledger:
    """A store with something to save on, to drop, to collect and to merge."""
    ledger = Ledger()
    subject.must("init")
    for step in range(5):
        key = ("main", step)
        ledger.begin(key)
        ledger.acknowledge(key, subject.must("-q", *subject.save_args(key, "--tag", "old")).strip())
    subject.must("-q", *subject.save_args(("gone", 1), "--self-contained"))
    subject.must("forget", "gone", "--no-gc")
    return ledger


def calls(subject: Subject, argv: list[str], trace: Path) -> dict[str, range]:
    """How often the busiest thread makes each call that changes something."""
    names = ",".join(CHANGING)
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={names}", *subject.argv("-j", "2", *argv)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise Violation(f"{argv} fails undisturbed: {done.stderr}")
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for line in trace.read_text().splitlines():
        if found := re.match(r"(\d+)\s+(\w+)\(", line):
            thread, name = found.groups()
            counts[name][thread] += 1
    return {name: range(1, max(of_thread.values()) + 1) for name, of_thread in counts.items()}


def cases(ranges: dict[str, range]) -> list[Case]:
    return [
        Case(name, n, what)
        for name, numbers in sorted(ranges.items())
        for n in numbers
        for what in ["SIGKILL", *ERRORS.get(name, ["EIO"])]
    ]


def tried(subject: Subject, argv: list[str], case: Case, ledger: Ledger) -> None:
    under = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={case.name}", "-e", case.injection())
    done = subject.run("-j", "2", *argv, under=under)
    if "panicked" in done.stderr:
        raise Violation(f"a panic: {done.stderr}")
    if case.what != "SIGKILL" and done.returncode != 0 and not done.stderr.startswith("error: "):
        raise Violation(f"exit {done.returncode} and no error: {done.stderr!r}")
    # For want of space a save collects and begins again; after any other error it must not.
    if case.name in SYNCS and case.what == "EIO" and done.returncode == 0 and "relaxed" not in argv:
        raise Violation("a failed sync is passed over")
    is_forget, is_save = argv[0] == "forget", argv[0] in ("save", "fork")
    promise = ledger.promise()
    if is_forget:
        newest = max(promise.must, key=lambda key: key[1])
        promise.must = {newest: promise.must[newest]} if "--drop" not in argv else promise.must
    if is_save:
        key, content = (("main", 9), ("main", 9)) if argv[0] == "save" else (("side", 2), ("main", 2))
        promise.may |= {key}
        promise.content[key] = content
        if done.returncode == 0:
            promise.must[key] = next((c["id"] for c in subject.listed() if (c["run"], c["step"]) == key), "lost")
    hold(subject, promise, "--drop" in argv)
    again = subject.run(*argv)
    if again.returncode != 0 and "already" not in again.stderr:
        raise Violation(f"done again it fails: {again.stderr.strip()}")
    subject.must("gc")
    subject.must("verify", "--read-data")


def hold(subject: Subject, promise, is_thinned: bool) -> None:
    """Thinned checkpoints are held by their ids and the verification alone."""
    if is_thinned:
        found = {(c["run"], c["step"]): c["id"] for c in subject.listed()}
        if found != promise.must:
            raise Violation(f"other checkpoints than before: {sorted(found)}")
        return
    promise.check(subject, sample=2)


def torture(args: argparse.Namespace, folder: Path) -> dict[str, tuple[int, int]]:
    origin = Subject(args.milepost, folder / "origin", folder)
    ledger = template(origin)
    subject = Subject(args.milepost, folder / "store", folder)
    counted: dict[str, tuple[int, int]] = {}
    number = 0

    def fresh() -> None:
        shutil.rmtree(subject.store, ignore_errors=True)
        shutil.copytree(origin.store, subject.store)

    for name, argv in commands(subject).items():
        fresh()
        all_cases = cases(calls(subject, argv, folder / "trace"))
        done = 0
        for case in all_cases:
            number += 1
            if number % args.every:
                continue
            fresh()
            try:
                tried(subject, argv, case, ledger)
            except Violation as violation:
                raise Violation(f"{name}, {case.what} in {case.name} {case.n}: {violation}") from violation
            done += 1
        counted[name] = (done, len(all_cases))
        print(f"syscalls: {name}: {done} of {len(all_cases)} cases", flush=True)
    return counted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--milepost", type=Path, default=Path("target/release/milepost"))
    args = parser.parse_args()
    args.milepost = args.milepost.resolve()
    if not shutil.which("strace"):
        print("syscalls: skipped: there is no strace")
        return 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            counted = torture(args, Path(folder))
        except Violation as violation:
            print(f"syscalls: FAILED: {violation}")
            return 1
    done, of = (sum(c[i] for c in counted.values()) for i in (0, 1))
    print(
        f"syscalls: {done} of {of} cases in {len(counted)} commands, 0 checkpoints lost, "
        f"0 stores unusable, {time.monotonic() - started:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
