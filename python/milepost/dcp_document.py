"""What torch.distributed.checkpoint knows of a checkpoint, as a state tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from milepost import tree
from milepost.checkpoint import Checkpoint
from milepost.errors import FormatVersionError, InvalidInputError, NotFoundError

#: The one key of the tree, and the version of what is behind it.
_KEY, _VERSION = "torch.distributed.checkpoint", 2


@dataclass(frozen=True)
class Stored:
    """Where an item is: the rank that saved it, and the item's key in that rank's tree."""

    rank: int
    key: str


def encode_value(value: Any) -> bytes:
    """The document of a value that is no tensor."""
    return tree.encode(value).document


def encode(metadata: Metadata) -> dict[str, Any]:
    """The metadata of a checkpoint as a state tree.

    Raises UnsupportedTypeError if the planner keeps what cannot be stored.
    """
    items = [
        {
            "fqn": index.fqn,
            "offset": None if index.offset is None else tuple(index.offset),
            "index": index.index,
            "rank": stored.rank,
            "key": stored.key,
        }
        for index, stored in metadata.storage_data.items()
    ]
    entries = {fqn: _entry(entry) for fqn, entry in metadata.state_dict_metadata.items()}
    document = {
        "version": _VERSION,
        "items": items,
        "entries": entries,
        "planner": metadata.planner_data,
    }
    return {_KEY: document}


def _entry(entry: Any) -> Any:
    if isinstance(entry, BytesStorageMetadata):
        return None
    properties = entry.properties
    return {
        "dtype": properties.dtype,
        "requires_grad": properties.requires_grad,
        "strides": properties.strides if properties.strides is None else tuple(properties.strides),
        "size": tuple(entry.size),
        "chunks": [(tuple(chunk.offsets), tuple(chunk.sizes)) for chunk in entry.chunks],
    }


def decode(found: Checkpoint) -> Metadata:
    """The metadata that a checkpoint holds.

    Raises InvalidInputError if it was not saved by milepost.dcp, FormatVersionError if it was by
    a newer version.
    """
    try:
        document = found.value(_KEY)
    except (NotFoundError, ValueError):
        raise InvalidInputError(
            f"step {found.step} of run {found.run!r} is no distributed checkpoint",
            code="dcp",
            hint="load it with Store.load_into",
        ) from None
    if document["version"] != _VERSION:
        raise FormatVersionError("the distributed checkpoint is of another version")
    stored = {
        MetadataIndex(item["fqn"], item["offset"], item["index"]): Stored(item["rank"], item["key"])
        for item in document["items"]
    }
    entries = {fqn: _stored(entry) for fqn, entry in document["entries"].items()}
    return Metadata(entries, planner_data=document["planner"], storage_data=stored)


def _stored(entry: Any) -> Any:
    if entry is None:
        return BytesStorageMetadata()
    properties = TensorProperties(
        dtype=entry["dtype"], requires_grad=entry["requires_grad"], strides=entry["strides"]
    )
    chunks = [
        ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes))
        for offsets, sizes in entry["chunks"]
    ]
    return TensorStorageMetadata(properties, torch.Size(entry["size"]), chunks)
