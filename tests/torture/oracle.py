"""What a store must hold and what it may hold, kept outside of it, and the check of one by the
other.

An operation changes what may be there when it begins and what must be there when it is
acknowledged, so what is said here holds at every moment between.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import states
from store import DAMAGED, Refused, Store

# Run and step; also the key of the state that a checkpoint holds.
Key = tuple[str, int]

# What a tag names: a state that was saved, or a fork of what another identity stands for.
Identity = tuple[object, ...]

# What a checkpoint has been promised to survive.
NOTHING, KILLS, POWER_CUTS = 0, 1, 2


@dataclass
class Entry:
    """A checkpoint that may be in the store."""

    origin: Key
    # The same for checkpoints that have the same id: forks of one checkpoint.
    identity: Identity
    promise: int = NOTHING
    relaxed: bool = False
    may_be_thin: bool = False
    must_be_thin: bool = False


@dataclass
class Oracle:
    """Every checkpoint and tag that may be in a store."""

    created: bool = False
    entries: dict[Key, Entry] = field(default_factory=dict)
    # For each tag what it may name; None: it may be missing.
    tags: dict[str, set[Identity | None]] = field(default_factory=dict)
    # Ids of relaxed checkpoints: a power cut may leave their files in part.
    relaxed: set[str] = field(default_factory=set)

    def copy(self) -> Oracle:
        return copy.deepcopy(self)

    def may_tag(self, tag: str, identity: Identity | None) -> None:
        self.tags.setdefault(tag, {None}).add(identity)

    def holds(self, identity: Identity | None, promise: int) -> bool:
        entries = self.entries.values()
        return any(e.identity == identity and e.promise >= promise for e in entries)

    def may_go(self, key: Key) -> None:
        entry = self.entries[key]
        entry.promise = NOTHING
        for named in self.tags.values():
            if entry.identity in named and not self.holds(entry.identity, KILLS):
                named.add(None)

    def is_gone(self, key: Key) -> None:
        identity = self.entries.pop(key).identity
        if self.holds(identity, NOTHING):
            return
        for tag in list(self.tags):
            self.tags[tag].discard(identity)
            if self.tags[tag] <= {None}:
                del self.tags[tag]

    def may_have_remains(self) -> bool:
        """Whether a relaxed save was begun: a power cut may leave it in part."""
        return bool(self.relaxed) or any(entry.relaxed for entry in self.entries.values())

    def excuses(self, run: str, id: str) -> bool:
        """Whether this is a relaxed save: what is left of one behind a power cut is no fault."""
        begun = (e.relaxed and e.promise == NOTHING for k, e in self.entries.items() if k[0] == run)
        return id in self.relaxed or any(begun)

    def settle(self, store: Store, of: str = "") -> None:
        """What is seen now of one trainer, or of all, is no longer a matter of luck. Nobody else
        may be at work on it."""
        listed, _ = listing(store)
        named = tags(store, self, listed)
        for key in [key for key in self.entries if key[0].startswith(of)]:
            entry, seen = self.entries[key], listed.get(key)
            if seen is None:
                self.is_gone(key)
            else:
                entry.promise = max(entry.promise, KILLS)
                entry.may_be_thin = entry.must_be_thin = seen.thin
        for tag in {tag for tag in {*self.tags, *named} if tag.startswith(of)}:
            self.tags.pop(tag, None)
            if named.get(tag) is not None:
                self.tags[tag] = {named[tag]}


@dataclass
class Seen:
    """A checkpoint that the store lists."""

    id: str
    thin: bool


def listing(store: Store) -> tuple[dict[Key, Seen], list[dict[str, Any]]]:
    """What the store lists, and what it says is damaged."""
    log = store.ask("log")
    listed = {
        (entry["run"], entry["step"]): Seen(entry["id"], entry["dropped_tensors"] > 0)
        for entry in log["checkpoints"]
    }
    return listed, log["damaged"]


def tags(store: Store, oracle: Oracle, listed: dict[Key, Seen]) -> dict[str, Identity | None]:
    """What each tag names; None if that is not in the store."""
    known = {s.id: oracle.entries[k].identity for k, s in listed.items() if k in oracle.entries}
    return {tag["name"]: known.get(tag["id"]) for tag in store.ask("tag")["tags"]}


def check(store: Store, oracle: Oracle, promise: int) -> list[str]:
    """Everything that the store does not hold, or holds and must not, or gives back wrong."""
    try:
        return list(violations(store, oracle, promise))
    except Refused as refused:
        return [str(refused)]


def violations(store: Store, oracle: Oracle, promise: int) -> Iterator[str]:
    listed, damaged = listing(store)
    for key, entry in oracle.entries.items():
        if entry.promise >= promise and key not in listed:
            yield f"lost: {key}"
    for key, seen in listed.items():
        if key not in oracle.entries:
            yield f"there, but forgotten or never saved: {key}"
        else:
            yield from wrong_bytes(store, key, oracle.entries[key], seen, promise)
    yield from wrong_tags(store, oracle, listed, promise)
    for place in damaged:
        if promise < POWER_CUTS or not oracle.excuses(place["run"], place["id"]):
            yield f"damaged: {place}"
    yield from wrong_in_verify(store, oracle if promise == POWER_CUTS else Oracle())


def wrong_bytes(
    store: Store, key: Key, entry: Entry, seen: Seen, promise: int
) -> Iterator[str]:
    if seen.thin and not entry.may_be_thin:
        yield f"thinned, but nobody asked for it: {key}"
    if not seen.thin and entry.must_be_thin:
        yield f"not thinned any more: {key}"
    only = ["--kept"] if seen.thin else []
    store.compared += 1
    done = store.run("-q", "-j", 1, "restore", f"{key[0]}@step:{key[1]}", "-o", "-", *only)
    if done.code != 0:
        kept = "lost" if entry.promise >= promise else "listed"
        yield f"{kept}, does not restore: {key}: {done.err.strip()}"
    elif seen.thin and (other := states.differs(done.out, states.thinned(*entry.origin))):
        yield f"wrong tensors: {key}: {other}"
    elif not seen.thin and done.out != states.state(*entry.origin):
        yield f"wrong bytes: {key}"


def wrong_tags(
    store: Store, oracle: Oracle, listed: dict[Key, Seen], promise: int
) -> Iterator[str]:
    named = tags(store, oracle, listed)
    for tag in {*named, *oracle.tags}:
        may = oracle.tags.get(tag, {None})
        # What was not promised to last may be gone, and the tag that names it then leads nowhere.
        weak = any(not oracle.holds(identity, promise) for identity in may)
        if named.get(tag) not in may and not (weak and named.get(tag) is None):
            yield f"tag {tag} names {named.get(tag)}, which should be one of {may}"


def wrong_in_verify(store: Store, oracle: Oracle) -> Iterator[str]:
    done = store.run("--json", "-j", 1, "verify", "--read-data")
    if done.code not in (0, DAMAGED):
        yield f"verify exits with {done.code}: {done.err.strip()}"
        return
    for problem in json.loads(done.out)["problems"]:
        hits = problem["checkpoints"]
        excused = all(oracle.excuses(hit["run"], hit["id"]) for hit in hits)
        # A pack that only a relaxed save needed hits nothing else.
        if not (excused and (oracle.relaxed or hits)):
            yield f"verify: {problem['message']}: hits {[(h['run'], h['step']) for h in hits]}"


def clear(store: Store) -> list[str]:
    """Takes away what relaxed saves left in part, as people are told to; what is wrong then."""
    done = store.run("forget", "--damaged")
    return [f"remains of relaxed saves stay: {done.err.strip()}"] if done.code != 0 else []


def recover(store: Store, oracle: Oracle) -> list[str]:
    """What does not work that must work on any store: one more save, and a collection."""
    file = store.root.parent / f"{store.root.name}-after.safetensors"
    file.write_bytes(states.state("after", 1))
    wrong = []
    for words in [["save", file, "--run", "after", "--step", 1], ["gc"]]:
        done = store.run("-j", 1, *words)
        if done.code != 0:
            wrong.append(f"afterwards {words[0]} exits with {done.code}: {done.err.strip()}")
    file.unlink()
    back = store.run("-q", "restore", "after", "-o", "-")
    if back.out != states.state("after", 1):
        wrong.append(f"what was saved afterwards does not come back: {back.err.strip()}")
    wrong += [f"afterwards {problem}" for problem in wrong_in_verify(store, oracle)]
    wrong += [f"left over after a collection: {name}" for name in store.leftovers()]
    return wrong
