"""What a trainer does to a store, chosen by chance: saves, forks, deletion, compaction."""

from __future__ import annotations

import dataclasses
import random
import subprocess
from collections.abc import Callable

from subject import LOCKED, NOT_FOUND, Ledger, Subject, Violation

KEEP = 3

# Runs an argument list to its end, or kills it; None if it was killed.
Runner = Callable[[list[str]], "subprocess.CompletedProcess[str] | None"]


@dataclasses.dataclass
class Trainer:
    """One line of work on its own runs; others may be at theirs."""

    subject: Subject
    ledger: Ledger
    name: str
    rng: random.Random
    runner: Runner
    relaxed_lasts: bool  # whether a relaxed save outlives what is tested
    step: int = 0
    forks: int = 0
    done: int = 0

    def act(self) -> None:
        """Does one thing."""
        kind = self.rng.choices(["save", "fork", "forget", "drop", "gc", "compact"], [60, 6, 12, 6, 8, 8])[0]
        getattr(self, kind)()
        self.done += 1

    def attempt(self, *args: str, may_fail: tuple[int, ...] = ()) -> str | None:
        """What it printed if it was acknowledged; nothing if it was killed."""
        done = self.runner(["-q", *args])
        if done is None or done.returncode in may_fail:
            return None
        if done.returncode != 0:
            raise Violation(f"{' '.join(args)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def save(self) -> None:
        # A save that was killed may be tried again.
        self.step += self.rng.random() < 0.8
        key = (self.name, self.step)
        durability = self.rng.choices(["durable", "relaxed", "verified"], [70, 20, 10])[0]
        self.ledger.begin(key)
        saved = self.attempt(*self.subject.save_args(key, "--durability", durability))
        if saved and (self.relaxed_lasts or durability != "relaxed"):
            self.ledger.acknowledge(key, saved)

    def fork(self) -> None:
        steps = self.ledger.steps(self.name)
        if not steps:
            return
        source, run = self.rng.choice(steps), f"{self.name}-fork{self.forks}"
        self.forks += 1
        self.ledger.begin((run, source[1]), source)
        if id := self.attempt("fork", f"{source[0]}@step:{source[1]}", run):
            self.ledger.acknowledge((run, source[1]), id)

    def forget(self) -> None:
        """Old checkpoints of the run; which, the rules of the store say."""
        stay = self.ledger.certain_to_stay(self.name, KEEP)
        self.ledger.let_go(set(self.ledger.steps(self.name)) - stay)
        allowed = (LOCKED,) if stay else (LOCKED, NOT_FOUND)
        self.attempt("forget", "--run", self.name, "--keep-last", str(KEEP), may_fail=allowed)

    def drop(self) -> None:
        """A fork, by name."""
        runs = sorted(k for k in self.ledger.promise().must if k[0].startswith(f"{self.name}-fork"))
        if not runs:
            return
        key = self.rng.choice(runs)
        self.ledger.let_go({key})
        if self.attempt("forget", f"{key[0]}@step:{key[1]}", "--no-gc") is not None:
            self.ledger.gone({key})

    def gc(self) -> None:
        self.attempt("gc", may_fail=(LOCKED,))

    def compact(self) -> None:
        how = self.rng.choice([[], ["--idle-min", "0"], ["--reencode"]])
        self.attempt("compact", *how, may_fail=(LOCKED,))
