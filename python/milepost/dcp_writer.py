"""A StorageWriter of torch.distributed.checkpoint: every rank saves a part, one commits them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from milepost import _engine, dcp_document, tree
from milepost.dcp_document import Stored
from milepost.errors import InvalidInputError, LockedError, UnsupportedTypeError
from milepost.store import Store
from milepost.upkeep import Keep

CheckpointId = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class _Share:
    """Which part a rank saves, of how many; planned by the coordinator."""

    index: int
    count: int


class _Results(list[WriteResult]):
    """What a rank wrote, and what the coordinator needs to commit it.

    The part itself lives as long as torch holds these results in the rank: until every rank was
    told that the commit is done. Other ranks get all but the part.
    """

    told: bytes
    _part: _engine.NativePart | None = None

    @classmethod
    def of(cls, results: list[WriteResult], part: _engine.NativePart) -> _Results:
        """The results of a rank, with its part."""
        made = cls(results)
        made.told, made._part = part.told(), part
        return made

    def close(self) -> None:
        """Lets the part go, also where an exception still holds these results."""
        if self._part is not None:
            self._part.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _sent, (list(self), self.told)


def _sent(results: list[WriteResult], told: bytes) -> _Results:
    made = _Results(results)
    made.told = told
    return made


class Writer(StorageWriter):
    """Saves a state that is sharded over ranks as the checkpoint of a step.

    Every rank passes a store that it opened itself. `tags`, `metrics`, `metadata` and `keep` are
    as for Store.save and are the coordinator's. Saving without collectives is refused: nobody
    could know then whether all parts are there.
    """

    def __init__(
        self,
        store: Store,
        step: int,
        *,
        run: str | None = None,
        tags: Sequence[str] = (),
        metrics: Mapping[str, float] | None = None,
        metadata: Mapping[str, str] | None = None,
        durability: str = "durable",
        keep: Keep | None = None,
    ) -> None:
        self._store, self._step = store, step
        self._run = store.run if run is None else run
        self._tags, self._metrics, self._metadata = tags, metrics, metadata
        self._durability, self._keep = durability, keep
        self._kept: weakref.ref[_Results] | None = None

    def reset(self, checkpoint_id: CheckpointId | None = None) -> None:
        """Begins a save; the step says which, so an id is not needed and passed over."""
        del checkpoint_id
        self._let_go()

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Begins a save.

        Raises InvalidInputError if the save is to do without collectives.
        """
        del is_coordinator, args
        if not kwargs.get("use_collectives", True):
            raise InvalidInputError(
                "a save without collectives cannot be all or nothing",
                code="collectives",
                hint="save with use_collectives=True",
            )

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """As they are, and each rank is told which part it saves.

        If the store's quota or its disk may not hold them all, what the store's keep rules do not
        keep is let go first. What `keep` let go after the last save is collected now: while ranks
        hold their parts, nothing can be.
        """
        if self._keep is not None:
            with contextlib.suppress(LockedError):
                self._store.gc(wait=False)
        self._store.make_room(sum(_planned(item) for plan in plans for item in plan.items))
        shares = [_Share(index, len(plans)) for index in range(len(plans))]
        return [
            dataclasses.replace(plan, storage_data=share)
            for plan, share in zip(plans, shares, strict=True)
        ]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Saves this rank's part; it is durable when this returns.

        Raises what Store.save raises: torch tells every rank then, and nothing is committed.
        """
        part: dict[str, Any] = {}
        keys: list[str] = []
        for item in plan.items:
            key = _key(item)
            while key in part:
                key += "'"
            part[key] = _data(item, planner)
            keys.append(key)
        share = plan.storage_data
        assert isinstance(share, _Share)
        encoded = tree.encode(part)
        request = self._store.request(
            encoded,
            self._run,
            step=self._step,
            durability=self._durability,
            document=tree.of_part(share.index),
        )
        saved = self._store.save_part(encoded, request, share.index, share.count)
        results = [
            WriteResult(
                index=item.index,
                size_in_bytes=_size(part[key]),
                storage_data=Stored(share.index, key),
            )
            for item, key in zip(plan.items, keys, strict=True)
        ]
        kept = _Results.of(results, saved)
        self._kept = weakref.ref(kept)
        done: Future[list[WriteResult]] = Future()
        done.set_result(kept)
        return done

    def _let_go(self) -> None:
        kept = None if self._kept is None else self._kept()
        if kept is not None:
            kept.close()

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Commits: from now on there is this checkpoint, with all of its parts."""
        stored = {one.index: one.storage_data for of_rank in results for one in of_rank}
        metadata.storage_data = stored
        metadata.storage_meta = self.storage_meta()
        parts = [of_rank.told for of_rank in results if isinstance(of_rank, _Results)]
        try:
            self._commit(metadata, parts)
        finally:
            self._let_go()

    def _commit(self, metadata: Metadata, parts: list[bytes]) -> None:
        self._store.save(
            self._step,
            dcp_document.encode(metadata),
            run=self._run,
            tags=self._tags,
            metrics=self._metrics,
            metadata=self._metadata,
            durability=self._durability,
            keep=self._keep,
            parts=parts,
        )

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: CheckpointId) -> bool:
        """Any will do."""
        del checkpoint_id
        return True

    def storage_meta(self) -> StorageMeta:
        """Which store and step it is."""
        return StorageMeta(checkpoint_id=f"{self._store.path}@{self._run}@step:{self._step}")


def _planned(item: WriteItem) -> int:
    """Bytes that saving an item takes at most, as far as the plan tells."""
    if item.tensor_data is None:
        return 0
    return item.tensor_data.chunk.sizes.numel() * item.tensor_data.properties.dtype.itemsize


def _key(item: WriteItem) -> str:
    offset = item.index.offset
    if item.type is WriteItemType.BYTE_IO or not offset or not any(offset):
        return item.index.fqn
    return f"{item.index.fqn}@{','.join(str(n) for n in offset)}"


def _data(item: WriteItem, planner: SavePlanner) -> Any:
    if item.type is not WriteItemType.BYTE_IO:
        data = planner.resolve_data(item)
        assert isinstance(data, torch.Tensor)
        return data
    look_up = getattr(planner, "lookup_object", None)
    if look_up is None:
        raise UnsupportedTypeError(
            f"the planner hands over {item.index.fqn!r} as pickled bytes",
            code="planner",
            hint="use a planner that has lookup_object, as torch's own have",
        )
    return look_up(item.index)


def _size(data: Any) -> int:
    if isinstance(data, torch.Tensor):
        return data.numel() * data.element_size()
    return len(dcp_document.encode_value(data))
