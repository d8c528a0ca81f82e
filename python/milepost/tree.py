"""A state tree as named arrays, blobs and one JSON document of its shape.

The document's format is described in docs/python.md. Nothing is pickled: what is not one of the
known types is refused with its path.
"""

from __future__ import annotations

import collections
import json
import sys
from dataclasses import dataclass, field
from typing import Any

from milepost import modules, optimizers, scalars, stateful
from milepost.errors import UnsupportedTypeError
from milepost.leaves import Leaf, as_leaf
from milepost.names import Names, Path, shown

#: The blob that holds the document.
BLOB = "milepost.tree"
#: What the document says it is, and the version that this package writes.
FORMAT, VERSION = "milepost-tree", 1
#: Containers in containers; real trees have a dozen.
DEPTH_MAX = 200

#: Mappings that come back as what they were; each is built from pairs.
DICTS: dict[type, str] = {
    dict: "dict",
    collections.OrderedDict: "ordered",
    collections.Counter: "counter",
}


@dataclass
class Encoded:
    """A tree, ready to be saved."""

    leaves: dict[str, Leaf] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    document: bytes = b""
    relations: list[optimizers.Relation] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(leaf.nbytes for leaf in self.leaves.values())


def of_part(index: int) -> str:
    """The blob that holds the document of what one of several processes saved."""
    return f"{BLOB}.{index}"


def encode(tree: Any) -> Encoded:
    """Takes a tree apart. Arrays are borrowed, not copied: see Leaf.

    Raises UnsupportedTypeError, naming the path of a leaf that cannot be stored.
    """
    encoder = _Encoder()
    root = encoder.node(tree, ())
    for optimizer in encoder.optimizers:
        encoder.result.relations.extend(optimizers.relations(optimizer, encoder.name_of))
    alike = modules.relations(encoder.modules, encoder.optimizers, encoder.name_of)
    encoder.result.relations.extend(alike)
    document = {"format": FORMAT, "version": VERSION, "root": root}
    encoder.result.document = json.dumps(document, separators=(",", ":")).encode("ascii")
    return encoder.result


class _Encoder:
    def __init__(self) -> None:
        self.result = Encoded()
        self._names = Names()
        self._seen: dict[object, str] = {}
        self._open: set[int] = set()
        self.optimizers: list[Any] = []
        self.modules: list[Any] = []

    def name_of(self, array: Any) -> str | None:
        """What an array is saved as, if it is."""
        try:
            leaf = as_leaf(array, "")
        except UnsupportedTypeError:
            return None
        return None if leaf is None else self._seen.get(leaf.identity)

    def node(self, value: Any, path: Path) -> Any:
        scalar = self._scalar(value, path)
        if scalar is not NotImplemented:
            return scalar
        leaf = as_leaf(value, shown(path))
        if leaf is not None:
            return self._tensor(leaf, path)
        if id(value) in self._open:
            raise _refused(path, "contains itself", "break the cycle")
        if len(path) > DEPTH_MAX:
            raise _refused(path[:8], "is nested too deeply", "flatten it")
        self._open.add(id(value))
        try:
            return self._container(value, path)
        finally:
            self._open.discard(id(value))

    def _scalar(self, value: Any, path: Path) -> Any:
        if type(value) is bytes and len(value) > scalars.INLINE_BYTES_MAX:
            name = self._names.take(path)
            self.result.blobs[name] = value
            return {"blob": name}
        return scalars.encode(value)

    def _tensor(self, leaf: Leaf, path: Path) -> Any:
        name = self._seen.get(leaf.identity)
        if name is None:
            name = self._names.take(path)
            self._seen[leaf.identity] = name
            # Kept, so that no other array comes to lie where this one lies.
            self.result.leaves[name] = leaf
        told: dict[str, Any] = {"name": name, "as": leaf.kind}
        if leaf.raw is not None:
            told["raw"] = leaf.raw
        return {"tensor": told}

    def _container(self, value: Any, path: Path) -> Any:
        kind = type(value)
        if kind is list:
            return [self.node(v, (*path, i)) for i, v in enumerate(value)]
        if kind is tuple:
            return {"tuple": [self.node(v, (*path, i)) for i, v in enumerate(value)]}
        if kind in DICTS:
            return {DICTS[kind]: self._pairs(value, path)}
        if kind in (set, frozenset):
            return {kind.__name__: self._members(value, path)}
        if isinstance(value, tuple):
            return self._named_tuple(value, path)
        if optimizers.is_optimizer(value):
            self.optimizers.append(value)
        elif modules.is_module(value):
            self.modules.append(value)
        state = stateful.take(value)
        if state is not NotImplemented:
            return {"state": self.node(state, path)}
        raise _refused(path, f"is a {kind.__module__}.{kind.__qualname__}", _hint(value))

    def _pairs(self, value: dict[Any, Any], path: Path) -> list[Any]:
        return [[self._key(k, path), self.node(v, (*path, k))] for k, v in value.items()]

    def _key(self, key: Any, path: Path) -> Any:
        if type(key) is tuple:
            return {"tuple": [self._key(part, path) for part in key]}
        encoded = scalars.encode(key)
        if encoded is NotImplemented:
            kind = type(key)
            raise _refused(
                path,
                f"has the key {key!r}, a {kind.__module__}.{kind.__qualname__}",
                "use keys that are str, int, float, bool, bytes, None, or tuples of them",
            )
        return encoded

    def _members(self, value: Any, path: Path) -> list[Any]:
        # Sets have no order of their own; the same set must give the same bytes.
        members = [self._key(member, path) for member in value]
        return sorted(members, key=lambda member: json.dumps(member, sort_keys=True))

    def _named_tuple(self, value: Any, path: Path) -> Any:
        kind = type(value)
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Size):
            return {"torch.Size": [int(n) for n in value]}
        fields = getattr(kind, "_fields", None)
        if fields is None:
            raise _refused(path, f"is a {kind.__module__}.{kind.__qualname__}", "use a tuple")
        items = [self.node(v, (*path, f)) for f, v in zip(fields, value, strict=True)]
        return {"named": {"type": kind.__name__, "fields": list(fields), "items": items}}


def _refused(path: Path, why: str, hint: str) -> UnsupportedTypeError:
    return UnsupportedTypeError(
        f"{shown(path)} {why}, which cannot be stored", code="leaf", hint=hint, subject=shown(path)
    )


def _hint(value: Any) -> str:
    if isinstance(value, dict):
        return "store `dict(...)` of it"
    if isinstance(value, bool | int | float | str | bytes):
        return "convert it to the plain type first, such as with int() or str()"
    if hasattr(value, "__dataclass_fields__"):
        return "store `dataclasses.asdict(...)` of it"
    return (
        "store its parts as dicts, lists, numbers, strings, bytes or arrays, or give the object "
        "`state_dict()` and `load_state_dict()`"
    )
