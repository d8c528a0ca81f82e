"""What is done to a store: each operation says what it may change when it begins, and what it
has changed when it is acknowledged.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import states
from oracle import KILLS, POWER_CUTS, Entry, Key, Oracle
from store import LOCKED


@dataclass
class Operation:
    """A command, and what it does to what must and may be there."""

    words: list[str]
    begin: Callable[[Oracle], None]
    acknowledge: Callable[[Oracle, dict[str, Any]], None]
    # Exit codes that are no fault: nothing was done, and that was right.
    excused: tuple[int, ...] = ()

    def acknowledged(self, oracle: Oracle, out: bytes) -> None:
        self.acknowledge(oracle, json.loads(out))

    def __str__(self) -> str:
        return " ".join(self.words)


def revision(key: Key) -> str:
    return f"{key[0]}@step:{key[1]}"


def init(chunk: int = 4096) -> Operation:
    def done(oracle: Oracle, _: object) -> None:
        oracle.created = True

    return Operation(["init", "--chunk-size", str(chunk)], lambda _: None, done)


def save(folder: Path, key: Key, durability: str = "durable", tag: str | None = None) -> Operation:
    file = folder / f"{key[0]}-{key[1]}.safetensors"
    promise = KILLS if durability == "relaxed" else POWER_CUTS
    words = ["save", str(file), "--run", key[0], "--step", str(key[1])]
    words += ["--durability", durability, *(["--tag", tag] if tag else [])]

    def begin(oracle: Oracle) -> None:
        file.write_bytes(states.state(*key))
        oracle.entries[key] = Entry(key, key, relaxed=durability == "relaxed")
        if tag:
            oracle.may_tag(tag, key)

    def done(oracle: Oracle, answer: dict[str, Any]) -> None:
        file.unlink(missing_ok=True)
        oracle.entries[key].promise = promise
        if durability == "relaxed":
            oracle.relaxed.add(answer["saved"][0]["id"])
        if tag:
            oracle.tags[tag] = {key}

    return Operation(words, begin, done)


def fork(source: Key, run: str) -> Operation:
    key = (run, source[1])

    def begin(oracle: Oracle) -> None:
        of = oracle.entries[source]
        thin = {"may_be_thin": of.may_be_thin, "must_be_thin": of.must_be_thin}
        oracle.entries[key] = Entry(of.origin, ("fork", of.identity), **thin)

    def done(oracle: Oracle, _: object) -> None:
        oracle.entries[key].promise = POWER_CUTS

    return Operation(["fork", revision(source), run], begin, done)


def tag(key: Key, name: str) -> Operation:
    def done(oracle: Oracle, _: object) -> None:
        oracle.tags[name] = {oracle.entries[key].identity}

    def begin(oracle: Oracle) -> None:
        oracle.may_tag(name, oracle.entries[key].identity)

    return Operation(["tag", revision(key), name], begin, done)


def untag(name: str) -> Operation:
    def done(oracle: Oracle, _: object) -> None:
        oracle.tags.pop(name, None)

    return Operation(["tag", "--delete", name], lambda o: o.may_tag(name, None), done)


def forget(key: Key, collect: bool = True) -> Operation:
    words = ["forget", revision(key), *([] if collect else ["--no-gc"])]
    return Operation(words, lambda o: o.may_go(key), lambda o, _: o.is_gone(key), (LOCKED,))


def keep_last(run: str, count: int, collect: bool = True) -> Operation:
    """A rule; what it takes, the command says."""
    words = ["forget", "--run", run, "--keep-last", str(count), *([] if collect else ["--no-gc"])]
    before: dict[Key, int] = {}

    def begin(oracle: Oracle) -> None:
        for key in sorted(key for key in oracle.entries if key[0] == run)[:-count]:
            before[key] = oracle.entries[key].promise
            oracle.may_go(key)

    def done(oracle: Oracle, answer: dict[str, Any]) -> None:
        for judged in answer["checkpoints"]:
            key = (judged["run"], judged["step"])
            if judged["action"] == "forget":
                oracle.is_gone(key)
            elif key in before:
                oracle.entries[key].promise = before[key]
                for named in oracle.tags.values():
                    if oracle.entries[key].identity in named:
                        named.discard(None)

    return Operation(words, begin, done, (LOCKED,))


def thin(key: Key) -> Operation:
    def begin(oracle: Oracle) -> None:
        oracle.entries[key].may_be_thin = True

    def done(oracle: Oracle, _: object) -> None:
        oracle.entries[key].must_be_thin = True

    words = ["forget", "--drop", states.OPTIMIZER, revision(key)]
    return Operation(words, begin, done, (LOCKED,))


def gc(*more: str) -> Operation:
    # One collector at a time: who comes second is told so.
    return Operation(["gc", *more], lambda _: None, lambda _o, _a: None, (LOCKED,))


def compact(*more: str) -> Operation:
    return Operation(["compact", *more], lambda _: None, lambda _o, _a: None, (LOCKED,))


class Trainer:
    """Chooses what a training does next. It alone touches its runs, so that what it has been
    promised does not depend on what others do at the same time."""

    MOST = 6

    def __init__(
        self, name: str, folder: Path, generator: random.Random, relaxed: bool = True
    ) -> None:
        self.name, self.folder, self.random = name, folder, generator
        self.relaxed = relaxed
        self.forks = [f"{name}-trial-{i}" for i in range(3)]
        self.step = 0

    def own(self, oracle: Oracle) -> list[Key]:
        return sorted(key for key in oracle.entries if key[0] in [self.name, *self.forks])

    def next(self, oracle: Oracle) -> Operation:
        own = self.own(oracle)
        if len(own) < 2:
            return self.a_save(own, "durable")
        some = self.random.choice(own)
        if len(own) >= self.MOST:
            return self.random.choice([self.a_rule(own), forget(some, self.random.random() < 0.7)])
        chance = self.random.random()
        free = [run for run in self.forks if not any(key[0] == run for key in own)]
        for share, operation in [
            (0.28, lambda: self.a_save(own, "durable")),
            (0.14, lambda: self.a_save(own, "relaxed" if self.relaxed else "durable")),
            (0.08, lambda: self.a_save(own, "verified")),
            (0.10, lambda: fork(some, free[0]) if free else self.a_save(own, "durable")),
            (0.10, lambda: tag(some, self.a_tag())),
            (0.04, lambda: self.an_untag(oracle)),
            (0.06, lambda: forget(some, self.random.random() < 0.7)),
            (0.06, lambda: thin(some)),
            (0.04, lambda: self.a_rule(own)),
        ]:
            chance -= share
            if chance < 0:
                return operation()
        if self.random.random() < 0.5:
            return compact(*self.random.choice([[], ["--idle-min", "0"], ["--reencode"]]))
        return gc(*self.random.choice([[], ["--keep-trash"]]))

    def a_tag(self) -> str:
        return f"{self.name}-{self.random.choice(['best', 'last'])}"

    def a_save(self, own: list[Key], durability: str) -> Operation:
        self.step += 1
        tagged = self.a_tag() if self.random.random() < 0.2 else None
        run = self.random.choice([self.name, self.name, *(key[0] for key in own)])
        return save(self.folder, (run, self.step), durability, tagged)

    def an_untag(self, oracle: Oracle) -> Operation:
        own = [tag for tag in oracle.tags if tag.startswith(f"{self.name}-")]
        return untag(self.random.choice(own)) if own else gc()

    def a_rule(self, own: list[Key]) -> Operation:
        run = self.random.choice(own)[0]
        return keep_last(run, self.random.randint(1, 3), self.random.random() < 0.7)
