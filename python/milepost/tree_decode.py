"""The document of a tree's shape, back to a tree."""

from __future__ import annotations

import collections
import json
from collections.abc import Callable, Iterator
from typing import Any

from milepost import scalars
from milepost.errors import CorruptionError, FormatVersionError
from milepost.names import Path
from milepost.tree import DEPTH_MAX, DICTS, FORMAT, VERSION

#: Makes the object of a tensor's node: its name, framework and raw dtype, and the path it is at.
OfTensor = Callable[[dict[str, Any], Path], Any]
OfBlob = Callable[[str], bytes]

_DICT_OF = {name: kind for kind, name in DICTS.items()}


def parse(document: bytes) -> Any:
    """The root node of a document.

    Raises CorruptionError if it is none, FormatVersionError if it is of a newer version.
    """
    try:
        told = json.loads(document)
        found, version, root = told["format"], told["version"], told["root"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _damaged("the tree's document cannot be read") from None
    if found != FORMAT or not isinstance(version, int):
        raise _damaged("the tree's document is of another format")
    if version > VERSION:
        raise FormatVersionError(
            f"the state tree is of version {version}, this milepost reads up to {VERSION}",
            code="tree-version",
            hint="upgrade milepost",
        )
    return root


class Builder:
    """Builds a tree of a node; tensors and blobs come from the callbacks.

    A tensor that is in the tree several times is made once: what was tied comes back tied.
    """

    def __init__(self, of_tensor: OfTensor, of_blob: OfBlob) -> None:
        self._of_tensor, self._of_blob = of_tensor, of_blob
        self._made: dict[str, Any] = {}

    def build(self, node: Any, path: Path = ()) -> Any:
        """The value of a node."""
        if len(path) > DEPTH_MAX + 1:
            raise _damaged("the tree is nested too deeply")
        if isinstance(node, list):
            return [self.build(n, (*path, i)) for i, n in enumerate(node)]
        if not isinstance(node, dict):
            return node
        try:
            return self._object(node, path)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            if isinstance(error, CorruptionError | FormatVersionError):
                raise
            if type(error).__module__.startswith("milepost"):
                raise
            raise _damaged(f"the tree's document breaks its rules: {error}") from error

    def _object(self, node: dict[str, Any], path: Path) -> Any:
        if len(node) != 1:
            raise _damaged("the tree's document has a node of several kinds")
        scalar = scalars.decode(node)
        if scalar is not NotImplemented:
            return scalar
        [(key, held)] = node.items()
        if key in _DICT_OF:
            return _DICT_OF[key]({self.key(k): self.build(v, p) for k, v, p in pairs(held, path)})
        match key:
            case "tensor":
                return self._tensor(held, path)
            case "blob":
                return self._of_blob(held)
            case "tuple":
                return tuple(self.build(n, (*path, i)) for i, n in enumerate(held))
            case "set" | "frozenset":
                members = (self.key(k) for k in held)
                return set(members) if key == "set" else frozenset(members)
            case "state":
                return self.build(held, path)
            case "torch.Size":
                import torch

                return torch.Size(held)
            case "named":
                kind = collections.namedtuple(held["type"], held["fields"])  # type: ignore[misc]
                fields = zip(held["fields"], held["items"], strict=True)
                return kind(*(self.build(n, (*path, f)) for f, n in fields))
        raise FormatVersionError(
            f"the state tree has a node of the unknown kind {key!r}",
            code="tree-node",
            hint="upgrade milepost",
        )

    def _tensor(self, told: dict[str, Any], path: Path) -> Any:
        same = json.dumps(told, sort_keys=True)
        if same not in self._made:
            self._made[same] = self._of_tensor(told, path)
        return self._made[same]

    def key(self, node: Any) -> Any:
        """The value of a key's node."""
        return self.build(node)


def tensors(node: Any, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The paths of all tensors below a node, and what is told of each, also of those met before."""
    if isinstance(node, list):
        for index, child in enumerate(node):
            yield from tensors(child, (*path, index))
    elif isinstance(node, dict) and len(node) == 1:
        [(key, held)] = node.items()
        if key == "tensor":
            yield path, held
        elif key in _DICT_OF:
            for _, child, at in pairs(held, path):
                yield from tensors(child, at)
        elif key in ("state", "tuple"):
            yield from tensors(held, path)
        elif key == "named":
            for field, child in zip(held["fields"], held["items"], strict=True):
                yield from tensors(child, (*path, field))


def pairs(held: list[Any], path: Path) -> Iterator[tuple[Any, Any, Path]]:
    """The pairs of a mapping's node: a key's node, a value's node, and the value's path."""
    for key, value in held:
        yield key, value, (*path, Builder(_no_tensor, _no_blob).key(key))


def _no_tensor(_told: dict[str, Any], _path: Path) -> Any:
    raise _damaged("a key of the tree is a tensor")


def _no_blob(_name: str) -> bytes:
    raise _damaged("a key of the tree is a blob")


def _damaged(why: str) -> CorruptionError:
    return CorruptionError(why, code="tree")
