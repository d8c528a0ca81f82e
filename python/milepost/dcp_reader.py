"""A StorageReader of torch.distributed.checkpoint, for any number of ranks."""

from __future__ import annotations

import io
import os
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, StorageMeta
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from milepost import dcp_document, leaves, tree
from milepost.checkpoint import Checkpoint
from milepost.dcp_document import Stored
from milepost.errors import InvalidInputError
from milepost.store import Store

CheckpointId = str | os.PathLike[str]


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
