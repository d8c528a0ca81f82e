#!/usr/bin/env python3
"""Fails, and kills at, every system call of a command that changes something, one by one.

Each command is traced undisturbed on a copy of one store. Then it runs again and again on fresh
copies: once for each of those calls and each thing that may happen there, by `strace --inject`.
Whatever happens, the store is sound and holds what it held, the command has done its work or
says in one sentence what failed, and done again it works.

What is covered: strace counts the calls of each thread on its own, so the commands run with -j 1,
where one thread makes all of them; the summary tells how many calls were met and how many were
not. Reading calls are left alone but for `openat2`, by which all files of a store are opened, and
so is what the loader opens before the command begins. strace cannot write half: a write that is
cut short is made with a limit of the file's size. It can say that all was written and write
nothing, as a device that lies: of that, verified saves must not be taken in.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import operations
import oracle as oracles
import rig as rigs
import states
from operations import Operation
from oracle import KILLS, Oracle
from store import Done, Store

CHANGING = (
    "openat2 openat creat write pwrite64 writev pwritev pwritev2 fsync fdatasync syncfs "
    "sync_file_range fallocate ftruncate link linkat rename renameat renameat2 unlink unlinkat "
    "rmdir mkdir mkdirat symlinkat flock fcntl fchmod fchmodat chmod utimensat copy_file_range"
).split()
SYNCS = ("fsync", "fdatasync", "syncfs", "sync_file_range")
KILLED = -9
# What may happen at a call. A plus: from that call on, as when a device or a disk is gone.
KILL, SHORT, LOST = "killed", "written in part", "not written at all"
FAULTS = [KILL, "EIO", "EIO+", "ENOSPC", "ENOSPC+", "EINTR"]


@dataclass
class Command:
    """What is tried, and whether a failed sync may pass."""

    name: str
    operation: Callable[[], Operation]
    syncs: bool = True


@dataclass(frozen=True)
class Case:
    """One disturbed run."""

    call: str
    number: int
    fault: str
    length: int = 0

    def before(self, log: Path) -> list[str]:
        plus = "+" if self.fault.endswith("+") else ""
        special = {KILL: "signal=KILL", LOST: f"retval={self.length}"}
        how = special.get(self.fault, f"error={self.fault.rstrip('+')}")
        inject = f"inject={self.call}:{how}:when={self.number}{plus}"
        # Faster, but in this mode strace sends no signals.
        mode = [] if self.fault == KILL else ["--seccomp-bpf"]
        only = ["-e", f"trace={self.call}", "-e", inject]
        return ["strace", "-f", "-qq", *mode, "-o", str(log), *only]

    def __str__(self) -> str:
        return f"{self.fault} at {self.call} {self.number}"


class Template:
    """A store with something of everything, copied for each run."""

    def __init__(self, milepost: Path, folder: Path) -> None:
        self.folder, self.milepost = folder, milepost
        self.oracle, self.store = Oracle(), Store(milepost, folder / "template")
        self.copy = Store(milepost, folder / "copy")
        for operation in self.history():
            operation.begin(self.oracle)
            done = self.store.run("--json", *operation.words)
            if done.code != 0:
                sys.exit(f"{operation}: {done.err}")
            operation.acknowledged(self.oracle, done.out)
        # As writers leave it that were killed.
        (self.store.root / "txn" / f"{7:032x}.txn").touch()
        (self.store.root / "txn" / f"{7:032x}.{0:08x}.tmp").touch()

    def history(self) -> Iterator[Operation]:
        yield operations.init()
        for step in range(1, 5):
            tag = f"at-{step}" if step < 3 else None
            yield operations.save(self.folder, ("main", step), tag=tag)
        yield operations.fork(("main", 2), "side")
        yield operations.save(self.folder, ("side", 3))
        yield operations.save(self.folder, ("loose", 4), "relaxed")
        yield operations.save(self.folder, ("gone", 6))
        yield operations.forget(("gone", 6), collect=False)

    def commands(self) -> list[Command]:
        def save(durability: str) -> Callable[[], Operation]:
            return lambda: operations.save(self.folder, ("main", 9), durability, "best")

        return [
            Command("save", save("durable")),
            Command("save, verified", save("verified")),
            # But for the tag, it waits for nothing.
            Command("save, relaxed", save("relaxed"), syncs=False),
            Command("save on relaxed", lambda: operations.save(self.folder, ("loose", 5))),
            Command("fork", lambda: operations.fork(("main", 1), "new")),
            Command("fork of relaxed", lambda: operations.fork(("loose", 4), "new")),
            Command("tag", lambda: operations.tag(("main", 3), "at-1")),
            Command("tag --delete", lambda: operations.untag("at-1")),
            Command("forget", lambda: operations.forget(("main", 2))),
            Command("forget by rule", lambda: operations.keep_last("main", 1)),
            Command("forget --drop", lambda: operations.thin(("main", 1))),
            Command("gc", operations.gc),
            Command("compact", lambda: operations.compact("--idle-min", "0")),
            Command("compact --reencode", lambda: operations.compact("--reencode")),
        ]

    def fresh(self) -> tuple[Store, Oracle]:
        shutil.rmtree(self.copy.root, ignore_errors=True)
        shutil.copytree(self.store.root, self.copy.root, copy_function=shutil.copy)
        return self.copy, self.oracle.copy()


class Call(NamedTuple):
    """One changing call: its name, which of its name it is, and its line of the trace."""

    name: str
    number: int
    line: str

    def is_of_store(self) -> bool:
        """Whether it is one of the command itself; its loader opens files as well."""
        return self.name != "openat" or "O_TMPFILE" in self.line or "O_CREAT" in self.line


def traced(template: Template, command: Command) -> tuple[list[Call], int]:
    """The changing calls of the thread that makes most of them, and how many others make."""
    store, oracle = template.fresh()
    operation, log = command.operation(), template.folder / "trace"
    operation.begin(oracle)
    only = f"trace={','.join(CHANGING)}"
    before = ["strace", "-f", "-qq", "-o", str(log), "-e", only]
    done = store.run("--json", "-j", 1, *operation.words, before=before)
    if done.code != 0:
        sys.exit(f"{command.name} fails undisturbed: {done.err}")
    threads: dict[str, list[Call]] = {}
    for thread, name, rest in re.findall(r"^(\d+) +(\w+)(\(.*)$", log.read_text(), re.MULTILINE):
        calls = threads.setdefault(thread, [])
        calls.append(Call(name, 1 + sum(call.name == name for call in calls), rest))
    first, *others = sorted(threads.values(), key=len, reverse=True)
    return [call for call in first if call.is_of_store()], sum(map(len, others))


def limited(limit: int) -> Callable[[], None]:
    """Lets a file grow to so many bytes: a write over it is cut short, and the next one fails."""

    def apply() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return apply


def disturb(template: Template, command: Command, case: Case) -> tuple[list[str], bool]:
    """One run; what is wrong, and whether the call was met."""
    store, oracle = template.fresh()
    operation, log = command.operation(), template.folder / "trace"
    operation.begin(oracle)
    words = ["--json", "-j", 1, *operation.words]
    if case.fault == SHORT:
        done = store.run(*words, preexec_fn=limited(case.number), restore_signals=False)
        met = True
    else:
        done = store.run(*words, before=case.before(log))
        met = done.code == KILLED if case.fault == KILL else "(INJECTED)" in log.read_text()
    if case.fault == LOST:
        return ["acknowledges what is not there"] if done.code == 0 else [], met
    wrong = outcome(command, case, done)
    if done.code == 0 and not wrong:
        operation.acknowledged(oracle, done.out)
    wrong += oracles.check(store, oracle, KILLS)
    if not wrong:
        wrong += again(store, oracle, command)
    return wrong, met


def outcome(command: Command, case: Case, done: Done) -> list[str]:
    """What is wrong with how it ended."""
    if done.code == KILLED and case.fault == KILL:
        return []
    if done.code < 0:
        return [f"ends by signal {-done.code}"]
    mute = case.call == "write" and case.fault.endswith("+")
    if not mute and (complaint := unclear(done)):
        return [complaint]
    failed_sync = case.call in SYNCS and case.fault.startswith("EIO") and command.syncs
    return ["passes over a failed sync"] if failed_sync and done.code == 0 else []


def unclear(done: Done) -> str | None:
    """What is wrong with an error as JSON: it must be one line with a sentence in it."""
    if "panicked" in done.err:
        return f"panics: {done.err[:300]}"
    errors = [line for line in done.err.splitlines() if '"type":"error"' in line]
    if done.code != 0 and (len(errors) != 1 or '"message":"' not in errors[0]):
        return f"exits with {done.code} and says {done.err[:300]!r}"
    return None


def again(store: Store, oracle: Oracle, command: Command) -> list[str]:
    """Done once more, it works, or there is nothing left to do; then all is in order."""
    oracle.settle(store)
    before = oracle.copy()
    operation = command.operation()
    try:
        operation.begin(oracle)
    except KeyError:
        # It was done, whatever it said: the checkpoint that it was to remove is gone.
        return oracles.recover(store, before)
    done = store.run("--json", *operation.words)
    if done.code == 0:
        operation.acknowledged(oracle, done.out)
    elif is_done_already(done):
        oracle = before
    else:
        return [f"done again it exits with {done.code}: {done.err.strip()}"]
    return oracles.check(store, oracle, KILLS) + oracles.recover(store, Oracle())


def is_done_already(done: Done) -> bool:
    return any(word in done.err for word in ('"run-exists"', '"kind":"not-found"'))


def cases(calls: list[Call], command: str) -> list[Case]:
    found = [Case(call.name, call.number, fault) for call in calls for fault in FAULTS]
    if command.startswith("save"):
        largest = 2 * len(states.state("main", 9))
        found += [Case("pwrite64", limit, SHORT) for limit in range(0, largest, 997)]
    if command == "save, verified":
        # The first one writes the pack.
        pack = next(call for call in calls if call.name == "pwrite64")
        found.append(Case("pwrite64", pack.number, LOST, int(pack.line.rsplit(" = ", 1)[1])))
    return found


def disturb_all(rig: rigs.Rig, given: argparse.Namespace, folder: Path) -> None:
    template, chance = Template(rig.milepost, folder), random.Random(rig.seed)
    names: Counter[str] = Counter()
    for command in template.commands():
        if given.only and command.name not in given.only:
            continue
        calls, of_others = traced(template, command)
        names.update(call.name for call in calls)
        every = cases(calls, command.name)
        every = [case for case in every if not given.calls or case.call in given.calls]
        chosen = [case for case in every if chance.random() * 100 < given.percent]
        missed = 0
        for case in chosen:
            wrong, met = disturb(template, command, case)
            missed += not met
            rig.count("cases")
            for story in wrong:
                rig.violation("faults", f"{command.name}, {case}: {story}")
        rig.count("calls", len(calls))
        rig.count("cases in which the call was not met", missed)
        rig.count("calls by other threads", of_others)
        shares = f"{len(chosen)} of {len(every)} cases, {missed} not met"
        print(f"{rig.name}: {command.name}: {len(calls)} calls, {shares}", flush=True)
    told = ", ".join(f"{name} {count}" for name, count in sorted(names.items()))
    print(f"{rig.name}: calls: {told}", flush=True)


def main() -> int:
    parser = rigs.arguments(__doc__, "percent", 100, "share of the cases that is tried")
    parser.add_argument("--only", nargs="*", help="names of commands")
    parser.add_argument("--calls", nargs="*", help="names of system calls")
    given = parser.parse_args()
    rig = rigs.Rig("system calls", given)
    if why := rigs.lacking("strace"):
        return rig.skip(why)
    with rigs.in_memory() as folder:
        disturb_all(rig, given, folder)
    return rig.end()


if __name__ == "__main__":
    sys.exit(main())
