"""Storage for torch.distributed.checkpoint: every rank saves its part, one commit makes it whole.

    dcp.save(state, storage_writer=milepost.dcp.Writer(store, step))
    dcp.load(state, storage_reader=milepost.dcp.Reader(store))

Each rank's shards are a checkpoint of a run of their own, `RUN.part0` and so on. When all of them
are durable, the coordinator saves a checkpoint of the run itself, which names them by id: that
one save is what commits. Nothing that was not committed is ever loaded. Nothing is pickled in
the store: values that are no tensors are stored as state trees.
"""

from __future__ import annotations

import io
import logging
import os
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

from milepost import dcp_document, leaves
from milepost.checkpoint import Checkpoint
from milepost.dcp_document import Part
from milepost.errors import CorruptionError, InvalidInputError, NotFoundError, UnsupportedTypeError
from milepost.store import Store
from milepost.upkeep import Keep

_log = logging.getLogger("milepost")

CheckpointId = str | os.PathLike[str]


def part_run(run: str, rank: int) -> str:
    """The run that holds the parts of a rank."""
    return f"{run}.part{rank}"


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
        self._rank = 0

    def reset(self, checkpoint_id: CheckpointId | None = None) -> None:
        """Begins a save; the step says which, so an id is not needed and passed over."""
        del checkpoint_id

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Learns which rank this is.

        Raises InvalidInputError if the save is to do without collectives.
        """
        del is_coordinator, args
        self._rank = int(kwargs.get("rank") or 0)
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
        """As they are."""
        return plans

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
        run = part_run(self._run, self._rank)
        report = self._store.save(None, part, run=run, durability=self._durability).result()
        results = [
            WriteResult(
                index=item.index,
                size_in_bytes=_size(part[key]),
                storage_data=Part(report.id, key),
            )
            for item, key in zip(plan.items, keys, strict=True)
        ]
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Commits: from now on there is this checkpoint, with all of its parts."""
        stored = {one.index: one.storage_data for of_rank in results for one in of_rank}
        metadata.storage_data = stored
        metadata.storage_meta = self.storage_meta()
        self._store.save(
            self._step,
            dcp_document.encode(metadata),
            run=self._run,
            tags=self._tags,
            metrics=self._metrics,
            metadata=self._metadata,
            durability=self._durability,
            keep=self._keep,
        )
        if self._keep is not None:
            prune(self._store, self._run)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: CheckpointId) -> bool:
        """Any will do."""
        del checkpoint_id
        return True

    def storage_meta(self) -> StorageMeta:
        """Which store and step it is."""
        return StorageMeta(checkpoint_id=f"{self._store.path}@{self._run}@step:{self._step}")


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

    `revision` is as for Store[...]; None is the newest of the run that is whole. Of a revision
    that lacks a part, nothing is loaded.
    """

    def __init__(
        self, store: Store, revision: int | str | None = None, *, run: str | None = None
    ) -> None:
        self._store, self._revision = store, revision
        self._run = store.run if run is None else run
        self._load_id: str | None = None
        self._parts: dict[str, Checkpoint] = {}
        self._stored: dict[MetadataIndex, Part] = {}

    def reset(self, checkpoint_id: CheckpointId | None = None) -> None:
        """Begins a load."""
        del checkpoint_id
        self._parts = {}

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What is stored where; every part is there when this returns.

        Raises NotFoundError if there is no such checkpoint, CorruptionError if it lacks a part.
        """
        del args, kwargs
        found, metadata = self._newest() if self._revision is None else self._named()
        self._load_id = found.id
        metadata.storage_meta = StorageMeta(checkpoint_id=found.id, load_id=found.id)
        return metadata

    def _named(self) -> tuple[Checkpoint, Metadata]:
        assert self._revision is not None
        found = self._store[self._revision]
        return found, self._whole(found)

    def _newest(self) -> tuple[Checkpoint, Metadata]:
        for summary in reversed(self._store.log(self._run)):
            found = self._store[summary.id]
            try:
                return found, self._whole(found)
            except CorruptionError as error:
                _log.warning("step %d is passed over: %s", summary.step, error)
        raise NotFoundError(f"run {self._run!r} has no checkpoint that is whole", code="whole")

    def _whole(self, found: Checkpoint) -> Metadata:
        metadata = dcp_document.decode(found)
        for part in {stored.id for stored in metadata.storage_data.values()}:
            try:
                self._part(part)
            except NotFoundError:
                raise CorruptionError(
                    f"step {found.step} of run {found.run!r} lacks its part {part[:8]}",
                    code="part-missing",
                    hint="load an earlier step",
                ) from None
        return metadata

    def _part(self, id_: str) -> Checkpoint:
        if id_ not in self._parts:
            self._parts[id_] = self._store[id_]
        return self._parts[id_]

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Learns what is stored where."""
        del is_coordinator, args, kwargs
        self._stored = metadata.storage_data

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """As they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Reads what the plan asks for: whole shards straight into their tensors."""
        direct: dict[str, dict[str, Any]] = {}
        copies: list[tuple[ReadItem, Part]] = []
        commits: list[tuple[ReadItem, torch.Tensor]] = []
        for item in plan.items:
            stored = self._stored[item.storage_index]
            if item.type is LoadItemType.BYTE_IO:
                planner.load_bytes(item, self._bytes(stored))
                continue
            target = planner.resolve_tensor(item).detach()
            name = self._name(stored)
            wanted = direct.setdefault(stored.id, {})
            if name not in wanted and self._fits(target, item, stored):
                wanted[name] = leaves.torch_bytes(target)
                commits.append((item, target))
            else:
                copies.append((item, stored))
        for id_, wanted in direct.items():
            self._part(id_).native.read(wanted)
        for item, target in commits:
            planner.commit_tensor(item, target)
        for item, stored in copies:
            self._copy(item, stored, planner)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _name(self, stored: Part) -> str:
        told = self._part(stored.id).node(stored.key)
        return str(told["tensor"]["name"])

    def _fits(self, target: torch.Tensor, item: ReadItem, stored: Part) -> bool:
        lazy = self._part(stored.id)[self._name(stored)]
        return (
            tuple(item.lengths) == lazy.shape == tuple(target.shape)
            and target.device.type == "cpu"
            and target.is_contiguous()
            and leaves.torch_dtype_name(target) == lazy.dtype
        )

    def _copy(self, item: ReadItem, stored: Part, planner: LoadPlanner) -> None:
        lazy = self._part(stored.id)[self._name(stored)]
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

    def _bytes(self, stored: Part) -> io.BytesIO:
        """A value as the planner wants it; what is in the store is never unpickled."""
        part = self._part(stored.id)
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


def prune(store: Store, run: str | None = None) -> int:
    """Forgets parts that no checkpoint of the run needs, and returns how many these were.

    They are left by saves that were cut short, and by checkpoints that were forgotten. Call it
    from one rank, and not while another save of the run is under way.
    """
    run = store.run if run is None else run
    needed: set[str] = set()
    for summary in store.log(run) if run in store.runs else ():
        metadata = dcp_document.decode(store[summary.id])
        needed.update(part.id for part in metadata.storage_data.values())
    idle = [
        f"{part}@step:{summary.step}"
        for part in store.runs
        if part.startswith(f"{run}.part")
        for summary in store.log(part)
        if summary.id not in needed
    ]
    if idle:
        store.forget(*idle)
    return len(idle)


__all__ = ["Reader", "Writer", "part_run", "prune"]
