"""Storage for torch.distributed.checkpoint: every rank saves its part, one commit makes it whole.

    dcp.save(state, storage_writer=milepost.dcp.Writer(store, step))
    dcp.load(state, storage_reader=milepost.dcp.Reader(store))

Each rank saves its shards as a part of the step's checkpoint. When all of them are durable, the
coordinator commits them together: before that there is no checkpoint. Nothing is pickled in the
store: values that are no tensors are stored as state trees.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, StorageMeta
from torch.distributed.checkpoint.planner import (
    LoadItemType,
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    SavePlanner,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from milepost import _engine, dcp_document, leaves, tree
from milepost.checkpoint import Checkpoint
from milepost.dcp_document import Stored
from milepost.errors import InvalidInputError, LockedError, UnsupportedTypeError
from milepost.store import Store
from milepost.upkeep import Keep

_log = logging.getLogger("milepost")

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
        self._make_room(sum(_planned(item) for plan in plans for item in plan.items))
        shares = [_Share(index, len(plans)) for index in range(len(plans))]
        return [
            dataclasses.replace(plan, storage_data=share)
            for plan, share in zip(plans, shares, strict=True)
        ]

    def _make_room(self, needed: int) -> None:
        native = self._store.native
        left = native.quota_left()
        free = os.statvfs(self._store.path)
        if min(free.f_bavail * free.f_frsize, needed if left is None else left) < needed:
            _log.info("room is made for %d bytes", needed)
            native.make_room()

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


class Reader(StorageReader):
    """Loads a checkpoint that was saved with Writer, on any number of ranks.

    `revision` is as for Store[...]; None is the newest of the run.
    """

    def __init__(
        self, store: Store, revision: int | str | None = None, *, run: str | None = None
    ) -> None:
        self._store, self._revision = store, revision
        self._run = store.run if run is None else run
        self._found: Checkpoint | None = None
        self._parts: dict[int, Checkpoint] = {}
        self._stored: dict[MetadataIndex, Stored] = {}

    def reset(self, checkpoint_id: CheckpointId | None = None) -> None:
        """Begins a load."""
        del checkpoint_id
        self._found, self._parts = None, {}

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What is stored where.

        Raises NotFoundError if there is no such checkpoint, InvalidInputError if it is no
        distributed one.
        """
        del args, kwargs
        found = self._checkpoint()
        metadata = dcp_document.decode(found)
        metadata.storage_meta = StorageMeta(checkpoint_id=found.id, load_id=found.id)
        return metadata

    def _checkpoint(self) -> Checkpoint:
        if self._found is None:
            newest = f"{self._run}@latest"
            self._found = self._store[newest if self._revision is None else self._revision]
        return self._found

    def _part(self, rank: int) -> Checkpoint:
        if rank not in self._parts:
            self._parts[rank] = self._checkpoint().part(tree.of_part(rank))
        return self._parts[rank]

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Learns what is stored where."""
        del is_coordinator, args, kwargs
        meta = metadata.storage_meta
        if meta is not None and meta.load_id is not None:
            # The very checkpoint that the coordinator read, whatever is newest by now.
            self._found = self._store[meta.load_id]
        self._stored = metadata.storage_data

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """As they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Reads what the plan asks for: whole shards straight into their tensors."""
        direct: dict[str, Any] = {}
        copies: list[tuple[ReadItem, Stored]] = []
        commits: list[tuple[ReadItem, torch.Tensor]] = []
        for item in plan.items:
            stored = self._stored[item.storage_index]
            if item.type is LoadItemType.BYTE_IO:
                planner.load_bytes(item, self._bytes(stored))
                continue
            target = planner.resolve_tensor(item).detach()
            name = self._name(stored)
            if name not in direct and self._fits(target, item, stored):
                direct[name] = leaves.torch_bytes(target)
                commits.append((item, target))
            else:
                copies.append((item, stored))
        if direct:
            self._checkpoint().native.read(direct)
        for item, target in commits:
            planner.commit_tensor(item, target)
        for item, stored in copies:
            self._copy(item, stored, planner)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _name(self, stored: Stored) -> str:
        told = self._part(stored.rank).node(stored.key)
        return str(told["tensor"]["name"])

    def _fits(self, target: torch.Tensor, item: ReadItem, stored: Stored) -> bool:
        lazy = self._part(stored.rank)[self._name(stored)]
        return (
            tuple(item.lengths) == lazy.shape == tuple(target.shape)
            and target.device.type == "cpu"
            and target.is_contiguous()
            and leaves.torch_dtype_name(target) == lazy.dtype
        )

    def _copy(self, item: ReadItem, stored: Stored, planner: LoadPlanner) -> None:
        lazy = self._part(stored.rank)[self._name(stored)]
        offsets = zip(item.storage_offsets, item.lengths, strict=True)
        value = lazy[tuple(slice(at, at + length) for at, length in offsets)].torch()
        target = planner.resolve_tensor(item).detach()
        if target.shape != value.shape:
            raise InvalidInputError(
                f"{item.dest_index.fqn!r} asks for {tuple(target.shape)}, "
                f"{tuple(value.shape)} is stored",
                code="shape",
            )
        target.copy_(value)
        planner.commit_tensor(item, target)

    def _bytes(self, stored: Stored) -> io.BytesIO:
        """A value as the planner wants it; what is in the store is never unpickled."""
        part = self._part(stored.rank)
        value = part.value(stored.key)
        buffer = io.BytesIO()
        torch.save(value, buffer)
        buffer.seek(0)
        return buffer

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: CheckpointId) -> bool:
        """Any will do."""
        del checkpoint_id
        return True


__all__ = ["Reader", "Writer"]
