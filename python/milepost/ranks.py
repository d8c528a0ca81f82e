"""Saves that all processes of a training make together: each a part, committed all or none.

Processes meet through torch.distributed where it is in use; else the one that there is stands
alone. What fails in one of them fails in all, so that none waits for another in vain.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from milepost import _engine, tree
from milepost.errors import Error, LockedError, StorageError
from milepost.store import Store
from milepost.upkeep import Keep, keep_only

_log = logging.getLogger("milepost")

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, as this one, the `index`-th of `count`, sees them."""

    index: int
    count: int

    @classmethod
    def here(cls) -> Ranks:
        """Those of torch.distributed's default group, or this process alone."""
        torch = sys.modules.get("torch")
        found = None if torch is None else torch.distributed
        if found is None or not found.is_available() or not found.is_initialized():
            return cls(0, 1)
        return cls(found.get_rank(), found.get_world_size())

    def all(self, work: Callable[[], T]) -> list[T]:
        """What every process made of its work.

        Raises its own failure, or StorageError if another failed.
        """
        value, failure = _tried(work)
        told: list[Any] = [(value, _named(failure))]
        if self.count > 1:
            import torch

            told = [None] * self.count
            torch.distributed.all_gather_object(told, (value, _named(failure)))
        return _agreed(told, failure)

    def first(self, work: Callable[[], T]) -> T:
        """What the first process made of its work; the others only wait for it.

        Raises its failure there, and StorageError in the others.
        """
        value, failure = _tried(work) if self.index == 0 else (None, None)
        told = [(value, _named(failure))]
        if self.count > 1:
            import torch

            torch.distributed.broadcast_object_list(told)
        made: T = _agreed(told, failure)[0]
        return made


def _tried(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


def _named(failure: Exception | None) -> str | None:
    return None if failure is None else f"{type(failure).__name__}: {failure}"


def _agreed(told: list[Any], failure: Exception | None) -> list[Any]:
    if failure is not None:
        raise failure
    for index, (_, why) in enumerate(told):
        if why is not None:
            raise StorageError(f"process {index} could not save: {why}", code="process")
    return [value for value, _ in told]


def save_together(
    ranks: Ranks,
    store: Store,
    step: int,
    own: Callable[[], Any],
    shared: Callable[[], Any],
    *,
    run: str,
    durability: str = "durable",
    keep: Keep | None = None,
    **options: Any,
) -> str:
    """Saves what every process holds of its own, and what the first says for all.

    `own` and `shared` make the state trees; `options` are those of Store.save and are the first
    process's. What `keep` let go after the last save is collected first, and room is made if the
    store's quota or its disk may not hold all: while processes hold their parts, nothing can be.

    Returns the checkpoint's id, in every process. Raises what Store.save raises, in every process.
    """
    document = tree.of_part(ranks.index)
    encoded = None

    def encode() -> int:
        nonlocal encoded
        encoded = tree.encode(own())
        return encoded.nbytes

    needed = sum(ranks.all(encode))

    def make_room() -> None:
        if keep is not None:
            with contextlib.suppress(LockedError):
                store.gc(wait=False)
        store.make_room(needed)

    ranks.first(make_room)
    part: _engine.NativePart | None = None

    def save_part() -> bytes:
        nonlocal part
        assert encoded is not None
        request = store.request(encoded, run, step=step, durability=durability, document=document)
        part = store.save_part(encoded, request, ranks.index, ranks.count)
        return part.told()

    try:
        parts = ranks.all(save_part)

        def commit() -> str:
            given = {**options, "durability": durability, "wait": True}
            report = store.save(step, shared(), run=run, parts=parts, **given).result()
            if keep is not None:
                try:
                    keep_only(store.native, report, keep)
                except Error as error:
                    # It is saved all the same; the next save forgets what this one could not.
                    _log.error("step %s is saved; forgetting older ones failed: %s", step, error)
            return report.id

        return ranks.first(commit)
    finally:
        if part is not None:
            part.close()
