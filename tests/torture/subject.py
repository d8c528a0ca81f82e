"""The milepost command on one store, and what must and may be found there."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import threading
from pathlib import Path

import training
from training import Key

TIMEOUT_S = 120
LOCKED = 11
NOT_FOUND = 12
NO_SPACE = 15


class Violation(Exception):
    """What was promised does not hold."""


@dataclasses.dataclass
class Subject:
    """A store, used by one process for each thing done to it."""

    command: Path
    store: Path
    scratch: Path

    def argv(self, *args: str) -> list[str]:
        return [str(self.command), "-s", str(self.store), "--progress", "none", *args]

    def run(self, *args: str, under: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Runs a command; a hang is a violation."""
        try:
            return subprocess.run([*under, *self.argv(*args)], capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as hang:
            raise Violation(f"{args} hangs") from hang

    def must(self, *args: str) -> str:
        done = self.run(*args)
        if done.returncode != 0:
            raise Violation(f"{' '.join(args)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def input(self, key: Key) -> str:
        """A file to save."""
        path = self.scratch / f"{key[0]}-step-{key[1]}.safetensors"
        path.write_bytes(training.state(key))
        return str(path)

    def save_args(self, key: Key, *flags: str) -> list[str]:
        return ["save", self.input(key), "--run", key[0], "--step", str(key[1]), *flags]

    def listed(self) -> list[dict]:
        return json.loads(self.must("log", "--json"))["checkpoints"]

    def restored(self, revision: str) -> bytes:
        out = self.scratch / "restored"
        out.unlink(missing_ok=True)
        self.must("restore", revision, "-o", str(out))
        return out.read_bytes()


@dataclasses.dataclass
class Promise:
    """What a store must hold and may hold at a moment; forks hold what they were made of."""

    must: dict[Key, str]  # with the id that was told: a hash of everything that it holds
    may: frozenset[Key]
    content: dict[Key, Key]

    def check(self, subject: Subject, sample: int = 3) -> int:
        """Holds the store against it; returns how many checkpoints were there. What was told to
        be saved is compared by its id, and byte by byte where it is of the sample; together
        with a verification of all data, an id says as much as the bytes."""
        listed = {(c["run"], c["step"]): c["id"] for c in subject.listed()}
        found = set(listed)
        if other := {k for k, id in self.must.items() if listed.get(k, id) != id}:
            raise Violation(f"another checkpoint in place of: {sorted(other)}")
        if lost := set(self.must) - found:
            raise Violation(f"lost: {sorted(lost)}")
        if strange := found - self.may:
            raise Violation(f"never saved, or dropped before: {sorted(strange)}")
        unsure = found - set(self.must)
        told = sorted(found & set(self.must))
        for key in sorted(unsure) + random.sample(told, min(sample, len(told))):
            back = subject.restored(f"{key[0]}@step:{key[1]}")
            if back != training.state(self.content.get(key, key)):
                raise Violation(f"{key} comes back wrong")
        return len(found)


class Ledger:
    """What was begun and what was acknowledged, by several threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.acknowledged: dict[Key, str] = {}
        self.begun: set[Key] = set()
        self.content: dict[Key, Key] = {}

    def begin(self, key: Key, content: Key | None = None) -> None:
        with self.lock:
            self.begun.add(key)
            if content:
                self.content[key] = self.content.get(content, content)

    def acknowledge(self, key: Key, id: str) -> None:
        with self.lock:
            self.acknowledged[key] = id

    def let_go(self, keys: set[Key]) -> None:
        """They are about to be dropped: promised no more."""
        with self.lock:
            for key in keys:
                self.acknowledged.pop(key, None)

    def gone(self, keys: set[Key]) -> None:
        """Dropped for good."""
        with self.lock:
            self.begun -= keys

    def steps(self, run: str) -> list[Key]:
        with self.lock:
            return sorted((k for k in self.acknowledged if k[0] == run), key=lambda k: k[1])

    def certain_to_stay(self, run: str, keep_last: int) -> set[Key]:
        """What keeping the last so many keeps for sure: what was begun may be there and count."""
        with self.lock:
            begun = sorted((k for k in self.begun if k[0] == run), key=lambda k: k[1])
            acknowledged = sorted((k for k in self.acknowledged if k[0] == run), key=lambda k: k[1])
        # The newest durable one stays in any case.
        return set(begun[-keep_last:]) & set(acknowledged) | set(acknowledged[-1:])

    def promise(self) -> Promise:
        with self.lock:
            return Promise(dict(self.acknowledged), frozenset(self.begun), dict(self.content))


def leftovers(store: Path) -> list[str]:
    """Files that no process uses and that a collection should have cleared away."""
    txn = [p.name for p in (store / "txn").iterdir() if not p.name.endswith(".lock")]
    return txn + [p.name for p in (store / "trash").iterdir()]
