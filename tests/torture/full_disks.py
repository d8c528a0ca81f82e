#!/usr/bin/env python3
"""Saves on disks that fill up, at every amount of free space.

Usage: full_disks.py [--step-bytes N] [--milepost PATH]

A store is put on a small file system in memory with so much free space, from none to more than
enough, in steps. A save there works, or says that there is no space and leaves nothing behind;
what was saved before is there; on the disk that is then filled to the last byte, checkpoints can
be forgotten and their space collected, and the save works. The same with ext4, and with a
disk that has space but no room for more names.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import volume
from subject import NO_SPACE, Ledger, Promise, Subject, Violation

PAGE = 4096
CHECKPOINTS = 4


def template(subject: Subject) -> Promise:
    ledger = Ledger()
    subject.must("init")
    for step in range(CHECKPOINTS):
        key = ("main", step)
        ledger.begin(key)
        saved = subject.must("-q", *subject.save_args(key, "--self-contained"))
        ledger.acknowledge(key, saved.strip())
    return ledger.promise()


def used(folder: Path) -> int:
    """Bytes of files, lock files and folders left out: they stay."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".lock", ".txn"))
    return sum(p.stat().st_size for p in files)


def save_in(subject: Subject, promise: Promise) -> bool:
    """Whether there was room; if not, all must be as it was."""
    before = used(subject.store)
    done = subject.run(*subject.save_args(("main", 9)))
    if done.returncode == NO_SPACE:
        if not done.stderr.startswith("error: ") or "panicked" in done.stderr:
            raise Violation(f"an unclear error: {done.stderr!r}")
        if used(subject.store) > before:
            raise Violation(f"{used(subject.store) - before} bytes are left behind")
        promise.check(subject, sample=1)
        return False
    if done.returncode != 0:
        raise Violation(f"exit {done.returncode}: {done.stderr.strip()}")
    return True


def make_room(subject: Subject, folder: Path, promise: Promise) -> None:
    """Fills the disk to the brim; deletion must work, and then the save."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            pass
    subject.must("forget", "--keep-last", "1")
    kept = {key: id for key, id in promise.must.items() if key[1] == CHECKPOINTS - 1}
    Promise(kept, promise.may, promise.content).check(subject)
    filler.unlink()
    subject.must(*subject.save_args(("main", 9)))
    subject.must("verify", "--read-data")


def sweep(args: argparse.Namespace, origin: Subject, promise: Promise, scratch: Path) -> tuple[int, int]:
    """Every amount of free space; returns how many and how many were enough."""
    files = [p for p in origin.store.rglob("*") if p.is_file()]
    size = sum(-(-p.stat().st_size // PAGE) * PAGE for p in files)
    tried = enough = free = 0
    while enough < 3:
        with volume.tmpfs(size + free) as folder:
            shutil.copytree(origin.store, folder / "store")
            subject = Subject(args.milepost, folder / "store", scratch)
            try:
                if save_in(subject, promise):
                    enough += 1
                else:
                    make_room(subject, folder, promise)
            except Violation as violation:
                raise Violation(f"{free} bytes free: {violation}") from violation
        tried += 1
        free += args.step_bytes
    return tried, enough


def on_ext4(args: argparse.Namespace, origin: Subject, promise: Promise, scratch: Path, *flags: str) -> int:
    """Saves until the disk is full; returns how many worked."""
    image = scratch / "disk"
    volume.make_ext4(image, 3 << 20, *flags)
    with volume.mounted(str(image), "-o", "loop") as folder:
        shutil.copytree(origin.store, folder / "store")
        subject = Subject(args.milepost, folder / "store", scratch)
        must, saved = dict(promise.must), 0
        while True:
            key = ("main", 100 + saved)
            done = subject.run("-q", *subject.save_args(key, "--self-contained"))
            if done.returncode != 0:
                break
            must[key], saved = done.stdout.strip(), saved + 1
        if done.returncode != NO_SPACE:
            raise Violation(f"exit {done.returncode}: {done.stderr.strip()}")
        now = Promise(must, promise.may | set(must), promise.content)
        now.check(subject)
        subject.must("forget", "--keep-last", "1")
        subject.must(*subject.save_args(("main", 999)))
        subject.must("verify", "--read-data")
        return saved


def few_descriptors(args: argparse.Namespace, origin: Subject, promise: Promise, scratch: Path) -> int:
    """Every small limit of open files: an error, or the work is done."""
    worked = 0
    for limit in range(4, 40):
        store = scratch / "copy"
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(origin.store, store)
        subject = Subject(args.milepost, store, scratch)
        done = subject.run(*subject.save_args(("main", 9)), under=("prlimit", f"--nofile={limit}"))
        if "panicked" in done.stderr or (done.returncode != 0 and not done.stderr.strip()):
            raise Violation(f"{limit} descriptors: {done.stderr!r}")
        may = Promise(promise.must, promise.may | {("main", 9)}, promise.content)
        may.check(subject, sample=1)
        worked += done.returncode == 0
    return worked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step-bytes", type=int, default=PAGE)
    parser.add_argument("--milepost", type=Path, default=Path("target/release/milepost"))
    args = parser.parse_args()
    args.milepost = args.milepost.resolve()
    if why := volume.missing("mkfs.ext4", "prlimit"):
        print(f"full disks: skipped: {why}")
        return 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        origin = Subject(args.milepost, scratch / "origin", scratch)
        try:
            promise = template(origin)
            tried, enough = sweep(args, origin, promise, scratch)
            saved = on_ext4(args, origin, promise, scratch)
            named = on_ext4(args, origin, promise, scratch, "-N", "400")
            opened = few_descriptors(args, origin, promise, scratch)
        except (Violation, subprocess.CalledProcessError) as violation:
            print(f"full disks: FAILED: {violation}")
            return 1
    print(
        f"full disks: {tried} amounts of free space, {enough} of them enough; ext4 full after {saved} saves, "
        f"out of names after {named}; {opened} of 36 limits of open files were enough; "
        f"nothing lost or left behind, {time.monotonic() - started:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
