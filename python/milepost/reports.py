"""What operations return: plain values. Sizes are in bytes."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

from milepost import _engine


@dataclass(frozen=True)
class SaveReport:
    """What a save did."""

    id: str
    run: str
    seq: int
    step: int
    #: Whether the run held this very checkpoint at this step already; nothing was added then.
    existed: bool
    full: bool
    #: Of its deepest record; 0 for a full checkpoint.
    depth: int
    #: Of its tensors and blobs.
    logical_bytes: int
    #: That the save added to the store.
    added_bytes: int
    #: In raw bytes read.
    restore_cost: int
    chunks: int
    new_chunks: int
    #: The revision that tensors which the parent does not have were coded against.
    like: str | None
    #: Checkpoints that were let go first because there was no room.
    dropped_checkpoints: int

    @classmethod
    def of(cls, view: _engine.SaveView) -> SaveReport:
        """Of what the engine tells."""
        return cls(**view)


@dataclass(frozen=True)
class Summary:
    """What the log shows of a checkpoint."""

    id: str
    parent: str | None
    run: str
    seq: int
    step: int
    #: When it was saved, by the writer's clock.
    time: datetime.datetime
    full: bool
    depth: int
    tensors: int
    #: How many of them were dropped and cannot be loaded any more.
    dropped_tensors: int
    metrics: dict[str, float]
    logical_bytes: int
    added_bytes: int
    restore_cost: int
    durability: str
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, view: _engine.SummaryView, tags: tuple[str, ...] = ()) -> Summary:
        """Of what the engine tells."""
        told: dict[str, Any] = dict(view)
        return cls(time=utc(told.pop("time_ms")), tags=tags, **told)


def utc(time_ms: int) -> datetime.datetime:
    """A time of milliseconds since 1970."""
    return datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC)


@dataclass(frozen=True)
class ForgetReport:
    """What was forgotten, or would be."""

    gone: tuple[Summary, ...]
    #: Those that stay without some of their tensors.
    thinned: tuple[Summary, ...]
    kept: int
    #: Tags that went with their checkpoints.
    tags: tuple[str, ...]
    #: Given back by a collection.
    freed_bytes: int

    @classmethod
    def of(cls, view: _engine.ForgetView) -> ForgetReport:
        """Of what the engine tells."""
        gone = tuple(Summary.of(s) for s in view["gone"])
        thinned = tuple(Summary.of(s) for s in view["thinned"])
        return cls(gone, thinned, view["kept"], tuple(view["tags"]), view["freed_bytes"])


@dataclass(frozen=True)
class Collected:
    """What a collection removed, or would."""

    checkpoints: int
    packs: int
    removed_packs: int
    removed_bytes: int
    #: In packs that stay: only `compact` gives them back.
    idle_bytes: int


@dataclass(frozen=True)
class Compacted:
    """What a compaction rewrote, or would."""

    rewritten_packs: int
    rewritten_bytes: int
    new_packs: int
    new_bytes: int
    removed_bytes: int


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and what it hits."""

    message: str
    code: str
    file: str | None
    #: Ids of the checkpoints that cannot be loaded in full.
    checkpoints: list[str]
    tensors: list[str]


@dataclass(frozen=True)
class Verified:
    """What a verification found. True if nothing is wrong."""

    checkpoints: int
    packs: int
    records: int
    record_bytes: int
    chunks: int
    decoded_chunks: int
    decoded_bytes: int
    problems: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        return not self.problems

    @classmethod
    def of(cls, view: _engine.VerifyView) -> Verified:
        """Of what the engine tells."""
        told: dict[str, Any] = dict(view)
        problems = tuple(Problem(**p) for p in told.pop("problems"))
        return cls(problems=problems, **told)


@dataclass
class LoadReport:
    """What `load_into` did: every path of the checkpoint and of the target is in one list."""

    id: str
    run: str
    step: int
    #: Paths of tensors and values that were loaded.
    loaded: list[str] = field(default_factory=list)
    #: In the target, not in the checkpoint.
    missing: list[str] = field(default_factory=list)
    #: In the checkpoint, not in the target.
    unexpected: list[str] = field(default_factory=list)
    #: In both, but they do not fit: path and why.
    mismatched: list[tuple[str, str]] = field(default_factory=list)
    #: Bytes of tensors that were decoded.
    nbytes: int = 0

    @property
    def strict(self) -> bool:
        """Whether everything fitted."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        lines = [f"step {self.step} of run {self.run}: {len(self.loaded)} loaded"]
        for what, paths in (("missing", self.missing), ("unexpected", self.unexpected)):
            if paths:
                lines.append(f"{len(paths)} {what}: {_first(paths)}")
        if self.mismatched:
            shown = [f"{path} ({why})" for path, why in self.mismatched]
            lines.append(f"{len(shown)} mismatched: {_first(shown)}")
        return "; ".join(lines)


def _first(texts: list[str], most: int = 5) -> str:
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
