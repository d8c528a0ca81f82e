"""Folders of files as state trees: safetensors files by their tensors, others by their bytes.

A file comes back byte for byte.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from milepost import dtypes
from milepost.checkpoint import Checkpoint
from milepost.errors import InvalidInputError

#: The keys of the tree: headers and tensors of safetensors files, and the bytes of others.
_TENSORS, _HEADERS, _FILES = "tensors", "headers", "files"
_LENGTH_BYTES = 8


def read_folder(folder: Path) -> dict[str, Any]:
    """The files below a folder as a state tree.

    Raises InvalidInputError if there are none.
    """
    tree: dict[str, Any] = {_TENSORS: {}, _HEADERS: {}, _FILES: {}}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        taken = read_tensors(path) if path.suffix == ".safetensors" else None
        if taken is None:
            tree[_FILES][name] = path.read_bytes()
        else:
            tree[_HEADERS][name], tree[_TENSORS][name] = taken
    if not tree[_FILES] and not tree[_HEADERS]:
        raise InvalidInputError(f"there are no files in {str(folder)!r}", code="input-folder")
    return tree


def read_tensors(path: Path) -> tuple[bytes, dict[str, Any]] | None:
    """A file's header and its tensors; None if they do not make up the whole file."""
    import numpy as np

    if path.stat().st_size < _LENGTH_BYTES:
        return None
    data = np.memmap(path, dtype=np.uint8, mode="r")
    size = int.from_bytes(bytes(data[:_LENGTH_BYTES]), "little")
    start = _LENGTH_BYTES + size
    try:
        told = json.loads(bytes(data[_LENGTH_BYTES:start]))
        if not isinstance(told, dict):
            return None
        told.pop("__metadata__", None)
        tensors, covered = {}, 0
        for name, entry in sorted(told.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = entry["data_offsets"]
            if begin != covered:
                return None
            covered = end
            raw = data[start + begin : start + end]
            try:
                tensors[name] = raw.view(dtypes.to_numpy(entry["dtype"])).reshape(entry["shape"])
            except TypeError:
                tensors[name] = raw
    except (ValueError, KeyError, TypeError):
        return None
    return (bytes(data[:start]), tensors) if start + covered == len(data) else None


def write_folder(found: Checkpoint, folder: Path) -> None:
    """Writes the files of a checkpoint that `read_folder` made a tree of."""
    tree = found.load(framework="numpy")
    if not isinstance(tree, dict) or set(tree) != {_TENSORS, _HEADERS, _FILES}:
        raise InvalidInputError(
            f"step {found.step} of run {found.run!r} was not saved from a folder", code="folder"
        )
    for name, data in tree[_FILES].items():
        _path(folder, name).write_bytes(data)
    for name, header in tree[_HEADERS].items():
        with _path(folder, name).open("wb") as file:
            file.write(header)
            for tensor in tree[_TENSORS][name].values():
                file.write(tensor.tobytes())


def _path(folder: Path, name: str) -> Path:
    """A path below the folder; a name that leaves it is refused."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InvalidInputError(f"{name!r} is no path below a folder", code="folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
